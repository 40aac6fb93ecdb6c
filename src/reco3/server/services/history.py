"""A PC's history: the finest answer that is kept and fits, with the last seconds in it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reco3.server.domain.errors import BadInput
from reco3.server.domain.history import (
    MINUTE_S,
    RAW_S,
    Keeping,
    Plan,
    bucketed,
    expected_count,
    plan_of,
    plausible,
    regrouped,
)
from reco3.server.domain.metrics import Sample
from reco3.server.domain.points import LONGEST_STEP_MS, Points, points_of, read_points, sample_of_row, unpack_points
from reco3.server.domain.rollups import Rollup, rollup_of, unpack_rollups
from reco3.server.services.agents import require_agent
from reco3.server.services.ports import Outside, Transaction

MAX_SAMPLES = 5_000
MAX_RANGE = timedelta(days=4_000)
_NEAR_FUTURE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Question:
    """Which part of a PC's history, in at most how many points."""

    agent_id: str
    start: datetime
    end: datetime
    max_points: int


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """A stretch of time with at least one heartbeat, and how many it should have had up to now."""

    rollup: Rollup
    expected: int


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """The answer; `step_s` is what each point spans, and stretches without any heartbeat are left out."""

    agent_id: str
    start: datetime
    end: datetime
    step_s: int
    points: tuple[HistoryPoint, ...]
    now: datetime


class HistoryService:
    """What operators read of the past."""

    def __init__(self, outside: Outside, keeping: Keeping) -> None:
        self._outside = outside
        self._keeping = keeping

    async def read(self, question: Question) -> HistoryPage:
        """A PC's history between two moments.

        Raises:
            BadInput: the stretch is empty, or longer than any history.
            NotFound: no PC of that id was ever heard of.
        """
        now = self._outside.clock()
        _check(question, now)
        plan = self._plan(question, question.max_points, now)

        def query(tx: Transaction) -> tuple[Plan, list[Rollup]]:
            require_agent(tx, question.agent_id)
            return self._answer(tx, question, plan, now)

        plan, rollups = await self._outside.store.read(query)
        points = tuple(HistoryPoint(rollup, _expected(rollup, plan, now)) for rollup in rollups)
        return HistoryPage(question.agent_id, _moment(plan.start_s), question.end, plan.step_s, points, now)

    async def recent_samples(self, agent_id: str, *, minutes: int) -> list[Sample]:
        """A PC's samples of the last minutes, oldest first.

        Raises:
            NotFound: no PC of that id was ever heard of.
        """
        now = self._outside.clock()
        start_ms = int((now - timedelta(minutes=minutes)).timestamp() * 1000)

        def query(tx: Transaction) -> list[Sample]:
            require_agent(tx, agent_id)
            rows = _raw_points(tx, agent_id, start_ms // 1000, now).rows()
            return [sample_of_row(agent_id, row) for row in rows if row[0] >= start_ms][-MAX_SAMPLES:]

        return await self._outside.store.read(query)

    def _answer(self, tx: Transaction, question: Question, plan: Plan, now: datetime) -> tuple[Plan, list[Rollup]]:
        rollups = _within(_rollups(tx, question.agent_id, plan, now), plan)
        if len(rollups) <= question.max_points:
            return plan, rollups
        # A PC that reports more often than agreed has more samples than its clock has ten-second steps.
        plan = self._plan(question, question.max_points // 3, now)
        return plan, _within(_rollups(tx, question.agent_id, plan, now), plan)

    def _plan(self, question: Question, max_points: int, now: datetime) -> Plan:
        return plan_of(question.start, question.end, max_points=max_points, now=now, keeping=self._keeping)


def _check(question: Question, now: datetime) -> None:
    if question.end <= question.start:
        raise BadInput("to", "expected a moment after `from`")
    if question.end - question.start > MAX_RANGE:
        raise BadInput("from", f"expected at most {MAX_RANGE.days} days before `to`")
    if question.end > now + _NEAR_FUTURE:
        raise BadInput("to", "expected a moment that is not in the future")


def _rollups(tx: Transaction, agent_id: str, plan: Plan, now: datetime) -> list[Rollup]:
    """What is stored in the plan's resolution and what is still open, in steps of the plan."""
    if plan.base_s == RAW_S:
        points = _raw_points(tx, agent_id, plan.start_s, now)
        return _each(points) if plan.step_s == RAW_S else bucketed(points, plan.step_s)
    return regrouped([*_stored(tx, agent_id, plan), *bucketed(_open_points(tx, agent_id, now), MINUTE_S)], plan.step_s)


def _stored(tx: Transaction, agent_id: str, plan: Plan) -> list[Rollup]:
    if plan.base_s != MINUTE_S:
        return tx.history.rollups(agent_id, resolution_s=plan.base_s, start_s=plan.start_s, end_s=plan.end_s)
    packs = tx.history.chunks(agent_id, resolution_s=MINUTE_S, start_s=plan.start_s, end_s=plan.end_s)
    return [rollup for pack in packs for rollup in unpack_rollups(pack)]


def _raw_points(tx: Transaction, agent_id: str, start_s: int, now: datetime) -> Points:
    """Every sample from a moment on with those just before it, whose window may have closed earlier."""
    first_s, end_s = start_s - LONGEST_STEP_MS // 1000, int(now.timestamp()) + 1
    packs = tx.history.chunks(agent_id, resolution_s=RAW_S, start_s=first_s, end_s=end_s)
    rows = [row for pack in packs for row in unpack_points(pack)]
    return points_of([*rows, *_open_points(tx, agent_id, now).rows()])


def _open_points(tx: Transaction, agent_id: str, now: datetime) -> Points:
    return plausible(read_points(tx.history.open_points(agent_id)), now)


def _each(points: Points) -> list[Rollup]:
    return [rollup_of(points, row, row + 1, at_ms=at_ms) for row, at_ms in enumerate(points.at_ms)]


def _within(rollups: list[Rollup], plan: Plan) -> list[Rollup]:
    return [rollup for rollup in rollups if plan.start_s * 1000 <= rollup.at_ms < plan.end_s * 1000]


def _expected(rollup: Rollup, plan: Plan, now: datetime) -> int:
    return 1 if plan.step_s == RAW_S else max(1, expected_count(rollup.at_ms, plan.step_s, now))


def _moment(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
