"""One HTTP connection of a simulated PC: a request at a time, its answer read with as little work as possible.

It takes the answers that RECO3 gives, with a `content-length`; a chunked or unreadable answer is an error, never a
guess. It refuses to decide what happens after a failure.
"""

import asyncio
import functools
import itertools
import json
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from reco3.swarm.pcs import SimulatedPc
from reco3.swarm.targets import Target

CONNECT_TIMEOUT_S = 5.0
MAX_OPENING = 256
MAX_ANSWER_BYTES = 2 * 1024 * 1024
# Linux chooses the port when it knows the destination too, so that one port serves many connections.
_IP_BIND_ADDRESS_NO_PORT = 24
_HEAD_END = b"\r\n\r\n"
_WITHOUT_BODY = (b"204", b"304")


class Kind(StrEnum):
    """What a request is for."""

    HEARTBEAT = "heartbeat"
    LOGS = "logs"
    PULL = "pull"
    REPORT = "report"


class Trouble(StrEnum):
    """Why no answer came."""

    CUT = "cut"
    CLOSED = "closed"
    STALE = "stale"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    MALFORMED = "malformed"


class Errand(NamedTuple):
    """A request on its way: `scheduled_at` is when the PC should have sent it, by the monotonic clock.

    `is_cut_early` closes the connection right after sending, `is_cut_late` when the answer arrives.
    A named tuple, because thousands are made a second and a frozen dataclass takes five times as long.
    """

    pc: SimulatedPc
    kind: Kind
    request: bytes
    scheduled_at: float
    timeout_s: float
    is_cut_early: bool = False
    is_cut_late: bool = False


class Answer(NamedTuple):
    """What came back; a named tuple for the same reason."""

    status: int
    body: bytes
    retry_after: bytes | None = None

    def retry_after_s(self) -> float | None:
        """The delay that the server asks for."""
        return parse_retry_after_s(self.retry_after, datetime.now(UTC))

    @property
    def words(self) -> dict[str, Any]:
        """The JSON object in the body; empty when there is none."""
        try:
            words = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return words if isinstance(words, dict) else {}


class Owner(Protocol):
    """Who uses a connection."""

    def answered(self, connection: "Connection", errand: Errand, answer: Answer) -> None:
        """An answer is complete; the connection is free again, or closing."""

    def closed(self, connection: "Connection", errand: Errand | None, trouble: Trouble) -> None:
        """The connection is gone, with this errand unanswered."""

    def watch(self, connection: "Connection") -> None:
        """Call `check_deadline` at `deadline_at` or a little later."""


class Connection(asyncio.Protocol):
    """A kept-alive connection."""

    __slots__ = (
        "_errand",
        "_has_answered",
        "_owner",
        "_transport",
        "_trouble",
        "_unread",
        "deadline_at",
        "is_open",
        "is_watched",
        "sent_at",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._errand: Errand | None = None
        self._unread = b""
        self._trouble: Trouble | None = None
        self._has_answered = False
        self.is_open = False
        self.is_watched = False
        self.deadline_at = 0.0
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.is_open = True

    @property
    def pending(self) -> Errand | None:
        """What has no answer yet."""
        return self._errand

    def send(self, errand: Errand) -> None:
        """Send a request; the connection must be free."""
        self._errand = errand
        self.sent_at = time.monotonic()
        self.deadline_at = self.sent_at + errand.timeout_s
        self._transport.write(errand.request)
        if errand.is_cut_early:
            self.close(Trouble.CUT)
        elif not self.is_watched:
            self.is_watched = True
            self._owner.watch(self)

    def close(self, trouble: Trouble | None = None) -> None:
        """Close, after what was written has left; an unanswered errand ends in this trouble."""
        self.is_open = False
        self._trouble = self._trouble or trouble
        self._transport.close()

    def check_deadline(self, now: float) -> bool:
        """Give up an answer that is overdue; returns whether there is something left to watch."""
        if self._errand is None or not self.is_open:
            self.is_watched = False
        elif now >= self.deadline_at:
            self.is_watched = False
            self.is_open = False
            self._trouble = Trouble.TIMED_OUT
            self._transport.abort()
        return self.is_watched

    def data_received(self, data: bytes) -> None:
        """Read an answer to its end."""
        errand = self._errand
        if errand is None or not self.is_open:
            self.close(Trouble.MALFORMED)
            return
        if errand.is_cut_late:
            self.close(Trouble.CUT)
            return
        received = self._unread + data if self._unread else data
        head_end = received.find(_HEAD_END)
        if head_end < 0:
            self._keep(received)
            return
        head = _read_head(received[:head_end])
        missing = 0 if head is None else head_end + len(_HEAD_END) + head.body_bytes - len(received)
        if head is None or missing < 0:
            self.close(Trouble.MALFORMED)
        elif missing:
            self._keep(received)
        else:
            self._finish(errand, head, received[head_end + len(_HEAD_END) :])

    def _keep(self, received: bytes) -> None:
        self._unread = received
        if len(received) > MAX_ANSWER_BYTES:
            self.close(Trouble.MALFORMED)

    def _finish(self, errand: Errand, head: "_Head", body: bytes) -> None:
        self._unread = b""
        self._errand = None
        self._has_answered = True
        if head.is_last:
            self.close()
        self._owner.answered(self, errand, Answer(head.status, body, head.retry_after))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the owner once."""
        self.is_open = False
        errand, self._errand = self._errand, None
        # A kept-alive connection may be closed by the server in the moment in which it is used again.
        by_peer = Trouble.STALE if self._has_answered and not self._unread else Trouble.CLOSED
        self._owner.closed(self, errand, self._trouble or by_peer)


class Connector:
    """Opens connections, at most `MAX_OPENING` at a time, from one source address after the other."""

    def __init__(self, target: Target, sources: Sequence[str]) -> None:
        self._target = target
        self._sources = itertools.cycle(sources) if sources else None
        self._room = asyncio.Semaphore(MAX_OPENING)
        self._tls = ssl.create_default_context() if target.is_tls else None

    async def open(self, factory: Callable[[], Connection]) -> Connection:
        """An open connection.

        Raises:
            OSError: nobody listens there, or nobody answered in time.
        """
        async with self._room, asyncio.timeout(CONNECT_TIMEOUT_S):
            return await self._open(factory)

    async def _open(self, factory: Callable[[], Connection]) -> Connection:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self._target.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(0)
            self._bind(sock)
            await loop.sock_connect(sock, (self._target.address, self._target.port))
            server_hostname = self._target.host if self._tls else None
            _, connection = await loop.create_connection(
                factory, sock=sock, ssl=self._tls, server_hostname=server_hostname
            )
        except BaseException:
            sock.close()
            raise
        return connection

    def _bind(self, sock: socket.socket) -> None:
        if self._sources is None:
            return
        if sys.platform == "linux":
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((next(self._sources), 0))


class _Head(NamedTuple):
    status: int
    body_bytes: int
    is_last: bool
    retry_after: bytes | None


@functools.lru_cache(maxsize=64)
def _read_head(head: bytes) -> _Head | None:
    """What a head says, None when it cannot be understood; within a second all good answers have the same."""
    lower = head.lower()
    status, size = lower[9:12], _header(lower, b"\r\ncontent-length:")
    if size is None and status in _WITHOUT_BODY:
        size = b"0"
    is_readable = lower.startswith(b"http/1.") and status.isdigit() and size is not None and size.isdigit()
    if size is None or not is_readable or b"\r\ntransfer-encoding:" in lower:
        return None
    is_last = b"\r\nconnection: close" in lower or lower.startswith(b"http/1.0")
    return _Head(int(status), int(size), is_last, _header(lower, b"\r\nretry-after:"))


def parse_retry_after_s(text: bytes | None, now: datetime) -> float | None:
    """The delay in a `Retry-After`, given as seconds or as an HTTP date; None when there is none to be read."""
    if not text:
        return None
    if text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text.decode("ascii", "replace"))
    except (ValueError, OverflowError):
        return None
    return max(0.0, (moment - now).total_seconds()) if moment.tzinfo else None


def _header(head: bytes, name: bytes) -> bytes | None:
    start = head.find(name)
    if start < 0:
        return None
    start += len(name)
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()
