"""Retention: what history is forgotten, in small steps so that no heartbeat waits for it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reco3.server.domain.history import Keeping, row_length_s
from reco3.server.services.ports import Doomed, Outside

ROWS_PER_STEP = 2_000
PAUSE_S = 0.05

_MOST_PCS_PER_STEP = 200
_FULL_ROUND = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long metric history and log lines are kept."""

    history: Keeping
    logs: timedelta


@dataclass(frozen=True, slots=True)
class _Step:
    """Whose rows to delete before when, and the last PC that is done with after it."""

    agent_ids: list[str]
    before_s: int
    done_up_to: str


class RetentionService:
    """Forgets what is older than the settings say; the audit log is never pruned here.

    Each step is a transaction of its own, and between two steps there is a pause in which whoever waits is served.
    """

    def __init__(
        self,
        outside: Outside,
        retention: Retention,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._outside = outside
        self._retention = retention
        self._pause = pause
        self._history_due_at: dict[int, datetime] = {}

    async def prune(self) -> None:
        """Delete everything that is too old; each resolution of the history once an hour, coarse ones more rarely."""
        if not self._outside.store.is_leading:
            return
        now = self._outside.clock()
        for resolution_s, duration in self._retention.history.by_resolution().items():
            if now >= self._history_due_at.get(resolution_s, now):
                await self._prune_history(resolution_s, before_s=int((now - duration).timestamp()))
                self._history_due_at[resolution_s] = now + max(_FULL_ROUND, duration / 24)
        await self._prune_logs(now - self._retention.logs)

    async def _prune_logs(self, before: datetime) -> None:
        while await self._outside.store.write(lambda tx: tx.logs.prune(before, limit=ROWS_PER_STEP)) == ROWS_PER_STEP:
            await self._pause(PAUSE_S)

    async def _prune_history(self, resolution_s: int, *, before_s: int) -> None:
        """Walk through the PCs by name, fewer at a time where much is to be deleted; readers count it first."""
        after, pcs = "", _MOST_PCS_PER_STEP
        while agent_ids := await self._next_pcs(after, pcs):
            doomed = await self._doomed(agent_ids, resolution_s, before_s)
            whole = _Step(agent_ids, before_s, after)
            step = _fitting(whole, doomed, row_s=row_length_s(resolution_s))
            if step.agent_ids:
                await self._delete(step, resolution_s)
            after, pcs = step.done_up_to, min(_MOST_PCS_PER_STEP, 2 * len(step.agent_ids) or 2 * pcs)
            await self._pause(PAUSE_S)

    async def _next_pcs(self, after: str, limit: int) -> list[str]:
        return await self._outside.store.read(lambda tx: tx.history.agent_ids(after=after, limit=limit))

    async def _doomed(self, agent_ids: Sequence[str], resolution_s: int, before_s: int) -> Mapping[str, Doomed]:
        return await self._outside.store.read(
            lambda tx: tx.history.doomed(agent_ids, resolution_s=resolution_s, before_s=before_s)
        )

    async def _delete(self, step: _Step, resolution_s: int) -> None:
        await self._outside.store.write(
            lambda tx: tx.history.prune(step.agent_ids, resolution_s=resolution_s, before_s=step.before_s)
        )


def _fitting(whole: _Step, doomed: Mapping[str, Doomed], *, row_s: int) -> _Step:
    """The first PCs whose rows fit a step; of a PC that has more than that alone, its oldest rows."""
    rows, done_up_to = 0, whole.done_up_to
    chosen: list[str] = []
    for agent_id in whole.agent_ids:
        fate = doomed.get(agent_id)
        if fate is None:
            done_up_to = agent_id
            continue
        if not chosen and fate.rows > ROWS_PER_STEP:
            return _Step([agent_id], fate.oldest_s + ROWS_PER_STEP * row_s, done_up_to)
        if rows + fate.rows > ROWS_PER_STEP:
            break
        rows += fate.rows
        chosen.append(agent_id)
        done_up_to = agent_id
    return _Step(chosen, whole.before_s, done_up_to)
