"""The express lane: heartbeats, log lines and held pulls of known agents, without a task or an ASGI call each.

It refuses to decide anything twice: a request that is not plain, whole and from a known agent is handed, unread, to the
ordinary protocol, with its connection until that is answered; every error and every denial is answered there.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from hashlib import sha256
from itertools import takewhile
from typing import Any

import msgspec
from uvicorn.config import Config
from uvicorn.server import ServerState

from reco3.protocol.limits import LEFT_ALONE_S
from reco3.server.domain.commands import NOTHING, Pulled
from reco3.server.domain.errors import Reco3Error
from reco3.server.services.agent_keys import AgentKeyService
from reco3.server.services.agents import AgentService
from reco3.server.services.deliveries import DeliveryService
from reco3.server.services.logs import BatchStored, LogService, TakenBatch
from reco3.server.services.trust_changes import TrustChangeService
from reco3.server.services.wakeups import Wake, Wakeups
from reco3.server.web.agent_api import decode_logs, stored_shape
from reco3.server.web.connections import Crowd
from reco3.server.web.express_requests import ExpressRequest, body_behind, read_request
from reco3.server.web.heartbeats import heartbeat_of
from reco3.server.web.shapes import pull_shape, time_text

FIRST_REQUEST_S = 10.0
KEEP_ALIVE_S = 75.0
SWEEP_S = 1.0
MAX_UNREAD_BYTES = 256 * 1024

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_ANSWER = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncache-control: no-store\r\n%bcontent-length: %d\r\n\r\n%b"
_BUSY = b'{"error":"busy","message":"The database cannot write now; nothing was stored. Send this again in a moment."}'
_DEFECT = b'{"error":"internal_error","message":"The server failed here; its log says why."}'


@dataclass(frozen=True, slots=True)
class ExpressServices:
    """The use cases that the lane calls."""

    keys: AgentKeyService
    agents: AgentService
    deliveries: DeliveryService
    wakeups: Wakeups
    trust_changes: TrustChangeService
    logs: LogService


class ExpressLane:
    """What all express connections share: the services, the deadlines, and the way to the ordinary protocol."""

    def __init__(
        self,
        services: ExpressServices,
        ordinary: Callable[..., Any],
        crowd: Crowd,
        clock: Callable[[], datetime],
    ) -> None:
        self.services = services
        self.crowd = crowd
        self.clock = clock
        self.fresh: dict[ExpressProtocol, float] = {}
        self.idle: dict[ExpressProtocol, float] = {}
        self.held: dict[int, set[ExpressProtocol]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._ordinary = ordinary
        self._sweeper: asyncio.Task[None] | None = None

    def __call__(self, *, config: Config, server_state: ServerState, app_state: dict[str, Any], **_: Any) -> Any:
        """A protocol for one new connection; uvicorn calls this."""
        if self._sweeper is None:
            self.crowd.watch(server_state.connections)
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep_for_ever())
        return ExpressProtocol(self, partial(self._ordinary, config, server_state, app_state), server_state)

    def hold(self, connection: "ExpressProtocol", wait_s: int) -> int:
        """Answer this pull after `wait_s` seconds unless it is released; returns where it is kept."""
        due_s = math.ceil(time.monotonic() + wait_s)
        self.held.setdefault(due_s, set()).add(connection)
        return due_s

    def release(self, connection: "ExpressProtocol", due_s: int) -> None:
        """Forget a held pull."""
        kept = self.held.get(due_s)
        if kept is not None:
            kept.discard(connection)

    def sweep(self, now_s: float) -> None:
        """Answer the pulls whose time is over, and close what has been silent for too long."""
        for due_s in [due_s for due_s in self.held if due_s <= now_s]:
            for connection in list(self.held[due_s]):
                connection.answer_pull(NOTHING)
            self.held.pop(due_s, None)
        _close_older(self.fresh, now_s - FIRST_REQUEST_S)
        _close_older(self.idle, now_s - KEEP_ALIVE_S)

    def follow(self, task: "asyncio.Task[None]") -> None:
        """Keep a task alive until it is done."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(time.monotonic())


def _close_older(waiting: "dict[ExpressProtocol, float]", limit_s: float) -> None:
    # The longest silent stand first.
    silent = list(takewhile(lambda connection: waiting[connection] <= limit_s, waiting))
    for connection in silent:
        del waiting[connection]
        connection.close()


@lru_cache(maxsize=1)  # All heartbeats are answered with the same one.
def _trust_part(revision: int) -> bytes:
    return b',"trust_changes":%d' % revision if revision else b""


class ExpressProtocol(asyncio.Protocol):
    """One agent's connection: idle, or owing exactly one answer."""

    __slots__ = (
        "_agent_id",
        "_due_s",
        "_has_asked",
        "_head_hash",
        "_head_size",
        "_is_last",
        "_is_waiting",
        "_journal",
        "_key_changes",
        "_lane",
        "_left_s",
        "_make_ordinary",
        "_owes",
        "_state",
        "_transport",
        "_unread",
        "_was_woken",
    )

    def __init__(self, lane: ExpressLane, make_ordinary: Callable[[], Any], state: ServerState) -> None:
        self._lane = lane
        self._make_ordinary = make_ordinary
        self._state = state
        self._transport: Any = None
        self._unread = b""
        self._agent_id = ""
        self._head_size = 0
        self._head_hash = b""
        self._key_changes = 0
        self._journal: str | None = None
        self._due_s = 0
        self._left_s = 0
        self._owes = False
        self._is_last = False
        self._is_waiting = False
        self._was_woken = False
        self._has_asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; it owes us a request soon."""
        self._transport = transport
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._lane.fresh[self] = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget everything about the connection."""
        self._leave()
        self._is_last = True

    def data_received(self, data: bytes) -> None:
        """Answer a plain request of a known agent; hand anything else to the ordinary protocol."""
        if self._owes:
            self._keep_unread(data)
            return
        lane = self._lane
        lane.fresh.pop(self, None)
        lane.idle.pop(self, None)
        if self._head_size and (body := self._body_behind_known_head(data)) is not None:
            self._is_last = self._is_last or lane.crowd.is_full
            if not self._take_heartbeat(body):
                self._hand_over(data)
            return
        request = read_request(data)
        if request is None or not lane.services.keys.is_valid(request.agent_id, request.key):
            self._hand_over(data)
            return
        self._is_last = self._is_last or request.is_last or lane.crowd.is_full
        self._agent_id = request.agent_id
        self._know_head(data[: request.head_size])
        if request.body is None:
            self._take_pull(request)
        elif not (self._take_logs if request.has_logs else self._take_heartbeat)(request.body):
            self._hand_over(data)

    def shutdown(self) -> None:
        """Close once nothing is owed; uvicorn calls this when the server stops."""
        self._is_last = True
        if not self._owes:
            self._transport.close()

    def close(self) -> None:
        """Close a connection that owes nothing."""
        self._transport.close()

    def answer_pull(self, pulled: Pulled, *, poll_after_s: int | None = None) -> None:
        """Answer the pull that is held."""
        self._let_go()
        content = pull_shape(pulled, journal=self._journal, poll_after_s=poll_after_s)
        self._answer(b"200 OK", _encode(content))

    def _know_head(self, head: bytes) -> None:
        """Let the next request in as this PC's if its head is the same, as long as nobody's key changes.

        The head holds the PC's key, so its hash is what is remembered.
        """
        self._head_size = len(head)
        if head:
            self._head_hash = sha256(head).digest()
            self._key_changes = self._lane.services.keys.changes

    def _body_behind_known_head(self, data: bytes) -> bytes | None:
        if self._key_changes != self._lane.services.keys.changes:
            return None
        if sha256(data[: self._head_size]).digest() != self._head_hash:
            return None
        return body_behind(data, self._head_size)

    def _take_heartbeat(self, body: bytes) -> bool:
        lane = self._lane
        try:
            taken = heartbeat_of(self._agent_id, body, lane.clock())
            lane.services.agents.post_heartbeat(taken, told=self._heartbeat_told)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Reco3Error):
            return False
        self._owes = True
        return True

    def _take_logs(self, body: bytes) -> bool:
        lane = self._lane
        try:
            taken = TakenBatch(self._agent_id, decode_logs(body), lane.clock())
            lane.services.logs.post_batch(taken, told=self._logs_told)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Reco3Error):
            return False
        self._owes = True
        return True

    def _logs_told(self, stored: BatchStored | None, error: BaseException | None) -> None:
        if error is not None or stored is None:
            self._answer_failed(error)
            return
        self._answer(b"200 OK", _encode(stored_shape(stored)))

    def _answer_failed(self, error: BaseException | None) -> None:
        """Say that nothing was stored: for now, or because of a defect, which sending again would not mend."""
        if error is None or isinstance(error, Reco3Error):
            self._answer(b"503 Service Unavailable\r\nretry-after: 5", _BUSY)
            return
        log.error("write_failed", exc_info=error)
        self._answer(b"500 Internal Server Error", _DEFECT)

    def _heartbeat_told(self, at: datetime | None, error: BaseException | None) -> None:
        if error is not None or at is None:
            self._answer_failed(error)
            return
        services = self._lane.services
        waiting = b',"commands_waiting":true' if services.wakeups.has_news(self._agent_id) else b""
        news = waiting + _trust_part(services.trust_changes.revision)
        self._answer(b"200 OK", b'{"status":"ok","server_time":"%b"%b}' % (time_text(at).encode(), news))

    def _take_pull(self, request: ExpressRequest) -> None:
        lane, self._journal = self._lane, request.journal
        self._owes, self._is_waiting, self._was_woken = True, True, False
        lane.services.deliveries.note_journal(self._agent_id, self._journal)
        lane.services.wakeups.enter(self._agent_id, self._woken)
        if lane.services.wakeups.may_have_news(self._agent_id):
            self._ask_database(request.wait_s)
        elif lane.crowd.is_tight:
            self.answer_pull(NOTHING, poll_after_s=LEFT_ALONE_S)
        else:
            self._hold(request.wait_s)

    @property
    def held_by_journal(self) -> str | None:
        """The journal that the agent named with its pull."""
        return self._journal

    @property
    def wake(self) -> Wake:
        """What wakes it."""
        return self._woken

    def reserve(self) -> None:
        """Take the held pull out of the table of those that are answered in time."""
        self._was_woken = False
        self._left_s = self._stop_holding()

    def give(self, pulled: Pulled) -> None:
        """Answer the reserved pull; a PC that hung up meanwhile is asked again, as after any lost answer."""
        self.answer_pull(pulled)

    def resume(self) -> None:
        """Wait on; look again first if somebody woke it meanwhile."""
        if self._is_gone:
            return
        if self._was_woken or self._left_s == 0:
            self._ask_database(self._left_s)
        else:
            self._hold(self._left_s)

    def _hold(self, wait_s: int) -> None:
        self._due_s = self._lane.hold(self, wait_s)
        self._lane.services.wakeups.offer(self._agent_id, self)

    def _stop_holding(self) -> int:
        """Forget the deadline of the held pull; returns how many seconds are left of it."""
        left_s = max(0, self._due_s - math.ceil(time.monotonic()))
        self._lane.release(self, self._due_s)
        self._lane.services.wakeups.withdraw(self._agent_id, self)
        self._due_s = 0
        return left_s

    def _woken(self) -> None:
        self._was_woken = True
        if self._due_s:
            self._ask_database(self._stop_holding())

    def _ask_database(self, wait_s: int) -> None:
        self._lane.follow(asyncio.get_running_loop().create_task(self._pull(wait_s)))

    async def _pull(self, wait_s: int) -> None:
        lane, pulled = self._lane, NOTHING
        try:
            # Whoever wakes us while the database is asked may have written after it looked.
            while pulled == NOTHING and (self._was_woken or not self._has_asked):
                self._was_woken, self._has_asked = False, True
                pulled = await lane.services.deliveries.pull_now(self._agent_id, journal=self._journal)
        except Reco3Error:
            self._fail(b"503 Service Unavailable\r\nretry-after: 5", _BUSY)
            return
        except Exception:  # the request's own boundary, as `answer_unexpected` is for the ordinary way
            log.exception("pull_failed")
            self._fail(b"500 Internal Server Error", _DEFECT)
            return
        self._has_asked = False
        may_wait = wait_s and self._is_waiting and not lane.services.wakeups.is_closing
        if pulled == NOTHING and may_wait:
            self._hold(wait_s)
        else:
            self.answer_pull(pulled)

    def _fail(self, status: bytes, body: bytes) -> None:
        self._has_asked = False
        self._let_go()
        self._answer(status, body)

    @property
    def _is_gone(self) -> bool:
        return bool(self._transport.is_closing())

    def _answer(self, status: bytes, body: bytes) -> None:
        self._owes = False
        if self._is_gone:
            return
        connection = b"connection: close\r\n" if self._is_last else b""
        self._transport.write(_ANSWER % (status, connection, len(body), body))
        if self._is_last:
            self._transport.close()
            return
        self._lane.idle[self] = time.monotonic()
        if self._unread:
            data, self._unread = self._unread, b""
            self.data_received(data)

    def _keep_unread(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) > MAX_UNREAD_BYTES:
            self._transport.close()

    def _let_go(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._lane.services.wakeups.leave(self._agent_id, self._woken)
        if self._due_s:
            self._stop_holding()

    def _leave(self) -> None:
        self._let_go()
        self._lane.fresh.pop(self, None)
        self._lane.idle.pop(self, None)
        self._state.connections.discard(self)

    def _hand_over(self, data: bytes) -> None:
        self._leave()
        self._owes = False
        ordinary = self._make_ordinary()
        ordinary.give_back = self._take_back
        self._transport.set_protocol(ordinary)
        ordinary.connection_made(self._transport)
        ordinary.data_received(data)

    def _take_back(self) -> None:
        """Go on with a connection whose odd request is answered: one batch of log lines slows nothing after it."""
        self._transport.set_protocol(self)
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._lane.idle[self] = time.monotonic()
