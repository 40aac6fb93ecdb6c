"""Retention: what history is forgotten, in small steps so that no heartbeat waits for it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from reco3.server.services.ports import Outside, Transaction

ROWS_PER_STEP = 2_000


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long raw samples and log lines are kept."""

    samples: timedelta
    logs: timedelta


class RetentionService:
    """Forgets what is older than the settings say; the audit log is never pruned here."""

    def __init__(self, outside: Outside, retention: Retention) -> None:
        self._outside = outside
        self._retention = retention

    async def prune(self) -> None:
        """Delete everything that is too old."""
        now = self._outside.clock()
        await self._prune_all(lambda tx: tx.samples.prune(now - self._retention.samples, limit=ROWS_PER_STEP))
        await self._prune_all(lambda tx: tx.logs.prune(now - self._retention.logs, limit=ROWS_PER_STEP))

    async def _prune_all(self, step: Callable[[Transaction], int]) -> None:
        while await self._outside.store.write(step) == ROWS_PER_STEP:
            pass
