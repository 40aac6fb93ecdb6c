"""What a transaction tells the other server processes on the same PostgreSQL, and what it heard from them.

The notification is part of the transaction: PostgreSQL sends it when, and only when, that is durable
(https://www.postgresql.org/docs/current/sql-notify.html). It carries ids alone; whoever hears it reads the database.
"""

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from reco3.server.services.neighbours import News

CHANNEL = "reco3"
# A payload must be shorter than 8,000 bytes.
MOST_BYTES = 6_000
MOST_IDS = 50
MOST_TOLD = 10
WITHIN_S = 0.25


class _Payload(msgspec.Struct, omit_defaults=True):
    """A notification's text."""

    process: str
    orders: list[str] = []
    keys: list[str] = []
    topics: list[str] = []
    agent_ids: list[str] = []
    dismissed: list[str] = []
    has_trust_changes: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Payload).decode


class Hints:
    """What one transaction wrote that neighbours remember or show."""

    def __init__(self) -> None:
        self.orders: set[str] = set()
        self.keys: set[str] = set()
        self.dismissed: set[str] = set()
        self.heard: dict[str, None] = {}
        self.topics: set[str] = set()
        self.agent_ids: dict[str, None] = {}
        self.has_trust_changes = False

    def show(self, topic: str, agent_ids: Iterable[str]) -> None:
        """Dashboards show something of these PCs that has changed; beyond some they read all of it anyway."""
        self.topics.add(topic)
        for agent_id in agent_ids:
            if len(self.agent_ids) < MOST_IDS:
                self.agent_ids[agent_id] = None

    def hear(self, agent_ids: Iterable[str]) -> None:
        """These PCs sent heartbeats: all day long, so it can wait for a moment."""
        for agent_id in agent_ids:
            if len(self.heard) < MOST_IDS:
                self.heard[agent_id] = None


class Telling:
    """Makes notifications of hints; heartbeats of a large fleet are told a few times a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.process = uuid.uuid4().hex
        self._clock = clock
        self._told_at: deque[float] = deque(maxlen=MOST_TOLD)
        self._untold: dict[str, None] = {}

    def payloads(self, hints: Hints) -> list[str]:
        """What to tell with this transaction: nothing, or one notification, or more where one is too short."""
        for agent_id in hints.heard:
            if len(self._untold) < MOST_IDS:
                self._untold[agent_id] = None
        if self._untold and self._may_tell():
            hints.show("agents", self._untold)
            self._untold = {}
        orders, keys, dismissed = sorted(hints.orders), sorted(hints.keys), sorted(hints.dismissed)
        whole = _Payload(
            self.process,
            topics=sorted(hints.topics),
            agent_ids=next(_parts(hints.agent_ids), []),
            has_trust_changes=hints.has_trust_changes,
        )
        parts = [whole] if whole.topics or whole.has_trust_changes else []
        parts += [_Payload(self.process, orders=part) for part in _parts(orders)]
        parts += [_Payload(self.process, keys=part) for part in _parts(keys)]
        parts += [_Payload(self.process, dismissed=part) for part in _parts(dismissed)]
        return [_encode(part).decode() for part in parts]

    def read(self, payload: str) -> News:
        """What a notification says; nothing, when somebody else wrote it."""
        try:
            told = _decode(payload)
        except msgspec.MsgspecError:
            return News()
        return News(
            is_own=told.process == self.process,
            orders=tuple(told.orders),
            keys=tuple(told.keys),
            topics=tuple(told.topics),
            agent_ids=tuple(told.agent_ids),
            dismissed=tuple(told.dismissed),
            has_trust_changes=told.has_trust_changes,
        )

    def _may_tell(self) -> bool:
        now = self._clock()
        if len(self._told_at) == MOST_TOLD and now - self._told_at[0] < WITHIN_S:
            return False
        self._told_at.append(now)
        return True


def _parts(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids in lists that fit a notification, whatever is in them."""
    part: list[str] = []
    size_bytes = 0
    for one in ids:
        more_bytes = len(_encode(one)) + 1
        if part and size_bytes + more_bytes > MOST_BYTES:
            yield part
            part, size_bytes = [], 0
        part.append(one)
        size_bytes += more_bytes
    if part:
        yield part
