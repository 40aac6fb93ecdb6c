"""What the services need from the outside, as protocols.

The store, the live stream and the wake-ups implement these; `wiring` brings them together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from reco3.server.domain.agents import Agent
from reco3.server.domain.audit import AuditEvent, RecordedEvent
from reco3.server.domain.commands import Approval, Command
from reco3.server.domain.incidents import Incident, IncidentStatus
from reco3.server.domain.logs import LogLine, LogPosition
from reco3.server.domain.metrics import Sample
from reco3.server.domain.operators import Session

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Cursor = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class ErrorTally:
    """The recent trouble of one PC: how many ERROR and CRITICAL lines, and the latest of them."""

    count: int
    last_msg: str
    last_at: datetime


class AgentRows(Protocol):
    """The `agent_status` table."""

    def named(self, agent_ids: Sequence[str]) -> dict[str, Agent]: ...
    def put(self, agents: Sequence[Agent]) -> None: ...
    def page(self, *, after: str, limit: int) -> list[Agent]: ...
    def silent_since(self, cutoff: datetime) -> list[Agent]: ...
    def earliest_last_seen_online(self) -> datetime | None: ...
    def count(self) -> int: ...
    def count_seen_after(self, cutoff: datetime) -> int: ...


class SampleRows(Protocol):
    """The `metric_samples` table."""

    def add(self, samples: Sequence[Sample]) -> None: ...
    def since(self, agent_id: str, start: datetime, *, limit: int) -> list[Sample]: ...
    def prune(self, before: datetime, *, limit: int) -> int: ...


class LogRows(Protocol):
    """The `agent_logs` table and the positions of numbered streams."""

    def add(self, lines: Sequence[LogLine]) -> None: ...
    def acked_seq(self, agent_id: str, stream: str, epoch: str) -> int: ...
    def advance(self, agent_id: str, position: LogPosition) -> None: ...
    def newest(self, agent_id: str, *, before_id: int | None, limit: int) -> list[LogLine]: ...
    def error_tallies(self, agent_ids: Sequence[str], *, since: datetime) -> dict[str, ErrorTally]: ...
    def prune(self, before: datetime, *, limit: int) -> int: ...


class CommandRows(Protocol):
    """The `agent_commands` and `approvals` tables."""

    def add(self, command: Command) -> None: ...
    def get(self, command_id: str) -> Command | None: ...
    def put(self, command: Command) -> None: ...
    def in_flight(self, agent_id: str) -> list[Command]: ...
    def newest(self, *, agent_id: str | None, before: Cursor | None, limit: int) -> list[Command]: ...
    def add_approval(self, approval: Approval) -> None: ...


class IncidentRows(Protocol):
    """The `incidents` table."""

    def get(self, incident_id: str) -> Incident | None: ...
    def open_of(self, agent_id: str, code: str) -> Incident | None: ...
    def add(self, incident: Incident) -> None: ...
    def put(self, incident: Incident) -> None: ...
    def newest(self, *, status: IncidentStatus | None, before: Cursor | None, limit: int) -> list[Incident]: ...


class AuditRows(Protocol):
    """The append-only `audit_log` table."""

    def add(self, events: Sequence[AuditEvent]) -> None: ...
    def newest(
        self, *, event_type: str | None, actor: str | None, before_id: int | None, limit: int
    ) -> list[RecordedEvent]: ...


class KeyRows(Protocol):
    """The `agent_keys` table: hashes only."""

    def put(self, hashes: Mapping[str, str], now: datetime) -> None: ...
    def all(self) -> dict[str, str]: ...


class OperatorRows(Protocol):
    """The `operators` and `sessions` tables: hashes only."""

    def has_any(self) -> bool: ...
    def add(self, *, name: str, role: str, api_key_hash: str, now: datetime) -> None: ...
    def by_key_hash(self, api_key_hash: str) -> tuple[str, str] | None: ...
    def add_session(self, session: Session) -> None: ...
    def session(self, token_hash: str) -> Session | None: ...
    def end_session(self, token_hash: str) -> None: ...
    def prune_sessions(self, now: datetime) -> None: ...


class Transaction(Protocol):
    """Every table inside one transaction."""

    @property
    def agents(self) -> AgentRows: ...
    @property
    def samples(self) -> SampleRows: ...
    @property
    def logs(self) -> LogRows: ...
    @property
    def commands(self) -> CommandRows: ...
    @property
    def incidents(self) -> IncidentRows: ...
    @property
    def audit(self) -> AuditRows: ...
    @property
    def keys(self) -> KeyRows: ...
    @property
    def operators(self) -> OperatorRows: ...


class Store(Protocol):
    """The database.

    A write returns once its transaction is durable.
    Writes that wait together share one transaction; `work` may run again when a neighbour fails, so it must not
    change anything but the transaction.
    """

    async def write(self, work: Callable[[Transaction], ResultT]) -> ResultT: ...
    async def write_grouped(
        self, work: Callable[[Transaction, Sequence[ItemT]], Sequence[ResultT]], item: ItemT
    ) -> ResultT: ...
    async def read(self, query: Callable[[Transaction], ResultT]) -> ResultT: ...


class Announcer(Protocol):
    """The live stream to open dashboards: hints at what changed, never the content."""

    def announce(self, topic: str, agent_id: str) -> None: ...


class Clock(Protocol):
    """The time of day, as an aware UTC datetime."""

    def __call__(self) -> datetime: ...


class Ids(Protocol):
    """Fresh ids that nobody can guess."""

    def __call__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Outside:
    """Everything a service needs that is not a rule."""

    store: Store
    announcer: Announcer
    clock: Clock
    new_id: Ids
