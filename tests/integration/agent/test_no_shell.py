"""Hostile orders against a real agent under strace: what it executes is what its config names, and never a shell."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from agent_process import AgentProcess, make_order
from scripted_server import ScriptedServer

NEEDED = "strace is needed: install it (apt-get install strace)"
SHELLS = {"sh", "bash", "dash", "ash", "zsh", "ksh", "csh", "tcsh", "fish", "busybox"}
EXECUTED = re.compile(r'execve(?:at)?\((?:[^"]*, )?"([^"]+)", (\[.*?\]), ')
MARK = "/tmp/reco3-was-here"  # noqa: S108 - what must never be made
HOSTILE = [
    "web; touch MARK",
    "web && touch MARK",
    "web | touch MARK",
    "$(touch MARK)",
    "`touch MARK`",
    "web\ntouch MARK",
    "web\x00; touch MARK",
    "../../bin/sh",
    "/bin/sh",
    "sh",
    "-c",
    "--help",
    "{endpoint}",
    "web\u202egnp.hs",
    "w" * 10_000,
    "*",
    "",
]


def _strace() -> str:
    found = shutil.which("strace")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(NEEDED)
        pytest.skip(NEEDED)
    return found


@pytest.fixture
def trace(pc: AgentProcess, tmp_path: Path) -> Path:
    """The agent runs under strace; the file tells every program that it or a child of it executes."""
    path = tmp_path / "trace"
    pc.wrap(_strace(), "-f", "-qq", "-s", "300", "-e", "trace=execve,execveat", "-e", "signal=none", "-o", str(path))
    return path


def executed(trace: Path) -> list[tuple[str, str]]:
    """Program and argv of every execution that succeeded or was tried."""
    found = [EXECUTED.search(line) for line in trace.read_text(encoding="utf-8", errors="replace").splitlines()]
    return [(match[1], match[2]) for match in found if match]


def shells(trace: Path) -> list[str]:
    return [program for program, _ in executed(trace) if Path(program).name in SHELLS]


def orders() -> list[dict[str, Any]]:
    """Every hostile text in every place where a server could put it."""
    texts = [text.replace("MARK", MARK) for text in HOSTILE]
    made = []
    for text in texts:
        made += [
            ("RESTART_PROCESS", {"process": text}),
            ("STOP_PROCESS", {"process": text}),
            ("ROLLBACK", {"process": text}),
            ("ROLLBACK", {"command_id": text}),
            ("SET_RATE_LIMIT", {"endpoint": text, "limit_rps": 5}),
            ("SET_RATE_LIMIT", {"endpoint": "/" + text, "limit_rps": 5}),
            ("SET_RATE_LIMIT", {"endpoint": "/api", "limit_rps": text}),
            ("SET_MODE", {"mode": text}),
            ("NOTIFY_OPS", {"severity": "INFO", "message": text}),
            ("NOTIFY_OPS", {"severity": text, "message": "x"}),
            (text[:40], {"process": "web"}),
            ("RESTART_PROCESS", {"process": "web", text: text}),
        ]
    return [make_order(f"c-{number}", type_, payload) for number, (type_, payload) in enumerate(made)]


def configure(pc: AgentProcess, *, restart: list[str]) -> None:
    """Everything that a command can start is configured, without a shell."""
    true = shutil.which("true")
    echo = shutil.which("echo")
    limits = {
        "driver": "command",
        "command": {"set": [echo, "{endpoint}", "{limit_rps}"], "clear": [echo, "{endpoint}"]},
    }
    program = {
        "name": "web",
        "restart_cmd": restart,
        "stop_cmd": [true, "stop"],
        "rollback": [true, "rollback"],
        "verify": [{"argv": [true, "verify"]}],
        "allow_restart": True,
    }
    pc.configure(
        watch={"processes": [program]},
        control={"rate_limit": limits, "limits": {"cooldown_s": 0, "strong_per_hour": 1000}},
    )


def test_hostile_orders_start_no_shell_and_nothing_that_the_config_does_not_name(
    server: ScriptedServer, pc: AgentProcess, trace: Path
) -> None:
    true, echo = shutil.which("true"), shutil.which("echo")
    configure(pc, restart=[str(true), "$(touch " + MARK + ")", "; touch " + MARK])
    Path(MARK).unlink(missing_ok=True)
    pc.start()
    hostile = orders()

    for begin in range(0, len(hostile), 20):
        server.deliver(*hostile[begin : begin + 20])
    server.deliver(
        make_order("last", "RESTART_PROCESS", {"process": "web"}),
        make_order("limit", "SET_RATE_LIMIT", {"endpoint": "/api", "limit_rps": 5}),
    )
    report = server.wait_for_report("last")
    limit = server.wait_for_report("limit")
    for order in hostile:
        server.wait_for_report(order["id"])
    pc.stop()

    assert report["status"] == "completed", report
    assert limit["status"] == "completed", limit
    assert shells(trace) == []
    programs = {program for program, _ in executed(trace)}
    interpreters = {program for program in programs if "python" in Path(program).name}
    assert programs - interpreters <= {true, echo}
    # What a shell would have taken apart has arrived in one piece.
    assert any(f'"$(touch {MARK})", "; touch {MARK}"' in argv for program, argv in executed(trace) if program == true)
    assert not Path(MARK).exists()


def test_a_shell_would_be_seen(server: ScriptedServer, pc: AgentProcess, trace: Path) -> None:
    configure(pc, restart=["/bin/sh", "-c", "exit 0"])
    pc.start()

    server.deliver(make_order("c-1", "RESTART_PROCESS", {"process": "web"}))
    server.wait_for_report("c-1")
    pc.stop()

    assert shells(trace) == ["/bin/sh"]
