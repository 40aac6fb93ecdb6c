"""A bare uvloop HTTP server that answers 200 to whatever comes: the ceiling that a load generator can be held against.

It refuses to look at what it is told: no key is checked and nothing is stored.
Usage: `python bench/echo_server.py [PORT]`; it prints the address that it serves.
"""

import asyncio
import re
import signal
import sys

import uvloop

BODY = b'{"status":"ok","commands":[],"poll_after_s":30}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
BACKLOG = 4096
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Echo(asyncio.Protocol):
    """One connection; requests follow each other without pipelining."""

    __slots__ = ("_transport", "_unread")

    def __init__(self) -> None:
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a request is whole."""
        received = self._unread + data if self._unread else data
        head_end = received.find(b"\r\n\r\n")
        found = _LENGTH.search(received, 0, head_end) if head_end >= 0 else None
        body_bytes = int(found[1]) if found else 0
        if head_end < 0 or len(received) < head_end + 4 + body_bytes:
            self._unread = received
            return
        self._unread = b""
        self._transport.write(ANSWER)  # type: ignore[attr-defined]


async def serve(port: int) -> None:
    """Serve on loopback until a signal says stop."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(Echo, "127.0.0.1", port, backlog=BACKLOG)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
