"""Carries the agent's messages to the server and back; the only file that speaks HTTP.

It refuses to follow redirects, to trust an unverified certificate, and to read more than it was promised.

    ContactError
    ├── UnreachableError   no connection, no answer in time, or a connection cut off half-way
    ├── RefusedError       the server answered, with an error status
    └── BadAnswerError     the server answered, with something that is not our protocol
"""

import functools
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import urlsplit

from reco3 import __version__
from reco3.protocol.messages import CommandReport, Heartbeat, LogBatch

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
PULL_GRACE_S = 10.0
LAST_CALLS_TIMEOUT_S = 1.0
MAX_ANSWER_BYTES = 2 * 1024 * 1024
MAX_MESSAGE_CHARS = 300
MAX_RETRY_AFTER_S = 600.0

_LOOPBACK_PATTERN = re.compile(r"localhost|::1|127\.\d{1,3}\.\d{1,3}\.\d{1,3}")
_HOST_PATTERN = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_CLOSED_BY_PEER = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_PATH_PATTERN = re.compile(r"(/[A-Za-z0-9._~-]+)*")


class ContactError(Exception):
    """The server could not be asked, or did not give the answer asked for."""


class UnreachableError(ContactError):
    """No answer came."""


class BadAnswerError(ContactError):
    """An answer came that is not a JSON object of at most `MAX_ANSWER_BYTES`."""


class RefusedError(ContactError):
    """The server answered with an error status; `code` and `message` are its own words, or its status line's."""

    def __init__(self, status: int, *, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """Where the server is; `path` has no slash at its end."""

    host: str
    port: int
    is_tls: bool
    path: str = ""

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine."""
        return _LOOPBACK_PATTERN.fullmatch(self.host) is not None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `http://HOST[:PORT][/PATH]`, https likewise; None for anything else, such as a URL with a user in it."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            return None
        host = parts.hostname or ""
        path = parts.path.rstrip("/")
        has_extras = parts.query or parts.fragment or "@" in parts.netloc or text != text.strip()
        if parts.scheme not in {"http", "https"} or has_extras or port == 0:
            return None
        if not _HOST_PATTERN.fullmatch(host) or not _PATH_PATTERN.fullmatch(path):
            return None
        is_tls = parts.scheme == "https"
        return cls(host, port or (443 if is_tls else 80), is_tls, path)


class Backoff:
    """How long to wait after the n-th failure in a row: 1, 2, 4, 8 s and so on up to `period_s`, jittered downwards.

    A server that names its own delay is obeyed, up to ten minutes.
    """

    def __init__(self, period_s: float, *, random: Callable[[], float]) -> None:
        self._period_s = period_s
        self._random = random
        self._failures = 0

    def next_delay_s(self, retry_after_s: float | None = None) -> float:
        """Count one more failure and say how long to wait."""
        full_s = min(float(2 ** min(self._failures, 16)), self._period_s)
        self._failures += 1
        delay_s = full_s * (0.5 + self._random() / 2)
        if retry_after_s is None:
            return delay_s
        # Jittered upwards: sooner than asked would be disobedient, all at once a stampede.
        return max(delay_s, min(retry_after_s, MAX_RETRY_AFTER_S) * (1 + self._random() / 10))

    def reset(self) -> None:
        """Forget the failures, after a success."""
        self._failures = 0


@dataclass(frozen=True, slots=True)
class Pulled:
    """The answer to a pull, exactly as it came, and what the server's clock showed, to the second."""

    commands: tuple[Any, ...]
    cancels: tuple[Any, ...] = ()
    server_time: datetime | None = None


class HttpClient:
    """One kept-alive connection to the server; used from one thread, except `interrupt`."""

    def __init__(self, base_url: BaseUrl, *, agent_id: str, api_key: str) -> None:
        self._base_url = base_url
        self._headers = {
            "X-AGENT-ID": agent_id,
            "X-API-Key": api_key,
            "Accept": "application/json",
            "User-Agent": f"reco3-agent/{__version__}",
        }
        self._connection: http.client.HTTPConnection | None = None
        self._is_interrupted = False
        self._answer_date: str | None = None

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Send one sample. Raises: ContactError, as every method here."""
        self._request("POST", "/agent/heartbeat", body=_wire(heartbeat))

    def send_logs(self, batch: LogBatch, *, first_seq: int) -> int:
        """Send log lines; returns the highest sequence number that the server now says it holds."""
        answer = self._request("POST", "/agent/logs", body=_wire(batch))
        return _acknowledged_seq(answer, first_seq=first_seq, count_sent=len(batch.logs))

    def pull(self, *, wait_s: int, journal: str | None = None) -> Pulled:
        """Ask for commands; with `wait_s` the server may hold the question open that long.

        `journal` names the journal that remembers them, so that the server may ask again without harm.
        """
        terms = ([f"wait={wait_s}"] if wait_s else []) + ([f"journal={journal}"] if journal else [])
        path = "/agent/pull" + ("?" + "&".join(terms) if terms else "")
        timeout_s = wait_s + PULL_GRACE_S if wait_s else ANSWER_TIMEOUT_S
        answer = self._request("GET", path, timeout_s=timeout_s, is_held=wait_s > 0)
        commands, cancels = answer.get("commands"), answer.get("cancels", [])
        if not isinstance(commands, list) or not isinstance(cancels, list):
            raise BadAnswerError("expected a list `commands` in the answer to a pull, and `cancels` to be another")
        return Pulled(tuple(commands), tuple(cancels), _parse_date(self._answer_date))

    def report(self, report: CommandReport, *, journal: str | None = None, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Tell what became of a command; `journal` names the journal that says so."""
        self._request("POST", "/agent/report", body=_wire(report, journal=journal), timeout_s=timeout_s)

    def interrupt(self) -> None:
        """Break off what is going on, from another thread; from now on nothing is held and every call is short."""
        self._is_interrupted = True
        connection = self._connection
        sock = connection.sock if connection else None
        if sock is None:
            return
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # It was closed in the same moment, which is what we wanted.

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
        is_held: bool = False,
    ) -> dict[str, Any]:
        was_kept_alive = self._connection is not None
        exchange = functools.partial(self._exchange, method, path, body=body, timeout_s=timeout_s, is_held=is_held)
        try:
            return exchange()
        except _StaleConnectionError as error:
            # A kept-alive connection may have been closed while idle. Every request of ours may safely be repeated.
            if not was_kept_alive or (is_held and self._is_interrupted):
                raise UnreachableError(str(error)) from error
        try:
            return exchange()
        except _StaleConnectionError as error:
            raise UnreachableError(str(error)) from error

    def _exchange(
        self, method: str, path: str, *, body: bytes | None, timeout_s: float, is_held: bool
    ) -> dict[str, Any]:
        is_finished = False
        try:
            connection = self._connected(timeout_s, is_held=is_held)
            deadline = time.monotonic() + self._shortened(timeout_s)
            connection.request(method, self._base_url.path + path, body=body, headers=self._headers_for(body))
            response = connection.getresponse()
            content = _read_body(response, connection, deadline)
            is_finished = not response.will_close
            self._answer_date = response.headers.get("Date")
        except (OSError, http.client.HTTPException) as error:
            raise _as_contact_error(error) from error
        finally:
            if not is_finished:
                self.close()
        return _read_answer(response, content)

    def _connected(self, timeout_s: float, *, is_held: bool) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = _open_connection(self._base_url, self._shortened(CONNECT_TIMEOUT_S))
            self._connection.connect()
        # Looked at after connecting: an interruption before that found no socket to shut down.
        if is_held and self._is_interrupted:
            raise UnreachableError("the agent is stopping")
        self._connection.sock.settimeout(self._shortened(timeout_s))
        return self._connection

    def _shortened(self, timeout_s: float) -> float:
        return min(timeout_s, LAST_CALLS_TIMEOUT_S) if self._is_interrupted else timeout_s

    def _headers_for(self, body: bytes | None) -> Mapping[str, str]:
        return self._headers if body is None else self._headers | {"Content-Type": "application/json"}


class _StaleConnectionError(Exception):
    """The connection was closed by the other side before an answer began."""


class _OneWriteMixin(http.client.HTTPConnection):
    """Sends head and body in one write: in two, the server would wake up twice for each message."""

    _held_back: list[bytes] | None = None

    def endheaders(self, message_body: Any = None, *, encode_chunked: bool = False) -> None:
        self._held_back = []
        super().endheaders(message_body, encode_chunked=encode_chunked)
        whole = b"".join(self._held_back)
        self._held_back = None
        super().send(whole)

    def send(self, data: Any) -> None:
        if self._held_back is None:
            super().send(data)
        else:
            self._held_back.append(data)


class _PlainConnection(_OneWriteMixin):
    """Plain TCP."""


class _TlsConnection(_OneWriteMixin, http.client.HTTPSConnection):
    """TCP and TLS."""


def _open_connection(base_url: BaseUrl, timeout_s: float) -> http.client.HTTPConnection:
    if base_url.is_tls:
        return _TlsConnection(base_url.host, base_url.port, timeout=timeout_s, context=_tls_context())
    return _PlainConnection(base_url.host, base_url.port, timeout=timeout_s)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """One for all connections: the list of authorities takes megabytes."""
    return ssl.create_default_context()


def _read_body(response: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    while part := response.read1(65_536):
        parts.append(part)
        size_bytes += len(part)
        if size_bytes > MAX_ANSWER_BYTES:
            raise BadAnswerError(f"expected at most {MAX_ANSWER_BYTES} bytes in an answer")
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise UnreachableError("the answer came too slowly")
        if connection.sock is not None:  # None once the last byte was read of an answer that closes the connection.
            connection.sock.settimeout(remaining_s)
    response.close()
    return b"".join(parts)


def _as_contact_error(error: OSError | http.client.HTTPException) -> Exception:
    if isinstance(error, _CLOSED_BY_PEER) and not isinstance(error, ConnectionRefusedError):
        return _StaleConnectionError("the connection was closed before an answer came")
    if isinstance(error, TimeoutError):
        return UnreachableError("no answer in time")
    if isinstance(error, http.client.HTTPException):
        return BadAnswerError(f"not an HTTP answer: {type(error).__name__}")
    return UnreachableError(str(error.strerror or error))


def _read_answer(response: http.client.HTTPResponse, content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if 200 <= response.status < 300:  # noqa: PLR2004 - the success statuses of HTTP
        if not isinstance(answer, dict):
            raise BadAnswerError("expected a JSON object in the answer")
        return answer
    words = answer if isinstance(answer, dict) else {}
    raise RefusedError(
        response.status,
        code=str(words.get("error", "no_code"))[:MAX_MESSAGE_CHARS],
        message=str(words.get("message", response.reason))[:MAX_MESSAGE_CHARS],
        retry_after_s=_retry_after_s(response.headers.get("Retry-After")),
    )


def _retry_after_s(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004 - no sane delay has ten digits


def _parse_date(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError):
        return None
    return None if moment is None or moment.tzinfo is None else moment


def _wire(message: Heartbeat | LogBatch | CommandReport, **more: str | None) -> bytes:
    fields = asdict(message, dict_factory=_without_none) | _without_none(list(more.items()))
    # A log line may hold half a surrogate pair, which UTF-8 cannot carry: a question mark goes instead.
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _without_none(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if value is not None}


def _acknowledged_seq(answer: Mapping[str, Any], *, first_seq: int, count_sent: int) -> int:
    """An older server tells a count only, or nothing: then its 200 is for the whole batch."""
    acked_seq, count = answer.get("acked_seq"), answer.get("count")
    if type(acked_seq) is int:
        return acked_seq
    stored = min(count, count_sent) if type(count) is int and count >= 0 else count_sent
    return first_seq + stored - 1
