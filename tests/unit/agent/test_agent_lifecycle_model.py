"""The at-most-once promise as a model: whatever happens in whatever order, a command runs once or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from simulated_pc import SimulatedPc

from reco3.agent.config import LimitsConfig, QuietHours
from reco3.agent.journal import Beginning, Journal
from reco3.protocol.commands import CommandType, Mode

IS_SOAK = os.environ.get("RECO3_SOAK") == "1"
SETTINGS = settings(
    max_examples=10_000 if IS_SOAK else 200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
# Fewer are needed to show that the model notices a wrong order.
CONTROL_SETTINGS = settings(SETTINGS, max_examples=300, database=None, print_blob=False)
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
ALL_DAY = (QuietHours(0, 24 * 60),)


class CommandLife(RuleBasedStateMachine):
    """What a server, a person at the PC, a clock and a power supply can do to a command."""

    commands = Bundle("commands")
    journal_class: type[Journal] = Journal

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.pc = SimulatedPc(self.folder, journal_class=self.journal_class)

    def teardown(self) -> None:
        self.pc.journal.close()
        shutil.rmtree(self.folder)

    @rule(
        target=commands,
        order=ORDERS,
        is_approved=st.sampled_from([True, True, True, False]),
        expires_in_s=st.sampled_from([900, 900, 60, None]),
    )
    def create(self, order: tuple[CommandType, dict[str, Any]], is_approved: bool, expires_in_s: float | None) -> str:
        type_, payload = order
        return self.pc.want(
            f"c-{len(self.pc.wanted)}", type_, payload, is_approved=is_approved, expires_in_s=expires_in_s
        )

    @rule(command_ids=st.lists(commands, min_size=1, max_size=3), cut_at=CUTS)
    def deliver(self, command_ids: list[str], cut_at: str | None) -> None:
        self.pc.deliver(*command_ids, cut_at=cut_at)

    @rule(cut_at=CUTS)
    def pull_nothing(self, cut_at: str | None) -> None:
        self.pc.turn(cut_at=cut_at)

    @rule(command_id=commands)
    def cancel(self, command_id: str) -> None:
        self.pc.to_cancel = [command_id]
        entry = self.pc.journal.find(command_id)
        if entry is not None and entry.state in {"RECEIVED", "ACCEPTED"} and self.pc.is_server_reachable:
            self.pc.stopped.add(command_id)
        self.pc.turn()
        self.pc.to_cancel = []

    @rule(command_id=st.none() | commands)
    def veto(self, command_id: str | None) -> None:
        self.pc.veto(command_id)

    @rule(seconds=st.sampled_from([1, 4, 10, 61, 700, 3600]))
    def time_passes(self, seconds: float) -> None:
        self.pc.now += timedelta(seconds=seconds)

    @rule(seconds=st.sampled_from([30, 110, 130, 4000, 90_000]))
    def clock_is_set_back(self, seconds: float) -> None:
        self.pc.now -= timedelta(seconds=seconds)

    @rule()
    def clock_is_declared_right(self) -> None:
        self.pc.journal.trust_clock()

    @rule()
    def power_is_cut(self) -> None:
        self.pc.reboot()

    @rule()
    def agent_is_stopped(self) -> None:
        self.pc.stop_gracefully()

    @rule(is_enabled=st.sampled_from([True, True, False]), veto_s=st.sampled_from([0, 0, 10]), is_quiet=st.booleans())
    def reconfigure(self, is_enabled: bool, veto_s: int, is_quiet: bool) -> None:
        limits = LimitsConfig(strong_per_hour=3, cooldown_s=5, quiet_hours=ALL_DAY if is_quiet else ())
        self.pc.reboot(apply_enabled=is_enabled, veto_s=veto_s, limits=limits)

    @rule(mode=st.sampled_from([Mode.NORMAL, Mode.NORMAL, Mode.SAFE, Mode.LOCKED]))
    def mode_is_chosen_on_the_pc(self, mode: Mode) -> None:
        self.pc.journal.choose_mode(mode)

    @rule(is_reachable=st.sampled_from([True, True, False]))
    def network_changes(self, is_reachable: bool) -> None:
        self.pc.is_server_reachable = is_reachable

    @rule(is_blind=st.booleans())
    def evidence_changes(self, is_blind: bool) -> None:
        self.pc.is_probe_blind = is_blind

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


class _ForgetsItsClock(Journal):
    """Believes whatever the clock shows."""

    def highest_clock(self) -> None:
        return None


class _BelievingTheClock(CommandLife):
    journal_class = _ForgetsItsClock

    @rule()
    def power_is_cut(self) -> None:
        """Rebooting is not what this one is about."""


class _DeafToVetoes(Journal):
    """Begins whatever somebody at the PC has stopped."""

    def start(self, beginning: Beginning) -> bool:
        self._write(lambda db: db.execute("UPDATE commands SET vetoed_by = NULL"))
        return super().start(beginning)


@pytest.mark.parametrize(("machine", "complaint"), [(_RecordingTooLate, "twice")], ids=["recording after acting"])
def test_the_model_catches_an_agent_without_its_guard(machine: type[CommandLife], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        run(machine, CONTROL_SETTINGS)
