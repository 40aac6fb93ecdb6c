"""The at-most-once promise as a model: whatever happens in whatever order, a command runs once or not at all."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from simulated_pc import SimulatedPc

from reco3.agent.budget import Begun
from reco3.agent.config import LimitsConfig, QuietHours
from reco3.agent.journal import Beginning, Journal
from reco3.protocol.commands import CommandType, Mode

IS_SOAK = os.environ.get("RECO3_SOAK") == "1"
SETTINGS = settings(
    max_examples=10_000 if IS_SOAK else 40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
# Fewer are needed to show that the model notices a wrong order.
CONTROL_SETTINGS = settings(SETTINGS, max_examples=1000, database=None, print_blob=False, phases=[Phase.generate])
CUTS = st.sampled_from(
    [
        *[None] * 6,
        *("after_receive", "before_accept", "after_accept", "before_start", "after_start", "before_effect"),
        *("during_act", "after_act", "before_finish", "after_finish", "before_report", "after_report"),
        *("after_acknowledge", "after_refuse", "after_probe", "after_probe_recorded"),
    ]
)
ORDERS = st.sampled_from(
    [
        (CommandType.RESTART_PROCESS, {"process": "web"}),
        (CommandType.RESTART_PROCESS, {"process": "stop-and-start"}),
        (CommandType.STOP_PROCESS, {"process": "web"}),
        (CommandType.ROLLBACK, {}),
        (CommandType.SET_RATE_LIMIT, {"endpoint": "/api", "limit_rps": 5}),
        (CommandType.SET_MODE, {"mode": "SAFE"}),
        (CommandType.SET_MODE, {"mode": "NORMAL"}),
        (CommandType.NOTIFY_OPS, {"severity": "INFO", "message": "hello"}),
    ]
)
ALL_DAY = LimitsConfig(strong_per_hour=3, cooldown_s=5, quiet_hours=(QuietHours(0, 24 * 60),))
FREE = LimitsConfig(strong_per_hour=3, cooldown_s=5)


def set_clock_back(seconds: float) -> Callable[[SimulatedPc], None]:
    def change(pc: SimulatedPc) -> None:
        pc.now -= timedelta(seconds=seconds)

    return change


# What opens a lock comes more often than what closes it, or the model would look at closed doors most of the time.
CHANGES: list[Callable[[SimulatedPc], None]] = [
    *[lambda pc: pc.journal.choose_mode(Mode.NORMAL)] * 3,
    lambda pc: pc.journal.choose_mode(Mode.SAFE),
    lambda pc: pc.journal.choose_mode(Mode.LOCKED),
    *[lambda pc: pc.reboot(apply_enabled=True, veto_s=0, limits=FREE)] * 3,
    lambda pc: pc.reboot(apply_enabled=True, veto_s=10, limits=FREE),
    lambda pc: pc.reboot(apply_enabled=False),
    lambda pc: pc.reboot(limits=ALL_DAY),
    lambda pc: pc.stop_gracefully(),
    *[lambda pc: pc.journal.trust_clock()] * 2,
    set_clock_back(30),
    set_clock_back(130),
    set_clock_back(90_000),
    *[lambda pc: setattr(pc, "is_server_reachable", True)] * 3,
    lambda pc: setattr(pc, "is_server_reachable", False),
    lambda pc: setattr(pc, "is_probe_blind", True),
    lambda pc: setattr(pc, "is_probe_blind", False),
]


class CommandLife(RuleBasedStateMachine):
    """What a server, a person at the PC, a clock and a power supply can do to a command."""

    commands = Bundle("commands")
    journal_class: type[Journal] = Journal

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("reco3.agent").setLevel(logging.CRITICAL + 1)
        self.folder = Path(tempfile.mkdtemp())
        self.pc = SimulatedPc(self.folder, journal_class=self.journal_class)

    def teardown(self) -> None:
        self.pc.journal.close()
        shutil.rmtree(self.folder)
        logging.getLogger("reco3.agent").setLevel(logging.NOTSET)

    @rule(
        target=commands,
        order=ORDERS,
        is_approved=st.sampled_from([True] * 5 + [False]),
        expires_in_s=st.sampled_from([900, 900, 60, None]),
        cut_at=CUTS,
    )
    def order(
        self,
        order: tuple[CommandType, dict[str, Any]],
        is_approved: bool,
        expires_in_s: float | None,
        cut_at: str | None,
    ) -> str:
        type_, payload = order
        command_id = f"c-{len(self.pc.wanted)}"
        self.pc.want(command_id, type_, payload, is_approved=is_approved, expires_in_s=expires_in_s)
        self.pc.deliver(command_id, cut_at=cut_at)
        return command_id

    @rule(command_ids=st.lists(commands, min_size=1, max_size=3), cut_at=CUTS)
    def deliver_again(self, command_ids: list[str], cut_at: str | None) -> None:
        self.pc.deliver(*command_ids, cut_at=cut_at)

    @rule(seconds=st.sampled_from([0, 1, 5, 10, 61, 1300, 3600]), cut_at=CUTS)
    def time_passes(self, seconds: float, cut_at: str | None) -> None:
        self.pc.now += timedelta(seconds=seconds)
        self.pc.turn(cut_at=cut_at)

    @rule(command_id=commands, how=st.sampled_from(["cancel", "veto", "veto all"]))
    def somebody_stops_it(self, command_id: str, how: str) -> None:
        if how == "cancel":
            self.pc.cancel(command_id)
        else:
            self.pc.veto(command_id if how == "veto" else None)

    @rule(change=st.sampled_from(CHANGES))
    def something_changes(self, change: Callable[[SimulatedPc], None]) -> None:
        change(self.pc)

    @invariant()
    def nothing_ran_twice(self) -> None:
        assert all(count <= 1 for count in self.pc.effects.values())


def run(machine: Callable[[], CommandLife], rules: settings) -> None:
    run_state_machine_as_test(machine, settings=rules)  # type: ignore[no-untyped-call]


@pytest.mark.timeout(3600 if IS_SOAK else 240)
def test_whatever_happens_a_command_runs_at_most_once_and_every_end_is_true() -> None:
    run(CommandLife, SETTINGS)


class _RecordsAfterActing(Journal):
    """Acts first and writes the beginning down afterwards, as a naive executor does."""

    def start(self, beginning: Beginning) -> bool:
        entry = self.find(beginning.command_id)
        return entry is not None and entry.veto is None


class _RecordingTooLate(CommandLife):
    journal_class = _RecordsAfterActing


class _ForgetsItsBudget(Journal):
    """Thinks that nothing was ever begun."""

    def begun_since(self, moment: datetime) -> list[Begun]:  # noqa: ARG002 - the signature is the journal's
        return []


class _WithoutBudget(CommandLife):
    journal_class = _ForgetsItsBudget


@pytest.mark.parametrize(
    "machine",
    [_RecordingTooLate, _WithoutBudget],
    ids=["recording after acting", "forgetting the budget"],
)
def test_the_model_catches_an_agent_without_its_guard(machine: type[CommandLife]) -> None:
    with pytest.raises(AssertionError):
        run(machine, CONTROL_SETTINGS)
