"""`reco3 agent doctor` as a process: what it prints, its exit codes, and what it says to a stranger."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_process import AgentProcess
from doctor_pc import HealthyPc
from scripted_server import ScriptedServer

from servers import ServerProcess


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("server")).start()
    yield server
    server.stop()


def doctor(*words: object) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "reco3.cli", "agent", "doctor", *map(str, words)]
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "LANG": "C"}
    )


def report(*words: object) -> Any:
    return json.loads(doctor("--json", *words).stdout)


def test_a_healthy_pc_beside_a_real_server_and_a_real_agent_is_all_well(
    healthy: HealthyPc, real: ServerProcess
) -> None:
    healthy.config["base_url"] = real.base_url
    healthy.write()
    healthy.lock.release()
    with _agent(healthy):
        done = doctor(healthy.config_path)

        assert done.stderr == ""
        assert done.returncode == 0, done.stdout
        lines = done.stdout.splitlines()
        assert lines[-1].startswith("0 broken, 0 warnings, 0 notes: nothing to repair in ")
        assert {line.split()[0] for line in lines[:-2] if not line.startswith(" ")} == {"ok"}
        assert "devkey" not in done.stdout

    after = doctor(healthy.config_path, "--offline")
    assert after.returncode == 0
    assert after.stdout.splitlines()[0].startswith("warning  agent_running")
    assert after.stdout.splitlines()[-1] == "0 broken, 1 warning, 1 note: agent_running"


class _agent:  # noqa: N801 - reads as a word where it is used
    """A real agent beside the doctor."""

    def __init__(self, pc: HealthyPc) -> None:
        self._pc = pc

    def __enter__(self) -> None:
        argv = [sys.executable, "-m", "reco3.cli", "agent", str(self._pc.config_path)]
        self._process = subprocess.Popen(argv, stderr=subprocess.PIPE)
        log = self._pc.folder / "agent.log"
        for _ in range(500):
            if log.exists() and "agent_started" in log.read_text(encoding="utf-8"):
                return
            try:
                self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError(self._process.communicate())

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=20)


def test_the_worst_comes_first_and_makes_the_exit_code(healthy: HealthyPc) -> None:
    healthy.config["watch"]["log_files"] = ["/etc", "/nowhere/x"]
    healthy.control(approvers=[])
    healthy.write()

    path = healthy.config_path

    done = doctor(path, "--offline")

    assert done.returncode == 1
    levels = [line.split()[0] for line in done.stdout.splitlines()[:-2] if not line.startswith(" ")]
    assert levels == sorted(levels, key=["broken", "warning", "note", "ok"].index)
    assert set(levels) == {"broken", "warning", "note", "ok"}
    assert done.stdout.splitlines()[-1] == "1 broken, 1 warning, 2 notes: log_file, approvers"
    assert (
        f"-> pin one: reco3 keys show on the approver's machine, then here: reco3 agent trust add {path} PIN"
        in done.stdout
    )


def test_as_json_it_says_the_same(healthy: HealthyPc) -> None:
    healthy.config["watch"]["log_files"] = ["/etc"]
    healthy.write()

    found = report(healthy.config_path, "--offline")

    assert [found[level] for level in ("broken", "warning", "note")] == [1, 0, 1]
    assert found["ok"] == len(found["checks"]) - 2
    assert found["checks"][0] == {
        "code": "log_file",
        "level": "broken",
        "found": "/etc is no regular file, and only those are followed",
        "to_do": "correct watch.log_files",
    }


def test_a_config_that_cannot_be_used_is_the_only_thing_told(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("base_url: http://127.0.0.1:1\nagent_id: pc-001\napi_key: [sekrit]\n", encoding="utf-8")

    done = doctor(path)

    assert done.returncode == 1
    assert f"{path}:3: api_key: expected text, got a list of 1" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "1 broken, 0 warnings, 0 notes: config"
    assert "sekrit" not in done.stdout


def test_the_text_does_not_break_where_standard_output_knows_ascii_alone(healthy: HealthyPc) -> None:
    healthy.config["watch"]["log_files"] = ["/nowhere/\u00fcber\u202e.log"]
    healthy.write()
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}

    argv = [sys.executable, "-m", "reco3.cli", "agent", "doctor", str(healthy.config_path), "--offline"]
    done = subprocess.run(argv, capture_output=True, timeout=30, check=False, env=env)

    assert done.returncode == 0, done.stderr
    assert b"\\xfcber?.log" in done.stdout


def test_a_second_agent_is_refused_while_the_doctor_sees_the_first(pc: AgentProcess, server: ScriptedServer) -> None:
    pc.start()
    server.wait_for("/agent/heartbeat")

    found = {one["code"]: one for one in report(pc.config_path)["checks"]}
    second = pc.call(str(pc.config_path))

    assert found["agent_running"]["level"] == "ok"
    assert second.returncode == 2
    assert "another agent is running" in second.stderr


USAGE = [
    ((), "the following arguments are required: CONFIG"),
    (("/etc",), "expected the agent's config file, and /etc is a folder; such as /etc/config.yaml"),
    (("http://127.0.0.1:5001",), "got an address: http://127.0.0.1:5001; the server is named in the config"),
    (("a.yaml", "b.yaml"), "unrecognized arguments: b.yaml"),
    (("a.yaml", "--off"), "unrecognized arguments: --off"),
    (("a.yaml", "--json=yes"), "--json: ignored explicit argument 'yes'"),
]


@pytest.mark.parametrize(("words", "says"), USAGE, ids=[" ".join(words) or "nothing" for words, _ in USAGE])
def test_bad_usage_is_explained(words: tuple[str, ...], says: str) -> None:
    done = doctor(*words)

    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert "usage: reco3 agent doctor CONFIG [--json] [--offline]" in done.stderr


def test_a_config_that_is_not_there_is_named_with_the_way_to_one() -> None:
    done = doctor("/nowhere/config.yaml")

    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "/nowhere/config.yaml: cannot be read: No such file or directory" in said
    assert "reco3 agent enrol /nowhere/config.yaml --server URL --token-file FILE" in said
