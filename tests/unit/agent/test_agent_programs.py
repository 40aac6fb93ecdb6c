import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_builders import make_control
from stopwatches import FakeStopwatch

from reco3.agent import commands
from reco3.agent.commands import Job
from reco3.agent.config import OnFailure, RunsWell, WatchedProgram
from reco3.agent.journal import Ending, Journal
from reco3.agent.platform import linux
from reco3.agent.runner import Outcome, Run
from reco3.agent.security import RollbackProgram, RunProgram
from reco3.protocol.commands import CommandType
from reco3.protocol.limits import MAX_RESULT_BYTES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the service manager played here is systemd")
NAME = "reco3-no-such-process"
HEALTHY = ("healthy",)


class Pc:
    """A PC on which every argv does what a test says; its stopwatch moves with what the argvs take."""

    def __init__(self, folder: Path) -> None:
        self.watch = FakeStopwatch()
        self.journal = Journal(folder / "agent.db")
        self.runs: list[Run] = []
        self.exit_codes: dict[str, int | None] = {}
        self.takes_s: dict[str, float] = {}
        self.unit_pid = 10
        self.unit_state = "active"
        self.output = ""

    def run(self, order: Run) -> Outcome:
        self.runs.append(order)
        if order.argv[:2] == ("systemctl", "show"):
            return self._outcome(0, f"LoadState=loaded\nActiveState={self.unit_state}\nMainPID={self.unit_pid}\n")
        word = order.argv[0] if order.argv[0] != "systemctl" else order.argv[2]
        if word == "restart":
            self.unit_pid += 1
        took_s = self.takes_s.get(word, 0)
        self.watch.now_s += min(took_s, order.timeout_s)
        if took_s > order.timeout_s:
            return Outcome(None, self.output, was_cut=False, timed_out=True, duration_ms=0)
        return self._outcome(self.exit_codes.get(word, 0), self.output)

    def carry_out(self, action: RunProgram | RollbackProgram, **control: Any) -> Ending:
        job = Job("c-1", "now", make_control(**control), self.journal, run=self.run, watch=self.watch.stopwatch)
        return commands.carry_out(action, job)

    def acts(self) -> list[str]:
        return [order.argv[0] for order in self.runs if order.argv[0] not in {"systemctl", "healthy"}]

    def _outcome(self, exit_code: int | None, output: str) -> Outcome:
        return Outcome(exit_code, output, was_cut=False, timed_out=False, duration_ms=1)


@pytest.fixture
def pc(tmp_path: Path) -> Iterator[Pc]:
    pc = Pc(tmp_path)
    yield pc
    pc.journal.close()


def program(**changes: Any) -> WatchedProgram:
    defaults: dict[str, Any] = {
        "restart_argv": ("act",),
        "rollback_argv": ("back",),
        "verify": (RunsWell(HEALTHY),),
        "on_failure": OnFailure.ROLLBACK,
        "verify_timeout_s": 5,
    }
    return WatchedProgram(NAME, **defaults | changes)


def restart(program: WatchedProgram) -> RunProgram:
    argvs = (program.restart_argv,) if not program.service else ()
    return RunProgram(CommandType.RESTART_PROCESS, NAME, argvs, program)


def test_a_service_is_restarted_through_its_manager(pc: Pc) -> None:
    ending = pc.carry_out(restart(program(restart_argv=(), service="web.service", verify=None)))

    assert ending.is_success, ending.result
    assert linux.service_state_argv("web.service") in [order.argv for order in pc.runs]
    assert ending.result["argv"] == ["systemctl", "--no-ask-password", "restart", "--", "web.service"]
    assert (ending.result["before"]["service"]["pid"], ending.result["after"]["service"]["pid"]) == (10, 11)


def test_a_service_that_fails_right_after_is_no_success(pc: Pc) -> None:
    pc.unit_state = "failed"

    ending = pc.carry_out(restart(program(restart_argv=(), service="web.service", verify=None)))

    assert ending.result["code"] == "verification_failed"


def test_a_failed_verification_runs_the_rollback_once_and_verifies_again(pc: Pc) -> None:
    pc.exit_codes["healthy"] = 1

    ending = pc.carry_out(restart(program()))

    assert pc.acts() == ["act", "back"]
    assert (ending.result["code"], ending.result["rolled_back"]) == ("verification_failed", False)
    assert ending.result["rollback"]["code"] == "verification_failed"


def test_everything_together_stays_within_its_time_limits(pc: Pc) -> None:
    pc.exit_codes["healthy"] = 1
    pc.takes_s = {"act": 6, "back": 6, "healthy": 0.5}

    pc.carry_out(restart(program()), command_timeout_s=7)

    assert pc.watch.now_s <= 2 * (7 + 5 + 0.5)
    assert max(order.timeout_s for order in pc.runs if order.argv[0] in {"act", "back"}) <= 7
    assert max(order.timeout_s for order in pc.runs if order.argv == HEALTHY) <= 5


def test_a_command_that_ran_into_its_time_limit_is_rolled_back_when_nothing_runs_any_more(pc: Pc) -> None:
    pc.takes_s["act"] = 100

    ending = pc.carry_out(restart(program()), command_timeout_s=7)

    assert (ending.result["code"], ending.result["rolled_back"]) == ("timed_out", True)
    assert pc.acts() == ["act", "back"]


def test_a_command_that_could_not_be_started_has_nothing_to_roll_back(pc: Pc) -> None:
    pc.exit_codes["act"] = None
    pc.output = "cannot start act: No such file or directory"

    ending = pc.carry_out(restart(program()))

    assert ending.result["code"] == "cannot_start"
    assert pc.acts() == ["act"]


def test_a_stop_is_never_rolled_back(pc: Pc) -> None:
    pc.exit_codes["act"] = 1

    ending = pc.carry_out(RunProgram(CommandType.STOP_PROCESS, NAME, (("act",),), program()))

    assert ending.result["code"] == "command_failed"
    assert pc.acts() == ["act"]


def test_without_on_failure_nothing_is_rolled_back(pc: Pc) -> None:
    pc.exit_codes["healthy"] = 1

    ending = pc.carry_out(restart(program(on_failure=OnFailure.NONE)))

    assert (ending.result["rolled_back"], pc.acts()) == (False, ["act"])


def test_a_rollback_of_a_process_runs_its_rollback_and_verifies(pc: Pc) -> None:
    ending = pc.carry_out(RollbackProgram(NAME, program()))

    assert ending.is_success
    assert pc.acts() == ["back"]
    assert ending.result["verification"] == [{"check": "argv healthy", "ok": True, "detail": "exit code 0"}]


@pytest.mark.parametrize("verify", [(), (RunsWell(HEALTHY),)], ids=["none", "one"])
def test_only_the_checks_of_the_config_are_made(pc: Pc, verify: tuple[RunsWell, ...]) -> None:
    ending = pc.carry_out(restart(program(verify=verify)))

    assert ending.is_success
    assert len(ending.result["verification"]) == len(verify)


@pytest.mark.parametrize("before", [None, {}, {"process": NAME}, {"process": NAME, "processes": [1]}])
def test_a_record_of_before_that_cannot_be_read_is_taken_anew(pc: Pc, before: dict[str, Any] | None) -> None:
    job = Job("c-1", "now", make_control(), pc.journal, run=pc.run, watch=pc.watch.stopwatch, before=before)

    ending = commands.carry_out(restart(program()), job)

    assert ending.result["before"]["pids"] == []


def test_two_of_the_worst_outputs_still_fit_a_report(pc: Pc) -> None:
    pc.exit_codes["healthy"] = 1
    pc.output = "\ufffd" * 20_000
    checks = (RunsWell(("healthy", "\u00e9" * 300)),) * 10

    ending = pc.carry_out(restart(program(verify=checks)))

    assert len(json.dumps(ending.result)) < MAX_RESULT_BYTES
    assert ending.result["output_cut"] is True
    assert ending.result["rollback"]["output_cut"] is True
