"""The `metric_samples` table."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from reco3.server.domain.metrics import Sample
from reco3.server.store.tables import metric_samples

_columns = [metric_samples.c[name] for name in Sample.__dataclass_fields__]


class SampleTable:
    """Reads and writes samples inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, samples: Sequence[Sample]) -> None:
        """Append samples."""
        if samples:
            self._connection.execute(insert(metric_samples), [asdict(sample) for sample in samples])

    def since(self, agent_id: str, start: datetime, *, limit: int) -> list[Sample]:
        """The newest `limit` samples of a PC since `start`, oldest first."""
        query = (
            select(*_columns)
            .where(metric_samples.c.agent_id == agent_id, metric_samples.c.ts >= start)
            .order_by(metric_samples.c.ts.desc())
            .limit(limit)
        )
        rows = self._connection.execute(query).all()
        return [Sample(**row._mapping) for row in reversed(rows)]  # noqa: SLF001 - SQLAlchemy's public name

    def prune(self, before: datetime, *, limit: int) -> int:
        """Delete at most `limit` samples older than `before`, the oldest rows first; returns how many."""
        newest_kept = (
            select(metric_samples.c.id).where(metric_samples.c.ts >= before).order_by(metric_samples.c.id).limit(1)
        )
        first_kept_id = self._connection.execute(newest_kept).scalar_one_or_none()
        doomed = select(metric_samples.c.id).order_by(metric_samples.c.id).limit(limit)
        if first_kept_id is not None:
            doomed = doomed.where(metric_samples.c.id < first_kept_id)
        return self._connection.execute(delete(metric_samples).where(metric_samples.c.id.in_(doomed))).rowcount
