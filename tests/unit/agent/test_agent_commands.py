import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agent_builders import make_control

from reco3.agent import commands
from reco3.agent.commands import Job
from reco3.agent.config import ControlConfig
from reco3.agent.journal import Beginning, Ending, Journal, Received
from reco3.agent.runner import Outcome, Run
from reco3.agent.security import Action, NotifyOps, Rollback, RunProgram, SetMode, SetRateLimit
from reco3.protocol.commands import CommandType, Mode, Severity, Strength
from reco3.protocol.limits import MAX_RESULT_BYTES


class Pc:
    """The part of an agent that acts: a journal, a rate-limit file, and what a command does to them."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "agent.db")
        self.limits_path = folder / "limits.json"
        self.control = make_control(rate_limit_path=self.limits_path)

    def carry_out(self, command_id: str, action: Action, *, control: ControlConfig | None = None) -> Ending:
        self.journal.receive([Received(command_id, "X", "{}")])
        beginning = Beginning(command_id, datetime(2026, 1, 1, tzinfo=UTC), Strength.STRONG, "the test", {})
        self.journal.start(beginning)
        job = Job(command_id, "2026-01-01T00:00:00.000Z", control or self.control, self.journal)
        ending = commands.carry_out(action, job)
        self.journal.finish(command_id, ending)
        return ending

    def limits(self) -> dict[str, Any]:
        content = json.loads(self.limits_path.read_text(encoding="utf-8"))
        return {endpoint: entry["limit_rps"] for endpoint, entry in content["limits"].items()}


@pytest.fixture
def pc(tmp_path: Path) -> Iterator[Pc]:
    pc = Pc(tmp_path)
    yield pc
    pc.journal.close()


def python(code: str) -> RunProgram:
    return RunProgram(CommandType.RESTART_PROCESS, "web", ((sys.executable, "-c", code),))


def test_a_mode_is_set_and_persisted(pc: Pc) -> None:
    ending = pc.carry_out("c-1", SetMode(Mode.SAFE))

    assert ending.result == {
        "success": True,
        "output": "mode is SAFE (was NORMAL)",
        "mode": "SAFE",
        "previous_mode": "NORMAL",
    }
    assert pc.journal.mode().mode is Mode.SAFE


@pytest.fixture
def heard_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The agent's log, whatever a test before has opened; prepared before the call, so that each line is heard once."""
    logging.getLogger("reco3.agent").propagate = True
    return caplog


def test_a_notice_is_written_to_the_log_and_told_in_the_result(pc: Pc, heard_log: pytest.LogCaptureFixture) -> None:
    ending = pc.carry_out("c-1", NotifyOps(Severity.WARN, "disk nearly full"))

    assert ending.result["severity"] == "WARN"
    assert ending.result["message"] == "disk nearly full"
    [record] = [record for record in heard_log.records if record.getMessage() == "notify_ops"]
    assert record.__dict__["fields"]["message"] == "disk nearly full"
    assert record.levelno == logging.WARNING


def test_a_limit_is_written_beside_those_of_other_endpoints(pc: Pc) -> None:
    pc.limits_path.write_text('{"limits": {"/other": {"limit_rps": 7}}, "note": "mine"}', encoding="utf-8")

    ending = pc.carry_out("c-1", SetRateLimit("/api", 50))

    content = json.loads(pc.limits_path.read_text(encoding="utf-8"))
    assert ending.is_success
    assert content["note"] == "mine"
    assert content["limits"]["/other"] == {"limit_rps": 7}
    assert content["limits"]["/api"] == {"limit_rps": 50, "command_id": "c-1", "set_at": "2026-01-01T00:00:00.000Z"}


def test_writing_a_limit_leaves_no_other_file_and_keeps_the_permissions(pc: Pc) -> None:
    pc.limits_path.write_text('{"limits": {}}', encoding="utf-8")
    pc.limits_path.chmod(0o640)

    pc.carry_out("c-1", SetRateLimit("/api", 50))

    assert pc.limits_path.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in pc.limits_path.parent.iterdir() if "agent.db" not in path.name] == ["limits.json"]


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"limits": []}', '{"a": 1}', "[" * 100_000], ids=lambda text: text[:12]
)
def test_a_file_that_is_not_understood_is_not_overwritten(pc: Pc, content: str) -> None:
    pc.limits_path.write_text(content, encoding="utf-8")

    ending = pc.carry_out("c-1", SetRateLimit("/api", 50))

    assert ending.result["code"] == "rate_limit_unreadable"
    assert str(pc.limits_path) in ending.result["error"]
    assert pc.limits_path.read_text(encoding="utf-8") == content


def test_a_limit_that_cannot_be_written_fails_and_leaves_nothing_to_undo(pc: Pc, tmp_path: Path) -> None:
    control = make_control(rate_limit_path=tmp_path / "no" / "such" / "folder" / "limits.json")

    ending = pc.carry_out("c-1", SetRateLimit("/api", 50), control=control)

    assert ending.result["code"] == "rate_limit_unwritable"
    assert pc.journal.last_undo() is None


def test_rollback_removes_the_file_that_the_limit_made(pc: Pc) -> None:
    pc.carry_out("c-1", SetRateLimit("/api", 50))
    existed = pc.limits_path.exists()

    ending = pc.carry_out("c-2", Rollback(None))

    assert existed
    assert ending.result["success"] is True
    assert ending.result["undone_command_id"] == "c-1"
    assert not pc.limits_path.exists()


def test_rollback_brings_an_untouched_file_back_to_the_byte(pc: Pc) -> None:
    before = '{ "limits" :{"/api": {"limit_rps": 7}} }\n\n'
    pc.limits_path.write_text(before, encoding="utf-8")
    pc.carry_out("c-1", SetRateLimit("/api", 50))

    pc.carry_out("c-2", Rollback(None))

    assert pc.limits_path.read_text(encoding="utf-8") == before


def test_rollback_of_a_named_limit_leaves_the_others(pc: Pc) -> None:
    pc.carry_out("c-1", SetRateLimit("/api", 50))
    pc.carry_out("c-2", SetRateLimit("/other", 10))

    ending = pc.carry_out("c-3", Rollback("c-1"))

    assert ending.is_success
    assert pc.limits() == {"/other": 10}


def test_rollbacks_go_back_one_change_after_the_other(pc: Pc) -> None:
    pc.carry_out("c-1", SetRateLimit("/api", 50))
    pc.carry_out("c-2", SetRateLimit("/api", 20))
    pc.carry_out("c-3", SetMode(Mode.SAFE))

    undone = [pc.carry_out(f"r-{number}", Rollback(None)).result.get("undone_command_id") for number in range(4)]

    assert undone == ["c-3", "c-2", "c-1", None]
    assert pc.journal.mode().mode is Mode.NORMAL
    assert not pc.limits_path.exists()


def test_rollback_of_a_limit_that_has_been_changed_since_is_refused(pc: Pc) -> None:
    pc.carry_out("c-1", SetRateLimit("/api", 50))
    pc.carry_out("c-2", SetRateLimit("/api", 20))

    ending = pc.carry_out("c-3", Rollback("c-1"))

    assert ending.result["code"] == "superseded"
    assert pc.limits() == {"/api": 20}


def test_a_limit_changed_by_somebody_else_does_not_stand_in_the_way_of_older_ones(pc: Pc) -> None:
    pc.carry_out("c-1", SetMode(Mode.SAFE))
    pc.carry_out("c-2", SetRateLimit("/api", 50))
    pc.limits_path.write_text('{"limits": {"/api": {"limit_rps": 1}}}', encoding="utf-8")

    first, second = pc.carry_out("c-3", Rollback(None)), pc.carry_out("c-4", Rollback(None))

    assert first.result["code"] == "superseded"
    assert second.result["undone_command_id"] == "c-1"
    assert pc.limits() == {"/api": 1}


def test_rollback_says_when_there_is_nothing_to_undo(pc: Pc) -> None:
    unnamed, named = pc.carry_out("c-1", Rollback(None)), pc.carry_out("c-2", Rollback("c-0"))

    assert [ending.result["code"] for ending in (unnamed, named)] == ["nothing_to_undo", "nothing_to_undo"]
    assert "c-0" in named.result["error"]


def test_rollback_of_a_mode_that_was_changed_on_the_pc_since_is_refused(pc: Pc) -> None:
    pc.carry_out("c-1", SetMode(Mode.SAFE))
    pc.journal.choose_mode(Mode.LOCKED)

    ending = pc.carry_out("c-2", Rollback("c-1"))

    assert ending.result["code"] == "superseded"
    assert pc.journal.mode().mode is Mode.LOCKED


def test_a_limit_whose_writing_a_crash_prevented_is_undone_without_harm(pc: Pc) -> None:
    before = '{"limits": {}}'
    pc.limits_path.write_text(before, encoding="utf-8")
    pc.carry_out("c-1", SetRateLimit("/api", 50))
    pc.limits_path.write_text(before, encoding="utf-8")

    ending = pc.carry_out("c-2", Rollback(None))

    assert ending.is_success
    assert pc.limits_path.read_text(encoding="utf-8") == before


def test_a_restart_reports_what_the_command_did(pc: Pc) -> None:
    ending = pc.carry_out("c-1", python("print('restarted')"))

    assert ending.is_success
    assert ending.result["success"] is True
    assert ending.result["exit_code"] == 0
    assert ending.result["output"] == "restarted\n"
    assert ending.result["timed_out"] is False
    assert ending.result["argv"][1:] == ["-c", "print('restarted')"]
    assert ending.result["duration_ms"] > 0


def test_only_exit_code_zero_is_success(pc: Pc) -> None:
    ending = pc.carry_out("c-1", python("print('no such unit'); raise SystemExit(5)"))

    assert not ending.is_success
    assert ending.result["success"] is False
    assert ending.result["exit_code"] == 5
    assert ending.result["code"] == "command_failed"
    assert ending.result["error"].endswith("ended with exit code 5: no such unit")


def test_a_command_beyond_its_time_limit_fails_and_says_so(pc: Pc) -> None:
    control = make_control(command_timeout_s=1)

    ending = pc.carry_out("c-1", python("import time; time.sleep(600)"), control=control)

    assert ending.result["code"] == "timed_out"
    assert ending.result["timed_out"] is True
    assert "after 1 s" in ending.result["error"]


def test_a_command_that_cannot_be_started_fails_and_says_so(pc: Pc) -> None:
    ending = pc.carry_out("c-1", RunProgram(CommandType.STOP_PROCESS, "web", (("/nowhere/stop",),)))

    assert ending.result["code"] == "cannot_start"
    assert ending.result["error"].startswith("cannot start /nowhere/stop: ")


@pytest.mark.parametrize(("stop_exit_code", "expected_runs"), [(0, ["stop", "start"]), (1, ["stop"])])
def test_start_runs_only_after_a_stop_that_succeeded(pc: Pc, stop_exit_code: int, expected_runs: list[str]) -> None:
    ran: list[str] = []

    def record(order: Run) -> Outcome:
        ran.append(order.argv[0])
        return Outcome(stop_exit_code, f"{order.argv[0]}\n", was_cut=False, timed_out=False, duration_ms=1)

    action = RunProgram(CommandType.RESTART_PROCESS, "web", (("stop",), ("start",)))
    ending = commands.carry_out(action, Job("c-1", "now", pc.control, pc.journal, run=record))

    assert ran == expected_runs
    assert ending.is_success is (stop_exit_code == 0)
    assert ending.result["output"] == "".join(f"{word}\n" for word in expected_runs)


def test_the_worst_output_still_fits_a_report(pc: Pc) -> None:
    control = make_control(max_output_bytes=20 * 1024)

    ending = pc.carry_out("c-1", python(r"import sys; sys.stdout.buffer.write(b'\x00\xff' * 100_000)"), control=control)

    assert len(json.dumps(ending.result)) < MAX_RESULT_BYTES
    assert ending.result["output_cut"] is True
    assert set(ending.result["output"]) == {"\ufffd"}
