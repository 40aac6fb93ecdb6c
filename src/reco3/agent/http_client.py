"""Carries the agent's messages to the server and back.

It refuses to follow redirects, to trust an unverified certificate, and to read more than it was promised.

    ContactError
    ├── UnreachableError   no connection, no answer in time, or a connection cut off half-way
    ├── RefusedError       the server answered, with an error status
    └── BadAnswerError     the server answered, with something that is not our protocol
"""

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlsplit

from reco3 import __version__
from reco3.agent.http_wire import Connection, Head, HungUpError, NotHttpError, TooLargeError, parse_date
from reco3.protocol.limits import is_agent_id
from reco3.protocol.messages import CommandReport, EnrolmentRequest, Heartbeat, NextKey

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
PULL_GRACE_S = 10.0
LAST_CALLS_TIMEOUT_S = 1.0
MAX_ANSWER_BYTES = 2 * 1024 * 1024
MAX_MESSAGE_CHARS = 300
MAX_RETRY_AFTER_S = 600.0
HTTP_UNAUTHORIZED = 401

_LOOPBACK_PATTERN = re.compile(r"localhost|::1|127\.\d{1,3}\.\d{1,3}\.\d{1,3}")
_HOST_PATTERN = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_FLEET_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
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
    """The answer to a pull, exactly as it came, and what the server's clock showed, to the second.

    `poll_after_s` is how long a server that cannot hold questions now wants to be left alone.
    """

    commands: tuple[Any, ...]
    cancels: tuple[Any, ...] = ()
    server_time: datetime | None = None
    poll_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What the answer to a heartbeat tells.

    `trust_revision` grows whenever the server relays other changes of trust than before.
    """

    are_commands_waiting: bool = False
    trust_revision: int = 0


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who answers at an address, its version in its own words, and what its clock showed, to the second."""

    is_reco3: bool
    version: str
    server_time: datetime | None


class HttpClient:
    """One kept-alive connection to the server; used from one thread, except `interrupt`.

    Without a key it says nothing of who asks, which only `enrol` does.
    """

    def __init__(self, base_url: BaseUrl, *, agent_id: str = "", api_key: str = "") -> None:
        self._base_url = base_url
        identity = {"X-AGENT-ID": agent_id, "X-API-Key": api_key} if api_key else {}
        self._headers = {**identity, "Accept": "application/json", "User-Agent": f"reco3-agent/{__version__}"}
        self._connection: Connection | None = None
        self._is_interrupted = False
        self._answer_date: str | None = None

    def heartbeat(self, heartbeat: Heartbeat) -> Heard:
        """Send one sample; returns what the answer tells. Raises: ContactError, as every method here."""
        answer = self._request("POST", "/agent/heartbeat", body=_wire(heartbeat))
        revision = answer.get("trust_changes", 0)
        return Heard(answer.get("commands_waiting") is True, revision if isinstance(revision, int) else 0)

    def trust_changes(self) -> tuple[Any, ...]:
        """Ask for the signed changes of trust that the server relays, exactly as they come, oldest first."""
        changes = self._request("GET", "/agent/trust-changes").get("trust_changes")
        if not isinstance(changes, list):
            raise BadAnswerError("expected a list `trust_changes`")
        return tuple(changes)

    def send_logs(self, body: bytes, *, first_seq: int, count_sent: int) -> int:
        """Send an encoded batch of log lines; returns the highest sequence number that the server says it holds."""
        answer = self._request("POST", "/agent/logs", body=body)
        return _acknowledged_seq(answer, first_seq=first_seq, count_sent=count_sent)

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
        return Pulled(tuple(commands), tuple(cancels), parse_date(self._answer_date), _poll_after_s(answer))

    def report(self, report: CommandReport, *, journal: str | None = None, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Tell what became of a command; `journal` names the journal that says so."""
        self._request("POST", "/agent/report", body=_wire(report, journal=journal), timeout_s=timeout_s)

    def enrol(self, request: EnrolmentRequest) -> tuple[str, str]:
        """Come in by a token; returns the name that the server knows this PC by, and its fleet's id."""
        answer = self._request("POST", "/agent/enrol", body=_wire(request))
        agent_id, fleet_id = answer.get("agent_id"), answer.get("fleet_id")
        if not isinstance(agent_id, str) or not is_agent_id(agent_id) or not isinstance(fleet_id, str):
            raise BadAnswerError("expected `agent_id` and `fleet_id` in the answer to an enrolment")
        if request.agent_id not in (None, agent_id) or _FLEET_PATTERN.fullmatch(fleet_id) is None:
            raise BadAnswerError("expected the name that was asked for, and a fleet's id")
        return agent_id, fleet_id

    def greet(self, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Greeting:
        """Ask who answers at the address: `/health`, and what any stranger may read of a RECO3 server."""
        is_well = self._request("GET", "/health", timeout_s=timeout_s).get("status") == "ok"
        about = self._request("GET", "/api/config/test-mode", timeout_s=timeout_s)
        is_reco3 = is_well and isinstance(about.get("test_mode"), bool)
        version = about.get("version")
        return Greeting(is_reco3, version if isinstance(version, str) else "", parse_date(self._answer_date))

    def is_key_good(self, *, timeout_s: float = ANSWER_TIMEOUT_S) -> bool:
        """Ask whether the server takes our key; of two that it takes, asking ends the older."""
        try:
            self._request("GET", "/agent/key", timeout_s=timeout_s)
        except RefusedError as error:
            if error.status == HTTP_UNAUTHORIZED:
                return False
            raise
        return True

    def announce_key(self, next_key_hash: str) -> None:
        """Let another key of ours be taken too, until it is used for the first time."""
        self._request("POST", "/agent/key", body=_wire(NextKey(next_key_hash)))

    def interrupt(self) -> None:
        """Break off what is going on, from another thread; from now on nothing is held and every call is short."""
        self._is_interrupted = True
        connection = self._connection
        if connection is not None:
            connection.shut_down()

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
        is_reusable = False
        try:
            connection = self._connected(is_held=is_held)
            headers, allowed_s = self._headers_for(body), self._shortened(timeout_s)
            connection.send(method, self._base_url.path + path, headers=headers, body=body, timeout_s=allowed_s)
            head = connection.read_head()
            content = connection.read_body(head, max_bytes=MAX_ANSWER_BYTES)
            is_reusable = connection.is_reusable
            self._answer_date = head.headers.get("date")
        except (OSError, NotHttpError, TooLargeError) as error:
            raise _as_contact_error(error) from error
        finally:
            if not is_reusable:
                self.close()
        return _read_answer(head, content)

    def _connected(self, *, is_held: bool) -> Connection:
        if self._connection is None:
            url = self._base_url
            timeout_s = self._shortened(CONNECT_TIMEOUT_S)
            self._connection = Connection(url.host, url.port, is_tls=url.is_tls, timeout_s=timeout_s)
        # Looked at after connecting: an interruption before that found no connection to shut down.
        if is_held and self._is_interrupted:
            raise UnreachableError("the agent is stopping")
        return self._connection

    def _shortened(self, timeout_s: float) -> float:
        return min(timeout_s, LAST_CALLS_TIMEOUT_S) if self._is_interrupted else timeout_s

    def _headers_for(self, body: bytes | None) -> Mapping[str, str]:
        return self._headers if body is None else self._headers | {"Content-Type": "application/json"}


class _StaleConnectionError(Exception):
    """The connection was closed by the other side before an answer began."""


def _as_contact_error(error: OSError | NotHttpError | TooLargeError) -> Exception:
    match error:
        case TooLargeError():
            return BadAnswerError(f"expected at most {MAX_ANSWER_BYTES} bytes in an answer")
        case NotHttpError():
            return BadAnswerError(f"not an HTTP answer: {error}")
        case HungUpError():
            return _StaleConnectionError("the connection was closed before an answer came")
        case TimeoutError():
            return UnreachableError("no answer in time")
        case _:
            return UnreachableError(str(error.strerror or error))


def _read_answer(head: Head, content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if 200 <= head.status < 300:  # noqa: PLR2004 - the success statuses of HTTP
        if not isinstance(answer, dict):
            raise BadAnswerError("expected a JSON object in the answer")
        return answer
    words = answer if isinstance(answer, dict) else {}
    raise RefusedError(
        head.status,
        code=str(words.get("error", "no_code"))[:MAX_MESSAGE_CHARS],
        message=str(words.get("message", head.reason))[:MAX_MESSAGE_CHARS],
        retry_after_s=_retry_after_s(head.headers.get("retry-after"), head.headers.get("date")),
    )


def _retry_after_s(text: str | None, answer_date: str | None) -> float | None:
    """Read whole seconds or a date, which counts from the server's own clock where it shows one."""
    if text and text.isascii() and text.isdigit() and len(text) < 10:  # noqa: PLR2004 - no sane delay has ten digits
        return float(text)
    moment = parse_date(text)
    if moment is None:
        return None
    return max(0.0, (moment - (parse_date(answer_date) or datetime.now(UTC))).total_seconds())


def _wire(message: Heartbeat | CommandReport | EnrolmentRequest | NextKey, **more: str | None) -> bytes:
    fields = asdict(message, dict_factory=_without_none) | _without_none(list(more.items()))
    # A log line may hold half a surrogate pair, which UTF-8 cannot carry: a question mark goes instead.
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _without_none(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if value is not None}


def _poll_after_s(answer: Mapping[str, Any]) -> float | None:
    """A number above zero, at most ten minutes; anything else makes no sense."""
    asked_s = answer.get("poll_after_s")
    if isinstance(asked_s, bool) or not isinstance(asked_s, int | float) or not asked_s > 0:
        return None
    return float(min(asked_s, MAX_RETRY_AFTER_S))


def _acknowledged_seq(answer: Mapping[str, Any], *, first_seq: int, count_sent: int) -> int:
    """An older server tells a count only, or nothing: then its 200 is for the whole batch."""
    acked_seq, count = answer.get("acked_seq"), answer.get("count")
    if type(acked_seq) is int:
        return acked_seq
    stored = min(count, count_sent) if type(count) is int and count >= 0 else count_sent
    return first_seq + stored - 1
