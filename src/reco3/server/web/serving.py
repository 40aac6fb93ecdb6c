"""The HTTP server itself: uvicorn with the deadlines and the farewell that it lacks.

Stock uvicorn waits for ever for the rest of a request that has begun; here a request must arrive in time.
"""

import asyncio
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reco3.server.domain.errors import StartRefused

HEADERS_DEADLINE_S = 10.0
MESSAGE_DEADLINE_S = 30.0
MAX_HEAD_BYTES = 64 * 1024
KEEP_ALIVE_S = 75
AGENT_PATHS = "/agent/"
GRACEFUL_S = 10
# A fleet that comes back after a restart knocks all at once.
BACKLOG = 4096


class DeadlineProtocol(HttpToolsProtocol):
    """Closes a connection whose headers or body do not arrive in time, or whose headers are endless.

    `give_back`, if there is one, gets the connection again once an agent's request is answered and none is being read.
    """

    give_back: Callable[[], None] | None = None
    _deadline: asyncio.TimerHandle | None = None
    _is_in_head = True
    _is_between_requests = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a fresh connection owes us a request."""
        super().connection_made(transport)
        self._start_clock(HEADERS_DEADLINE_S)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a header that has not ended: the parser keeps it without telling us."""
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > 2 * MAX_HEAD_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Start the clock of a further request on a kept connection."""
        super().on_message_begin()
        self._is_between_requests = False
        self._is_in_head, self._head_bytes = True, 0
        self._start_clock(HEADERS_DEADLINE_S)

    def on_url(self, url: bytes) -> None:
        """Count the address as it comes."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header that is complete."""
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Give the body its own time."""
        self._is_in_head = False
        self._start_clock(MESSAGE_DEADLINE_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the clock: now we owe an answer."""
        self._stop_clock()
        self._is_between_requests = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give the connection back, if it was lent to us for this request."""
        has_more = bool(self.pipeline) or not self._is_between_requests
        super().on_response_complete()
        if self.give_back is None or has_more or self.transport.is_closing():
            return
        if self.scope["path"].startswith(AGENT_PATHS):
            self._unset_keepalive_if_required()
            self.connections.discard(self)
            self.give_back()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock of a connection that is gone."""
        self._stop_clock()
        super().connection_lost(exc)

    def _count_head(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > MAX_HEAD_BYTES:
            # The parser turns what its callbacks raise into "400, connection: close".
            raise ValueError(f"the head of a request exceeds {MAX_HEAD_BYTES} bytes")

    def _start_clock(self, seconds: float) -> None:
        self._stop_clock()
        self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class FarewellServer(uvicorn.Server):
    """Tells those who wait that the server stops, so that it can answer everybody it accepted."""

    def __init__(self, config: uvicorn.Config, say_farewell: Callable[[], None]) -> None:
        super().__init__(config)
        self._say_farewell = say_farewell

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Note the signal; a second Ctrl-C leaves without farewell. Unlike uvicorn's own, an ordered stop exits 0."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Release held pulls and live streams first, then let uvicorn finish the rest."""
        self._say_farewell()
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        StartRefused: the address is taken or not ours; the message says which.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as err:
        listener.close()
        raise StartRefused(
            f"Cannot listen on {host}:{port}: {getattr(err, 'strerror', None) or err}. "
            "Stop what uses that port, or choose another with PORT and RECO3_HOST."
        ) from err
    return listener


def serve(
    app: ASGIApp, listener: socket.socket, protocol: Callable[..., Any], say_farewell: Callable[[], None]
) -> None:
    """Serve until SIGINT or SIGTERM; everything that was accepted is answered."""
    options: dict[str, Any] = {
        "http": protocol,
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": GRACEFUL_S,
        "proxy_headers": False,
        "lifespan": "on",
        "backlog": BACKLOG,
    }
    server = FarewellServer(uvicorn.Config(app, **options), say_farewell)
    server.run(sockets=[listener])
