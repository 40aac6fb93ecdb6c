"""A PC whose clock, server, world and power a test controls; control, lifecycle, modes and journal are real."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from agent_builders import PROGRAMS, make_control

from reco3.agent import commands, failpoints, probing
from reco3.agent.clocks import REGRESSION_LIMIT, as_text
from reco3.agent.config import AgentConfig, IntervalsConfig, LimitsConfig, LoggingConfig, WatchConfig
from reco3.agent.contacts import Contact
from reco3.agent.control import Control, ControlParts
from reco3.agent.http_client import BaseUrl, Pulled, UnreachableError
from reco3.agent.jobs import Job
from reco3.agent.journal import Ending, Journal
from reco3.agent.lifecycle import OVER, UNSTARTED, Outcome, Verdict
from reco3.agent.modes import Modes
from reco3.agent.security import Action, NotifyOps, SetMode, target_of
from reco3.protocol.commands import CommandType, Mode, needs_approval
from reco3.protocol.messages import CommandReport, LogEntry

START = datetime(2030, 1, 15, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class PowerCut(BaseException):
    """The agent ends here without another word."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A command as the server holds it."""

    command_id: str
    type: CommandType
    payload: dict[str, Any]
    is_approved: bool
    expires_at: datetime | None

    def as_order(self) -> dict[str, Any]:
        return {
            "id": self.command_id,
            "agent_id": "pc-001",
            "ts": "2030-01-15T12:00:00.000Z",
            "type": str(self.type),
            "payload_json": json.dumps(self.payload),
            "status": "delivered",
            "approved": self.is_approved,
            "approval": {"id": "a-1"} if self.is_approved else None,
            "expires_at": None if self.expires_at is None else as_text(self.expires_at),
        }

    @property
    def is_counted(self) -> bool:
        """Whether running it twice would do harm."""
        return self.type not in {CommandType.SET_MODE, CommandType.NOTIFY_OPS}


class SimulatedPc:
    """Everything that survives a power cut, and the agent that may be cut off at any failpoint."""

    def __init__(self, folder: Path, *, journal_class: type[Journal] = Journal) -> None:
        self.folder = folder
        self.journal_class = journal_class
        self.now = START
        self.wanted: dict[str, Wanted] = {}
        self.to_deliver: list[dict[str, Any]] = []
        self.to_cancel: list[str] = []
        self.is_server_reachable = True
        self.server_time: datetime | None = None
        self.lose_answers = 0
        self.expect: dict[str, int | None] | None = None
        self.own_pid = os.getpid()
        self.pids_of_target = [7]
        self.is_probe_blind = False
        self.effects: Counter[str] = Counter()
        self.begun: list[tuple[str, datetime]] = []
        self.stopped: set[str] = set()
        self.told: dict[str, list[CommandReport]] = {}
        self.incidents: list[LogEntry] = []
        self.ends: dict[str, object] = {}
        self.control_config = make_control(limits=LimitsConfig(strong_per_hour=3, cooldown_s=5))
        self.cut_at: str | None = None
        self.hits: list[str] = []
        self.journal = self._open_journal()
        self.control = self._boot()

    # What happens to the PC

    def reboot(self, **control: Any) -> None:
        self.control_config = replace(self.control_config, **control)
        self.journal.close()
        self.journal = self._open_journal()
        self.control = self._boot()

    def stop_gracefully(self) -> None:
        self.control._end_waiting()
        self.control._reports.send_owed()
        self.reboot()

    def turn(self, *, cut_at: str | None = None) -> None:
        """One turn of the control loop, which may be its last."""
        self.cut_at = cut_at
        try:
            with self.patched():
                if self.control._has_open:
                    self.control._recover_all()
                self.control._turn()
        except PowerCut:
            self.reboot()
        self.cut_at = None
        self._check_ends()

    def deliver(self, *command_ids: str, cut_at: str | None = None) -> None:
        self.to_deliver = [self.wanted[command_id].as_order() | {"expect": self.expect} for command_id in command_ids]
        self.turn(cut_at=cut_at)

    def cancel(self, command_id: str) -> None:
        """Somebody cancels it on the server; it counts as stopped when the agent hears of it before it began."""
        entry = self.journal.find(command_id)
        if entry is not None and entry.state in UNSTARTED and self.is_server_reachable:
            self.stopped.add(command_id)
        self.to_cancel = [command_id]
        self.turn()
        self.to_cancel = []

    def veto(self, command_id: str | None = None) -> list[str]:
        at_the_keyboard = self.journal_class(self.folder / "agent.db", clock=lambda: self.now)
        stopped = at_the_keyboard.veto(command_id, by="alice")
        at_the_keyboard.close()
        self.stopped |= set(stopped)
        return stopped

    def want(
        self,
        command_id: str,
        type_: CommandType = CommandType.RESTART_PROCESS,
        payload: dict[str, Any] | None = None,
        *,
        is_approved: bool = True,
        expires_in_s: float | None = 900,
    ) -> str:
        expires_at = None if expires_in_s is None else self.now + timedelta(seconds=expires_in_s)
        default = {"process": "web"} if type_ in {CommandType.RESTART_PROCESS, CommandType.STOP_PROCESS} else {}
        self.wanted[command_id] = Wanted(command_id, type_, payload or default, is_approved, expires_at)
        return command_id

    def last_report(self, command_id: str) -> CommandReport:
        return self.told[command_id][-1]

    def code(self, command_id: str) -> str | None:
        code: str | None = self.last_report(command_id).result.get("code")
        return code

    # What the agent meets

    def pull(self, *, wait_s: int, journal: str | None) -> Pulled:
        assert wait_s >= 0
        assert journal is None or journal == self.journal.epoch()
        if not self.is_server_reachable:
            raise UnreachableError("no answer in time")
        orders, self.to_deliver = self.to_deliver, []
        return Pulled(tuple(orders), tuple(self.to_cancel), self.server_time)

    def report(self, report: CommandReport, *, journal: str | None = None, timeout_s: float = 1) -> None:
        assert timeout_s > 0
        assert journal is None or journal == self.journal.epoch()
        if not self.is_server_reachable:
            raise UnreachableError("no answer in time")
        self.told.setdefault(report.command_id, []).append(report)
        self._check_truth(report)
        if self.lose_answers and report.status not in {"accepted", "running"}:
            self.lose_answers -= 1
            raise UnreachableError("no answer in time")

    def keep_incident(self, entry: LogEntry, when_kept: Callable[[], None]) -> None:
        self.incidents.append(entry)
        when_kept()

    def interrupt(self) -> None:
        """Nothing is held here."""

    def hit(self, name: str) -> None:
        self.hits.append(name)
        if name == self.cut_at:
            self.cut_at = None
            raise PowerCut(name)

    def carry_out(self, action: Action, job: Job) -> Ending:
        if isinstance(action, SetMode | NotifyOps):
            return self._real_carry_out(action, job)
        self._check_may_run(self.wanted[job.command_id], action)
        self.hit("before_effect")
        job.when_running()
        self.effects[job.command_id] += 1
        assert self.effects[job.command_id] == 1, f"{job.command_id} ran twice"
        self.hit("during_act")
        return Ending(is_success=True, result={"success": True, "output": ""})

    def capture(self, action: Action, _control: object, **_: object) -> dict[str, Any]:
        return {"pid": 7, "create_time_ms": 1_000, "pids": self.pids_of_target, "target": target_of(action)}

    def probe(self, _action: Action, before: dict[str, Any], *, command_id: str, **_: object) -> Verdict:
        assert before["pid"] == 7
        if self.is_probe_blind:
            return Verdict(Outcome.UNKNOWN, "cannot tell", {})
        has_run = self.effects[command_id] > 0
        return Verdict(Outcome.COMPLETED if has_run else Outcome.FAILED, "seen", {})

    # What must always hold

    def _check_may_run(self, wanted: Wanted, action: Action) -> None:
        highest = self.journal.highest_clock() or self.now
        latest = max(self.now, highest)
        assert self.control_config.apply_enabled
        assert wanted.expires_at is None or latest < wanted.expires_at
        assert highest - self.now <= REGRESSION_LIMIT
        assert wanted.command_id not in self.stopped
        mode = self.journal.mode().mode
        assert mode is not Mode.LOCKED
        if needs_approval(wanted.type):
            assert wanted.is_approved
            assert mode is Mode.NORMAL
            self._check_budget(target_of(action), latest)

    def _check_budget(self, target: str, latest: datetime) -> None:
        limits = self.control_config.limits
        assert not limits.quiet_hours
        assert sum(at > latest - HOUR for _, at in self.begun) < limits.strong_per_hour
        cooled = latest - timedelta(seconds=limits.cooldown_s)
        assert all(at <= cooled for one, at in self.begun if one == target)
        self.begun.append((target, self.now))

    def _check_truth(self, report: CommandReport) -> None:
        if report.status in {"accepted", "running"}:
            return
        finals = [one for one in self.told[report.command_id] if one.status not in {"accepted", "running"}]
        assert all(one == finals[0] for one in finals), "two different ends were reported"
        if self.wanted[report.command_id].is_counted and report.status != "unknown":
            assert self.effects[report.command_id] == (1 if report.status == "completed" else 0)

    def _check_ends(self) -> None:
        for command_id in self.wanted:
            entry = self.journal.find(command_id)
            if entry is not None and entry.state in OVER:
                assert self.ends.setdefault(command_id, (entry.state, entry.result)) == (entry.state, entry.result)

    # How it is put together

    def _open_journal(self) -> Journal:
        return self.journal_class(self.folder / "agent.db", clock=lambda: self.now)

    def _boot(self) -> Control:
        return self.boot_beside(self.journal)

    def boot_beside(self, journal: Journal) -> Control:
        """An agent's control on a journal of its own to the same file."""
        modes = Modes(journal)
        client: Any = self
        parts = ControlParts(client, Contact(modes), modes, journal, self.keep_incident, now=lambda: self.now)
        control = Control(self._config(), parts)
        control._pause = lambda _pause_s: None  # type: ignore[method-assign]
        return control

    def _config(self) -> AgentConfig:
        return AgentConfig(
            path=Path("/etc/reco3/config.yaml"),
            base_url=BaseUrl("127.0.0.1", 1, is_tls=False),
            agent_id="pc-001",
            api_key="k",
            platform="linux",
            version="1",
            state_dir=self.folder,
            control=self.control_config,
            watch=WatchConfig(processes=tuple(PROGRAMS.values())),
            intervals=IntervalsConfig(),
            logging=LoggingConfig(),
        )

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        self._real_carry_out = commands.carry_out
        with (
            mock.patch.object(failpoints, "hit", self.hit),
            mock.patch.object(commands, "carry_out", self.carry_out),
            mock.patch.object(probing, "capture", self.capture),
            mock.patch.object(probing, "probe", self.probe),
        ):
            yield
