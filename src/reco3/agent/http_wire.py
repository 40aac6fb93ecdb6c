"""Speaks HTTP/1.1 over one socket: a request in one write, an answer to its end or only its head.

It refuses an unverified certificate, an answer that is not plainly HTTP, and to read longer or more than it was told.
It stands in for `http.client`, which brings `email` and `ssl` along and with them six megabytes.
"""

import functools
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl

MAX_HEAD_BYTES = 64 * 1024
_RECEIVE_BYTES = 16 * 1024
_NO_BODY_STATUSES = (204, 304)
_FIRST_FINAL_STATUS = 200
_DEFAULT_PORTS = {False: 80, True: 443}

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: ([^\r\n]*))?")
_HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(rf"[A-Z][a-z]{{2}}, (\d\d) ({'|'.join(_MONTHS)}) (\d{{4}}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII)


class NotHttpError(Exception):
    """What came is no HTTP answer; the text says why."""


class TooLargeError(Exception):
    """More came than was to be read."""


class HungUpError(ConnectionError):
    """The other side closed the connection before the answer was whole."""


@dataclass(frozen=True, slots=True)
class Head:
    """An answer's status line and headers; the names of headers are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    is_last: bool


class Connection:
    """One connection, used for one exchange after the other: `send`, `read_head`, `read_body`.

    Every method raises OSError, of it TimeoutError when the deadline has passed and HungUpError when nobody is there
    any more; reading raises NotHttpError and TooLargeError besides.
    """

    def __init__(self, host: str, port: int, *, is_tls: bool, timeout_s: float) -> None:
        self._is_tls = is_tls
        self._host = _host_header(host, port, is_tls=is_tls)
        self._socket = _connected(host, port, is_tls=is_tls, timeout_s=timeout_s)
        self._received = bytearray()
        self._deadline_s = 0.0
        self._is_spent = False

    @property
    def is_reusable(self) -> bool:
        """Whether another exchange may follow: the last answer was read to its end, and nothing came behind it."""
        return not self._is_spent and not self._received

    def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> None:
        """Send a request in one write: in two, the server would wake up twice. The time limit is for the answer too."""
        self._deadline_s = time.monotonic() + timeout_s
        self._is_spent = True
        self._socket.settimeout(timeout_s)
        request = _request(method, target, {"Host": self._host, **headers}, body)
        try:
            self._socket.sendall(request)
        except OSError as error:
            raise self._as_hung_up(error) from error

    def read_head(self) -> Head:
        """Read up to where the body begins; what an answer says before its final status is skipped."""
        size_bytes = 0
        while True:
            status_line = _StatusLine.read(self._line(MAX_HEAD_BYTES - size_bytes))
            lines = []
            while line := self._line(MAX_HEAD_BYTES - size_bytes):
                size_bytes += len(line) + 2
                lines.append(line)
            if status_line.status >= _FIRST_FINAL_STATUS:
                return _head(status_line, lines)
            size_bytes += 2

    def read_body(self, head: Head, *, max_bytes: int) -> bytes:
        """Read the body that follows a head, to its end; after that the connection may be reusable."""
        is_last = head.is_last
        encoding, length = head.headers.get("transfer-encoding"), head.headers.get("content-length")
        if head.status in _NO_BODY_STATUSES:
            content = b""
        elif encoding is not None:
            if encoding.lower() != "chunked" or length is not None:
                raise NotHttpError("its length cannot be told")
            content = self._chunks(max_bytes)
        elif length is not None:
            content = self._exactly(_length(length, max_bytes))
        else:
            is_last = True
            content = self._all(max_bytes)
        self._is_spent = is_last
        return content

    def shut_down(self) -> None:
        """Break off what is going on, from another thread."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # It was closed in the same moment, which is what was wanted.

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _chunks(self, max_bytes: int) -> bytes:
        content = bytearray()
        while size_bytes := _chunk_bytes(self._line(MAX_HEAD_BYTES)):
            if len(content) + size_bytes > max_bytes:
                raise TooLargeError
            content += self._exactly(size_bytes)
            if self._line(MAX_HEAD_BYTES):
                raise NotHttpError("a chunk is longer than it says")
        while self._line(MAX_HEAD_BYTES):  # Trailers tell nothing that we ask for.
            continue
        return bytes(content)

    def _all(self, max_bytes: int) -> bytes:
        try:
            while len(self._received) <= max_bytes:
                self._receive()
        except HungUpError:
            return self._taken(len(self._received))
        raise TooLargeError

    def _exactly(self, size_bytes: int) -> bytes:
        while len(self._received) < size_bytes:
            self._receive()
        return self._taken(size_bytes)

    def _line(self, max_bytes: int) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > max_bytes:
                raise NotHttpError("its head is too long")
            self._receive()
        return self._taken(end + 1).removesuffix(b"\n").removesuffix(b"\r")

    def _taken(self, size_bytes: int) -> bytes:
        taken = bytes(self._received[:size_bytes])
        del self._received[:size_bytes]
        return taken

    def _receive(self) -> None:
        remaining_s = self._deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        try:
            self._socket.settimeout(remaining_s)
            part = self._socket.recv(_RECEIVE_BYTES)
        except OSError as error:
            raise self._as_hung_up(error) from error
        if not part:
            raise HungUpError
        self._received += part

    def _as_hung_up(self, error: OSError) -> OSError:
        is_hung_up = isinstance(error, ConnectionError) or (self._is_tls and isinstance(error, _tls_endings()))
        return HungUpError() if is_hung_up else error


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses behind a name, as a connection would try them. Raises: OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def parse_date(text: str | None) -> datetime | None:
    """Read a date as HTTP writes it today; None for anything else."""
    found = _DATE.fullmatch(text) if text else None
    if found is None:
        return None
    day, month, year, hour, minute, second = found.groups()
    try:
        return datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None


def _connected(host: str, port: int, *, is_tls: bool, timeout_s: float) -> socket.socket:
    sock = socket.create_connection((host, port), timeout=timeout_s)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls_context().wrap_socket(sock, server_hostname=host) if is_tls else sock
    except BaseException:
        sock.close()
        raise


@functools.cache
def tls_context() -> "ssl.SSLContext":
    """One for all connections: the list of authorities takes megabytes."""
    import ssl  # noqa: PLC0415 - takes four megabytes, and an agent whose server is on this machine never needs it

    return ssl.create_default_context()


def _tls_endings() -> tuple[type[OSError], ...]:
    import ssl  # noqa: PLC0415 - as above

    return ssl.SSLEOFError, ssl.SSLZeroReturnError


def _host_header(host: str, port: int, *, is_tls: bool) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port == _DEFAULT_PORTS[is_tls] else f"{name}:{port}"


def _request(method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if any(not line.isprintable() for line in lines):
        raise ValueError("a request's head holds an unprintable character")
    return "\r\n".join((*lines, "", "")).encode("ascii") + (body or b"")


@dataclass(frozen=True, slots=True)
class _StatusLine:
    minor_version: int
    status: int
    reason: str

    @classmethod
    def read(cls, line: bytes) -> Self:
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise NotHttpError("it has no status line")
        minor_version, status, reason = found.groups()
        return cls(int(minor_version), int(status), (reason or b"").decode("latin-1"))


def _head(first: _StatusLine, lines: list[bytes]) -> Head:
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER_LINE.fullmatch(line)
        if header is None:
            raise NotHttpError("a line of its head is no header")
        name, value = header[1].decode("ascii").lower(), header[2].decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    is_last = first.minor_version == 0 or "close" in headers.get("connection", "").lower()
    return Head(first.status, first.reason, headers, is_last)


def _length(text: str, max_bytes: int) -> int:
    if not (text.isascii() and text.isdigit()):
        raise NotHttpError("its length is no number")
    if len(text) > len(str(max_bytes)) or int(text) > max_bytes:
        raise TooLargeError
    return int(text)


def _chunk_bytes(line: bytes) -> int:
    found = _CHUNK_LINE.fullmatch(line)
    if found is None:
        raise NotHttpError("the size of a chunk is no number")
    return int(found[1], 16)
