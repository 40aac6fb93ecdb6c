"""Restarts and rollbacks of a real service, by a real agent, that are verified before they count."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_process import AgentProcess, make_order
from scripted_server import ScriptedServer, answer

from reco3.agent.metrics import find_processes

SCRIPT = Path(__file__).with_name("release_service.py")
NAME = "reco3-release"


class Release:
    """The service, the release in force, and how often which one was started."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        shutil.copy(SCRIPT, folder / NAME)
        self.switch("good")

    def argv(self, verb: str) -> list[str]:
        return [sys.executable, str(self.folder / NAME), str(self.folder), str(self.port), verb]

    def switch(self, release: str) -> None:
        (self.folder / "current").unlink(missing_ok=True)
        (self.folder / "current").symlink_to(release)

    def call(self, verb: str) -> None:
        subprocess.run(self.argv(verb), check=True, timeout=20, capture_output=True)

    def starts(self) -> list[str]:
        return (self.folder / "starts").read_text(encoding="utf-8").split()

    def pids(self) -> list[int]:
        return [one.pid for one in find_processes([NAME])[NAME]]

    def program(self, **changes: Any) -> dict[str, Any]:
        return {
            "name": NAME,
            "restart_cmd": self.argv("restart"),
            "stop_cmd": self.argv("stop"),
            "rollback": self.argv("switch-back"),
            "allow_restart": True,
            "verify": [{"http": f"http://127.0.0.1:{self.port}/health", "status": 200}, {"up_s": 0.3}],
            "verify_timeout_s": 3,
        } | changes


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Release]:
    release = Release(tmp_path / "release")
    release.call("restart")
    yield release
    release.call("stop")


def order(command_id: str, type_: str = "RESTART_PROCESS") -> dict[str, Any]:
    return make_order(command_id, type_, {"process": NAME})


def test_a_restart_counts_when_the_new_process_answers(
    server: ScriptedServer, pc: AgentProcess, release: Release
) -> None:
    pc.configure(watch={"processes": [release.program()]})
    [old] = release.pids()
    pc.start()

    server.deliver(order("c-1"))
    report = server.wait_for_report("c-1")

    result = report["result"]
    [new] = release.pids()
    assert report["status"] == "completed", result
    assert [(each["check"], each["ok"]) for each in result["verification"]] == [
        (f"http http://127.0.0.1:{release.port}/health 200", True),
        ("up_s 0.3", True),
    ]
    assert (result["before"]["pids"], result["after"]["pids"]) == ([old], [new])
    assert old != new


def test_a_restart_that_does_not_work_is_rolled_back_by_itself_while_no_server_is_there(
    server: ScriptedServer, pc: AgentProcess, release: Release
) -> None:
    pc.configure(watch={"processes": [release.program(on_failure="rollback")]}, control={"command_timeout_s": 10})
    pc.start()
    server.wait_for("/agent/pull")
    release.switch("bad")

    # From the moment in which the command is begun, nobody answers the agent any more.
    server.rules["/agent/report"] = lambda _: (server.go_down(), answer())[1]
    began_after = len(release.starts())
    server.deliver(order("c-1"))
    server.wait_until(lambda: release.starts()[began_after:] == ["bad", "good"], deadline_s=2 * (10 + 3))
    server.wait_until(lambda: "command_failed" in pc.log(), deadline_s=10)
    del server.rules["/agent/report"]
    server.come_up()
    report = server.wait_for_report("c-1")

    result = report["result"]
    assert report["status"] == "failed"
    assert (result["success"], result["code"], result["rolled_back"]) == (False, "verification_failed", True)
    assert "answered 500" in result["error"]
    assert result["error"].endswith("it was rolled back by itself, and that was verified")
    assert [each["ok"] for each in result["verification"]] == [False, False]
    assert result["rollback"]["success"] is True
    assert "switched back to good" in result["rollback"]["output"]
    assert all(each["ok"] for each in result["rollback"]["verification"])
    assert result["rollback"]["after"]["pids"] == release.pids()
    assert release.starts() == ["good", "bad", "good"]


def test_without_on_failure_a_restart_that_does_not_work_is_only_reported(
    server: ScriptedServer, pc: AgentProcess, release: Release
) -> None:
    pc.configure(watch={"processes": [release.program()]})
    pc.start()
    release.switch("bad")

    server.deliver(order("c-1"))
    result = server.wait_for_report("c-1")["result"]

    assert (result["code"], result["rolled_back"]) == ("verification_failed", False)
    assert "rollback" not in result
    assert release.starts() == ["good", "bad"]


def test_a_rollback_that_does_not_work_either_says_both(
    server: ScriptedServer, pc: AgentProcess, release: Release
) -> None:
    program = release.program(on_failure="rollback", rollback=["/bin/sh", "-c", "echo no former release; exit 4"])
    pc.configure(watch={"processes": [program]})
    pc.start()
    release.switch("bad")

    server.deliver(order("c-1"))
    result = server.wait_for_report("c-1")["result"]

    assert (result["code"], result["rolled_back"]) == ("verification_failed", False)
    assert (result["rollback"]["code"], result["rollback"]["exit_code"]) == ("command_failed", 4)
    assert "rolling it back failed too: /bin/sh ended with exit code 4: no former release" in result["error"]


def test_an_approved_rollback_of_a_process_runs_its_rollback_and_verifies(
    server: ScriptedServer, pc: AgentProcess, release: Release
) -> None:
    pc.configure(watch={"processes": [release.program()]})
    release.switch("bad")
    release.call("restart")
    pc.start()

    server.deliver(order("c-1", "ROLLBACK"))
    report = server.wait_for_report("c-1")

    assert report["status"] == "completed", report
    assert "switched back to good" in report["result"]["output"]
    assert all(each["ok"] for each in report["result"]["verification"])
    assert release.starts()[-1] == "good"


def test_a_stop_counts_when_the_old_process_is_gone(server: ScriptedServer, pc: AgentProcess, release: Release) -> None:
    pc.configure(watch={"processes": [release.program()]})
    [old] = release.pids()
    pc.start()

    server.deliver(order("c-1", "STOP_PROCESS"))
    report = server.wait_for_report("c-1")

    assert report["status"] == "completed", report
    assert report["result"]["verification"] == [{"check": "old_processes_gone", "ok": True, "detail": f"gone: {old}"}]
    assert release.pids() == []


def test_a_command_that_fails_before_it_touches_the_process_is_not_rolled_back(
    server: ScriptedServer, pc: AgentProcess, release: Release
) -> None:
    program = release.program(on_failure="rollback", restart_cmd=["/bin/sh", "-c", "echo bad config; exit 1"])
    pc.configure(watch={"processes": [program]})
    [old] = release.pids()
    pc.start()

    server.deliver(order("c-1"))
    result = server.wait_for_report("c-1")["result"]

    assert (result["code"], result["rolled_back"]) == ("command_failed", False)
    assert release.pids() == [old]


def test_a_command_that_fails_after_it_stopped_the_process_is_rolled_back(
    server: ScriptedServer, pc: AgentProcess, release: Release
) -> None:
    program = release.program(
        on_failure="rollback", restart_cmd="", stop_cmd=release.argv("stop"), start_cmd=["/bin/false"]
    )
    pc.configure(watch={"processes": [program]})
    pc.start()

    server.deliver(order("c-1"))
    result = server.wait_for_report("c-1")["result"]

    assert (result["code"], result["rolled_back"]) == ("command_failed", True)
    assert len(release.pids()) == 1


def test_a_heartbeat_tells_when_the_process_was_created(
    server: ScriptedServer, pc: AgentProcess, release: Release
) -> None:
    pc.configure(watch={"processes": [release.program()]})
    pc.start()

    heartbeat = server.wait_for("/agent/heartbeat").body

    [process] = heartbeat["metrics"]["processes"]
    assert process["pid"] == release.pids()[0]
    created_at_s = (release.folder / "pid").stat().st_mtime
    assert abs(process["create_time_ms"] / 1000 - created_at_s) < 2
