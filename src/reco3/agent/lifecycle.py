"""The life of a command as a pure machine: (event, order, journal row, policy, clock, history) → what to do next.

    RECEIVED → ACCEPTED → STARTED → DONE | FAILED | UNKNOWN, each with its report until the server has it

Before STARTED a command may go on or end; it refuses, whatever happens, to let one that was STARTED begin again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from reco3.agent import budget, security
from reco3.agent.budget import Begun
from reco3.agent.clocks import Clock, as_text
from reco3.agent.refusals import Refused
from reco3.agent.security import (
    Action,
    Allowed,
    Expect,
    Order,
    Policy,
    RollbackProgram,
    RunProgram,
    Terms,
    target_of,
)
from reco3.protocol.commands import Strength

if TYPE_CHECKING:
    from reco3.agent.approvals import Verify

CREATE_TIME_TOLERANCE_MS = 1_500
FUTURE_TOLERANCE = timedelta(seconds=120)


class State(StrEnum):
    """How far a command has come."""

    RECEIVED = "RECEIVED"
    ACCEPTED = "ACCEPTED"
    STARTED = "STARTED"
    DONE = "DONE"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"


UNSTARTED = frozenset({State.RECEIVED, State.ACCEPTED})
OVER = frozenset({State.DONE, State.FAILED, State.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Veto:
    """Who at this PC stopped a command before it acted."""

    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One command as the journal knows it.

    `result` is what its report says, None while it is not over; `order` is what it takes to go on with it; `before` is
    what the world looked like when it was started. A safe command has no `began_at`.
    """

    command_id: str
    type: str
    state: State
    result: dict[str, Any] | None = None
    order: Order | None = None
    expires_at: datetime | None = None
    acts_at: datetime | None = None
    veto: Veto | None = None
    before: dict[str, Any] = field(default_factory=dict)
    began_at: datetime | None = None

    @property
    def is_break_glass(self) -> bool:
        """Whether somebody at this PC asks for it, with a sheet that was signed beforehand."""
        return self.order is not None and self.order.is_break_glass


class Event(StrEnum):
    """Why a command is looked at: the server asks, its time has come, or an earlier run of the agent left it open."""

    DELIVERED = "DELIVERED"
    DUE = "DUE"
    CANCELLED = "CANCELLED"
    RECOVERED = "RECOVERED"


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known when a command is looked at; `begun` are the strong commands of the last hour.

    `verify` says what signatures are worth; it is asked only where the PC pins keys.
    """

    entry: Entry
    policy: Policy
    clock: Clock
    begun: Sequence[Begun] = ()
    verify: "Verify" = security.verify_nothing


@dataclass(frozen=True, slots=True)
class Refuse:
    """End it without having begun; a breaker that tripped is an incident besides."""

    refusal: Refused
    is_breaker: bool = False


@dataclass(frozen=True, slots=True)
class Act:
    """Record that it begins, then do it."""

    allowed: Allowed


@dataclass(frozen=True, slots=True)
class Wait:
    """Leave it alone until then; `is_new` says that a countdown begins with this."""

    until: datetime
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """Say again what became of it, or nothing new while it is `is_running`."""

    is_running: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """It was begun and nobody knows how it ended: look at the world."""


Step = Refuse | Act | Wait | Report | Probe


def next_step(event: Event, case: Case) -> Step:
    """Say what to do with a command now."""
    entry = case.entry
    if entry.state in OVER:
        return Report(is_running=False)
    if entry.state is State.STARTED:
        return Probe() if event is Event.RECOVERED else Report(is_running=True)
    if entry.veto is not None:
        return Refuse(_vetoed(entry.veto))
    if event is Event.CANCELLED:
        return Refuse(Refused("cancelled", "cancelled on the server before it began; nothing was done"))
    return _recover(case) if event is Event.RECOVERED else _take(case)


def is_due(entry: Entry, now: datetime) -> bool:
    """Whether an open command wants a look without anybody asking: it may act, has expired or was vetoed."""
    if entry.state not in UNSTARTED:
        return False
    if entry.veto is not None or (entry.expires_at is not None and now >= entry.expires_at):
        return True
    if entry.state is State.RECEIVED:
        return entry.is_break_glass  # Who broke the glass stands beside the PC: nobody will ask once more.
    return entry.acts_at is not None and now >= entry.acts_at


def check_world(allowed: Allowed, before: Mapping[str, Any], policy: Policy, *, own_pid: int) -> Refuse | None:
    """Compare the world right before acting with what was approved, and keep the agent out of its own hands."""
    if not isinstance(allowed.action, RunProgram | RollbackProgram):
        return None
    untouchable = budget.untouchable(
        policy.control.limits, (), config_path=policy.config_path, is_agent=own_pid in before.get("pids", ())
    )
    if untouchable is not None:
        return Refuse(untouchable, is_breaker=True)
    expect = allowed.terms.expect
    if expect is None or _is_as_expected(expect, before):
        return None
    return Refuse(
        Refused(
            "precondition_failed",
            f"{target_of(allowed.action)} has changed since this was approved: it was {_seen(_as_seen(expect))}, it is "
            f"{_seen(before)}; look at it and request this anew if it is still wanted",
        )
    )


class Outcome(StrEnum):
    """What a look at the world can tell of a command whose end nobody saw."""

    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a probe found; `reason` is for people, `evidence` holds `before`, `after` and `boot_id`.

    `undone` is the id of the journal's undo record that a completed rollback used up.
    """

    outcome: Outcome
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)
    code: str = "interrupted"
    undone: int | None = None


def _recover(case: Case) -> Step:
    """Deal with one that an earlier run left unbegun.

    It goes on when the server asks for it again, or, when the server knows that it waits, after a countdown of its own.
    """
    entry, clock = case.entry, case.clock
    if entry.order is None or entry.expires_at is None:
        return Refuse(not_begun())
    if clock.latest >= entry.expires_at:
        return Refuse(_expired(entry.expires_at, clock))
    if entry.state is State.RECEIVED:
        return Wait(entry.expires_at)
    return Wait(clock.now + timedelta(seconds=case.policy.control.veto_s), is_new=True)


def _take(case: Case) -> Step:
    if case.entry.order is None:
        return Refuse(not_begun())
    decision = security.decide(case.entry.order, case.policy, case.verify)
    if isinstance(decision, Refused):
        return Refuse(decision)
    out_of_time = _time_window(case, decision)
    if out_of_time is not None:
        return Refuse(out_of_time)
    return _within_limits(case, decision) if decision.strength is Strength.STRONG else Act(decision)


def _time_window(case: Case, allowed: Allowed) -> Refused | None:
    """The time by which the journal keeps it may be the earlier one, when this PC's clock is slow; never the later."""
    clock, terms = case.clock, allowed.terms
    expires_at = min((at for at in (case.entry.expires_at, terms.expires_at) if at is not None), default=None)
    if expires_at is not None and clock.latest >= expires_at:
        return _expired(expires_at, clock)
    untimely = _validity(terms, clock)
    if untimely is not None:
        return untimely
    if clock.is_regressed and allowed.strength is not Strength.SAFE:
        return Refused(
            "clock_regressed",
            f"this PC's clock says {as_text(clock.now)}, but it has been {as_text(clock.highest)} here before; if the "
            f"clock is right now, say so on the PC with `reco3 agent trust-clock {case.policy.config_path}`",
        )
    return None


def _validity(terms: Terms, clock: Clock) -> Refused | None:
    if terms.created_at is None or terms.longest is None or terms.expires_at is None:
        return None
    if clock.latest < terms.created_at - FUTURE_TOLERANCE:
        return Refused(
            "not_yet_valid",
            f"it was made at {as_text(terms.created_at)}, and this PC's clock says {as_text(clock.latest)}: set the "
            "clocks right",
        )
    if terms.expires_at - terms.created_at > terms.longest:
        return Refused(
            "validity_too_long",
            f"it is valid from {as_text(terms.created_at)} to {as_text(terms.expires_at)}; this PC takes at most "
            f"{terms.longest.total_seconds():.0f} s",
        )
    return None


def _within_limits(case: Case, allowed: Allowed) -> Step:
    policy, clock = case.policy, case.clock
    refusal = budget.untouchable(policy.control.limits, _names(allowed.action), config_path=policy.config_path)
    if refusal is not None:
        return Refuse(refusal, is_breaker=True)
    countdown = _countdown(case)
    if countdown is not None:
        return countdown
    refusal = budget.tripped_breaker(
        policy.control.limits,
        target_of(allowed.action),
        begun=case.begun,
        clock=clock,
        config_path=policy.config_path,
    )
    return Act(allowed) if refusal is None else Refuse(refusal, is_breaker=True)


def _countdown(case: Case) -> Wait | None:
    entry, now, veto_s = case.entry, case.clock.now, case.policy.control.veto_s
    if entry.acts_at is not None:
        return Wait(entry.acts_at) if now < entry.acts_at else None
    return Wait(now + timedelta(seconds=veto_s), is_new=True) if veto_s else None


def _names(action: Action) -> tuple[str, ...]:
    if not isinstance(action, RunProgram | RollbackProgram):
        return ()
    return (action.process, action.program.service if action.program else "")


def _is_as_expected(expect: Expect, before: Mapping[str, Any]) -> bool:
    if "pid" not in before or expect.pid != before["pid"]:
        return False
    expected_ms, actual_ms = expect.create_time_ms, before.get("create_time_ms")
    if expected_ms is None or actual_ms is None:
        return True
    return bool(abs(expected_ms - actual_ms) <= CREATE_TIME_TOLERANCE_MS)


def _as_seen(expect: Expect) -> Mapping[str, Any]:
    return {"pid": expect.pid, "create_time_ms": expect.create_time_ms}


def _seen(process: Mapping[str, Any]) -> str:
    pid, create_time_ms = process.get("pid"), process.get("create_time_ms")
    if pid is None:
        return "not running"
    return f"process {pid}" + (f" started at {create_time_ms} ms" if create_time_ms is not None else "")


def not_begun() -> Refused:
    """An agent that stops, or that was stopped too long ago to go on."""
    return Refused(
        "not_begun", "the agent stopped before it began; nothing was done: request it anew if it is still wanted"
    )


def _expired(expires_at: datetime, clock: Clock) -> Refused:
    return Refused(
        "expired",
        f"it was to begin before {as_text(expires_at)}, and this PC's clock says {as_text(clock.latest)}; nothing was "
        "done: request it anew if it is still wanted",
    )


def _vetoed(veto: Veto) -> Refused:
    return Refused("vetoed", f"{veto.by} stopped it at this PC at {as_text(veto.at)}; nothing was done")
