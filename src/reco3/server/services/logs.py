"""Log lines in, incidents opened from them, and the list out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reco3.protocol.messages import LogBatch
from reco3.server.domain.audit import AuditEvent, Stream, agent_actor
from reco3.server.domain.incidents import sighting_of
from reco3.server.domain.logs import LogLine, LogPosition, check_batch, line_of, unseen_entries
from reco3.server.services.agents import require_agent
from reco3.server.services.incidents import IncidentRecorder
from reco3.server.services.ports import Outside, Transaction


@dataclass(frozen=True, slots=True)
class TakenBatch:
    """A batch that passed the border, and when."""

    agent_id: str
    batch: LogBatch
    at: datetime


@dataclass(frozen=True, slots=True)
class BatchStored:
    """What became of a batch: `count` lines are held now (new or seen before), `acked_seq` the highest number."""

    count: int
    incidents_created: int
    acked_seq: int | None


class LogService:
    """The ERROR, WARN and CRITICAL lines of every PC."""

    def __init__(self, outside: Outside, incidents: IncidentRecorder) -> None:
        self._outside = outside
        self._incidents = incidents

    async def record_batch(self, taken: TakenBatch) -> BatchStored:
        """Store a batch once, however often it is sent; returns when it is durable.

        Raises:
            BadInput: too many lines, or numbering that is incomplete.
        """
        check_batch(taken.batch)
        stored = await self._outside.store.write_grouped(self._take_batches, taken)
        self._outside.announcer.announce("logs", taken.agent_id)
        if stored.incidents_created:
            self._outside.announcer.announce("incidents", taken.agent_id)
        return stored

    async def newest_lines(self, agent_id: str, *, before_id: int | None, limit: int) -> list[LogLine]:
        """A PC's lines, newest first.

        Raises:
            NotFound: no PC of that id was ever heard of.
        """

        def query(tx: Transaction) -> list[LogLine]:
            require_agent(tx, agent_id)
            return tx.logs.newest(agent_id, before_id=before_id, limit=limit)

        return await self._outside.store.read(query)

    def _take_batches(self, tx: Transaction, items: Sequence[TakenBatch]) -> Sequence[BatchStored]:
        return [self._take_batch(tx, taken) for taken in items]

    def _take_batch(self, tx: Transaction, taken: TakenBatch) -> BatchStored:
        position = _position_of(tx, taken)
        entries = unseen_entries(taken.batch, position.acked_seq if position else 0)
        lines = [line_of(taken.agent_id, entry, taken.at) for entry in entries]
        tx.logs.add(lines)
        created = sum(self._incidents.record(tx, sighting) for sighting in map(sighting_of, lines) if sighting)
        acked_seq = _advance(tx, taken, position)
        if lines:
            tx.audit.add([_batch_event(taken, len(lines), created)])
        return BatchStored(len(taken.batch.logs), created, acked_seq)


def _position_of(tx: Transaction, taken: TakenBatch) -> LogPosition | None:
    batch = taken.batch
    if batch.stream is None or batch.epoch is None:
        return None
    return LogPosition(batch.stream, batch.epoch, tx.logs.acked_seq(taken.agent_id, batch.stream, batch.epoch))


def _advance(tx: Transaction, taken: TakenBatch, position: LogPosition | None) -> int | None:
    if position is None or taken.batch.first_seq is None:
        return None
    if not taken.batch.logs:
        return position.acked_seq
    acked_seq = max(position.acked_seq, taken.batch.first_seq + len(taken.batch.logs) - 1)
    tx.logs.advance(taken.agent_id, LogPosition(position.stream, position.epoch, acked_seq))
    return acked_seq


def _batch_event(taken: TakenBatch, count: int, incidents_created: int) -> AuditEvent:
    return AuditEvent(
        ts=taken.at,
        actor=agent_actor(taken.agent_id),
        event_type="agent_logs",
        ref_id=taken.agent_id,
        agent_id=taken.agent_id,
        payload={"count": count, "incidents_created": incidents_created},
        stream=Stream.TELEMETRY,
    )
