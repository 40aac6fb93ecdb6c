"""Log lines in, incidents opened from them, and the list out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain

from reco3.protocol.messages import LogBatch
from reco3.server.domain.audit import AuditEvent, Stream, agent_actor
from reco3.server.domain.errors import TooManyRequests
from reco3.server.domain.incidents import merged, sighting_of
from reco3.server.domain.logs import (
    LogLine,
    LogStream,
    check_batch,
    line_of,
    missing_before,
    stream_of,
    unseen_entries,
)
from reco3.server.services.agents import require_agent
from reco3.server.services.break_glass import record_uses
from reco3.server.services.incidents import IncidentRecorder
from reco3.server.services.ports import Outside, Transaction

RETRY_AFTER_S = 10


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


Told = Callable[[BatchStored | None, BaseException | None], None]


class LogService:
    """The ERROR, WARN and CRITICAL lines of every PC."""

    def __init__(self, outside: Outside, incidents: IncidentRecorder) -> None:
        self._outside = outside
        self._incidents = incidents

    async def record_batch(self, taken: TakenBatch) -> BatchStored:
        """Store a batch once, however often it is sent; returns when it is durable.

        Raises:
            BadInput: too many lines, or numbering that is incomplete.
            TooManyRequests: so much waits to be written that lines, which their PC keeps, can come later.
        """
        self._check(taken)
        stored = await self._outside.store.write_grouped(self._take_batches, taken)
        self._announce(taken.agent_id, stored)
        return stored

    def post_batch(self, taken: TakenBatch, *, told: Told) -> None:
        """Store a batch once, however often it is sent; `told` hears what became of it when it is durable, or failed.

        Raises:
            BadInput: too many lines, or numbering that is incomplete.
            TooManyRequests, Busy: so much waits to be written that lines, which their PC keeps, can come later.
        """
        self._check(taken)
        heard = partial(self._heard, told, taken.agent_id)
        self._outside.store.post_grouped(self._take_batches, taken, told=heard)

    async def newest_lines(self, agent_id: str, *, before_id: int | None, limit: int) -> list[LogLine]:
        """A PC's lines, newest first.

        Raises:
            NotFound: no PC of that id was ever heard of.
        """

        def query(tx: Transaction) -> list[LogLine]:
            require_agent(tx, agent_id)
            return tx.logs.newest(agent_id, before_id=before_id, limit=limit)

        return await self._outside.store.read(query)

    def _check(self, taken: TakenBatch) -> None:
        check_batch(taken.batch)
        if self._outside.store.is_busy:
            raise TooManyRequests(
                "Too many writes are waiting; send these lines again later.",
                retry_after_s=RETRY_AFTER_S,
                code="slow_down",
            )

    def _heard(self, told: Told, agent_id: str, stored: BatchStored | None, error: BaseException | None) -> None:
        if stored is not None and error is None:
            self._announce(agent_id, stored)
        told(stored, error)

    def _announce(self, agent_id: str, stored: BatchStored) -> None:
        self._outside.announcer.announce("logs", agent_id)
        if stored.incidents_created:
            self._outside.announcer.announce("incidents", agent_id)

    def _take_batches(self, tx: Transaction, items: Sequence[TakenBatch]) -> Sequence[BatchStored]:
        streams = [stream_of(taken.agent_id, taken.batch) for taken in items]
        intake = _Intake(tx.logs.acked_seqs({stream for stream in streams if stream is not None}))
        parts = [intake.take(taken, stream) for taken, stream in zip(items, streams, strict=True)]
        tx.logs.add([line for part in parts for line in part.lines])
        tx.logs.advance(intake.advanced)
        record_uses(tx, (line for part in parts for line in part.lines))
        created = self._record_sightings(tx, parts)
        stored = [
            BatchStored(len(taken.batch.logs), count, part.acked_seq)
            for taken, part, count in zip(items, parts, created, strict=True)
        ]
        tx.audit.add(
            [
                event
                for taken, part, count in zip(items, parts, created, strict=True)
                for event in _events(taken, part, count)
            ]
        )
        return stored

    def _record_sightings(self, tx: Transaction, parts: Sequence["_Part"]) -> list[int]:
        """Open or count incidents, one write for each PC and code; returns how many each batch opened."""
        seen = [[found for line in part.lines if (found := sighting_of(line))] for part in parts]
        opened = {
            (sighting.agent_id, sighting.code)
            for sighting in merged(chain.from_iterable(seen))
            if self._incidents.record(tx, sighting)
        }
        counts = []
        for sightings in seen:
            first_seen = opened & {(sighting.agent_id, sighting.code) for sighting in sightings}
            opened -= first_seen
            counts.append(len(first_seen))
        return counts


@dataclass(frozen=True, slots=True)
class _Part:
    """What one batch adds: the lines not held yet, the numbers missing before them, the highest number held after."""

    lines: Sequence[LogLine]
    missing: range
    acked_seq: int | None


class _Intake:
    """The positions of the streams while the batches of one transaction are taken, one after the other."""

    def __init__(self, held: Mapping[LogStream, int]) -> None:
        self._held = dict(held)
        self.advanced: dict[LogStream, int] = {}

    def take(self, taken: TakenBatch, stream: LogStream | None) -> _Part:
        held = 0 if stream is None else self._held.get(stream, 0)
        batch = taken.batch
        lines = [line_of(taken.agent_id, entry, taken.at) for entry in unseen_entries(batch, held)]
        if stream is None or batch.first_seq is None:
            return _Part(lines, range(0), None)
        missing = missing_before(batch, held)
        if batch.logs:
            held = max(held, batch.first_seq + len(batch.logs) - 1)
            self._held[stream] = self.advanced[stream] = held
        return _Part(lines, missing, held)


def _events(taken: TakenBatch, part: _Part, incidents_created: int) -> Iterator[AuditEvent]:
    if part.lines:
        yield _batch_event(taken, len(part.lines), incidents_created)
    if part.missing:
        yield _gap_event(taken, part.missing)


def _gap_event(taken: TakenBatch, missing: range) -> AuditEvent:
    """Say which numbers never came: after a restored database, for one, that the PC has sent to the lost one."""
    return AuditEvent(
        ts=taken.at,
        actor=agent_actor(taken.agent_id),
        event_type="log_gap",
        ref_id=taken.agent_id,
        agent_id=taken.agent_id,
        payload={
            "stream": taken.batch.stream,
            "epoch": taken.batch.epoch,
            "from_seq": missing.start,
            "to_seq": missing.stop - 1,
        },
    )


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
