"""The command line against a small server that answers like the operator API."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest

from e2e.page_server import PageServer, command, report, stamp, step
from reco3.console.commands import main

ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PageServer]:
    rows = PageServer()
    rows.start()
    monkeypatch.setenv("RECO3_URL", rows.url)
    monkeypatch.delenv("RECO3_API_KEY", raising=False)
    yield rows
    rows.stop()


def test_list_shows_the_newest_and_asks_for_what_was_filtered(
    server: PageServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.commands = [command("c-2"), command("c-1", status="unknown", agent_id="pc-002")]

    assert main(["list", "--status", "unknown,pending", "--agent", "pc-002"]) == 0

    text = capsys.readouterr().out
    assert "c-1" in text
    assert "we do not know whether it ran" in text
    assert "c-2" not in text
    assert server.requests[-1][1] == "/api/agent-commands?limit=20&agent_id=pc-002&status=unknown%2Cpending"


def test_list_says_that_there_are_more_and_that_there_are_none(
    server: PageServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list"]) == 0
    assert capsys.readouterr().out == "no command has been sent yet\n"

    server.commands = [command(f"c-{number}") for number in range(30)]
    assert main(["list"]) == 0
    assert "(the newest 20; --limit shows more)" in capsys.readouterr().out


def test_show_prints_the_life_and_the_evidence(server: PageServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.commands = [command("c-1", status="unknown")]
    server.timelines = {"c-1": [step("requested", 30), step("approved", 20, "user:bob"), step("unknown", 5)]}
    server.reports = {"c-1": [report("completed", 1, {"output": "done"}, "conflict")]}

    assert main(["show", "c-1"]) == 0

    text = capsys.readouterr().out
    for words in ("approved by bob", "WE DO NOT KNOW WHETHER IT RAN", "CONTRADICTS", "| done", "resolve c-1"):
        assert words in text


def test_create_asks_with_reason_and_expiry_and_says_what_it_waits_for(
    server: PageServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["create", "RESTART_PROCESS", "pc-001", "process=nginx", "--reason", "502", "--expires-in-s", "600"]

    assert main(words) == 0

    command_id = server.commands[0]["id"]
    assert f"reco3 commands approve {command_id}" in capsys.readouterr().out
    assert server.asked("POST", "/api/agent-commands") == [
        {
            "agent_id": "pc-001",
            "type": "RESTART_PROCESS",
            "payload": {"process": "nginx"},
            "reason": "502",
            "expires_in_s": 600,
        }
    ]


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("failed", 4), ("expired", 4), ("cancelled", 4), ("unknown", 5)]
)
def test_approve_and_wait_tells_the_measured_time_and_how_it_ended(
    server: PageServer, capsys: pytest.CaptureFixture[str], status: str, code: int
) -> None:
    server.commands = [command("c-1")]
    end = {"status": status, "finished_at": stamp(-0.84), "result": {"success": status == "completed"}}
    finish = threading.Timer(0.3, lambda: server.commands[0].update(end))
    finish.start()

    ended = main(["approve", "c-1", "--wait"])

    finish.join()
    printed = capsys.readouterr()
    assert ended == code
    assert f"{status} 840 ms after approval" in printed.out
    assert "c-1 is pending" in printed.err
    assert len(server.asked("POST", "/api/agent-commands/c-1/approve")) == 1


def test_cancel_tells_a_certain_end_from_a_request(server: PageServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.commands = [command("c-2"), command("c-1", status="delivered"), command("c-0", status="running")]

    codes = [main(["cancel", "c-2", "--reason", "not needed"]), main(["cancel", "c-1"]), main(["cancel", "c-0"])]

    printed = capsys.readouterr()
    assert codes == [0, 0, 1]
    assert "cancelled c-2: it will not run" in printed.out
    assert "cancel requested for c-1" in printed.out
    assert "not_cancellable: The PC has begun already." in printed.err
    assert server.asked("POST", "/api/agent-commands/c-2/cancel") == [{"reason": "not needed"}]


def test_resolve_records_the_finding_and_refuses_what_is_not_unknown(
    server: PageServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.commands = [command("c-1", status="unknown")]
    words = ["resolve", "c-1", "did-not-run", "--reason", "same pid"]

    codes = [main(words), main(words)]

    printed = capsys.readouterr()
    assert codes == [0, 1]
    assert "recorded for c-1: it did not run; now failed" in printed.out
    assert "not_unknown" in printed.err
    assert server.asked("POST", "/api/agent-commands/c-1/resolve")[0] == {
        "outcome": "did_not_run",
        "reason": "same pid",
    }


def test_json_is_the_servers_answer_also_when_it_refuses(
    server: PageServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.commands = [command("c-1", reason=ESCAPES)]

    assert main(["show", "c-1", "--json"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["reason"] == ESCAPES
    assert "\x1b" not in shown

    assert main(["--json", "show", "c-9"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "command_not_found"


def test_no_escape_sequence_comes_through_any_verb(server: PageServer, capsys: pytest.CaptureFixture[str]) -> None:
    evil = f"x{ESCAPES}"
    result = {
        "error": evil,
        "output": evil,
        evil: evil,
        "verification": [{"check": evil, "ok": False, "message": evil}],
    }
    row = {
        "agent_id": evil,
        "type": evil,
        "payload": {evil: evil},
        "created_by": evil,
        "reason": evil,
        "status": "unknown",
    }
    server.commands = [command(evil, **row, result=result)]
    server.timelines = {evil: [step(evil, 1, evil, **{evil: evil, "result": result})]}
    server.reports = {evil: [report(evil, 1, result, evil)]}

    codes = [
        main(["list"]),
        main(["show", evil]),
        main(["approve", evil, "--wait"]),
        main(["cancel", evil]),
        main(["resolve", evil, "ran", "--reason", evil]),
        main(["show", f"{evil}-not-there"]),
    ]

    printed = capsys.readouterr()
    assert codes == [0, 0, 5, 1, 0, 1]
    assert "\u2039U+001B\u203a" in printed.out
    for text in (printed.out, printed.err):
        assert set(text).isdisjoint("\x1b\x07\u202e\x9b")


def test_an_id_cannot_lead_to_another_address(server: PageServer) -> None:
    assert main(["approve", "../incidents/1/close?x=#"]) == 1

    assert server.requests[-1][1] == "/api/agent-commands/..%2Fincidents%2F1%2Fclose%3Fx%3D%23/approve"


def test_without_the_right_key_nothing_is_told_and_the_hint_names_the_option(
    server: PageServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.operator = None
    assert main(["list"]) == 1
    assert "--api-key-file" in capsys.readouterr().err

    monkeypatch.setenv("RECO3_API_KEY", server.api_key)
    assert main(["list"]) == 0


def test_a_key_may_come_through_standard_input(server: PageServer) -> None:
    server.operator = None
    program = "import sys; from reco3.console.commands import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}

    done = subprocess.run(
        [sys.executable, "-c", program, "list", "--api-key-file", "-"],
        input=b"right-key\n",
        capture_output=True,
        env=environment,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"no command has been sent yet\n", b"")


def test_a_terminal_that_knows_ascii_alone_gets_ascii(server: PageServer) -> None:
    server.commands = [command("c-1", agent_id="Büro-電腦")]
    program = "import sys; from reco3.console.commands import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}

    done = subprocess.run(
        [sys.executable, "-c", program, "list"], capture_output=True, env=environment, timeout=30, check=False
    )

    assert done.returncode == 0
    assert b"B\\xfcro-\\u96fb\\u8166" in done.stdout


def test_a_server_that_is_not_there_is_exit_code_3(server: PageServer, capsys: pytest.CaptureFixture[str]) -> None:
    url = server.url
    server.stop()

    assert main(["list"]) == 3

    assert url in capsys.readouterr().err


class _Elsewhere(BaseHTTPRequestHandler):
    """Another server, which sends everybody on."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Nobody reads it."""


def test_a_redirect_is_not_followed_and_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    with HTTPServer(("127.0.0.1", 0), _Elsewhere) as other:
        thread = threading.Thread(target=other.handle_request)
        thread.start()

        code = main(["list", "--server", f"http://127.0.0.1:{other.server_address[1]}"])

        thread.join()
    assert code == 3
    assert "something that is not RECO3 answered" in capsys.readouterr().err
    assert _Elsewhere.asked == ["/api/agent-commands?limit=20"]
