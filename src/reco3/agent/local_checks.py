"""Asks what runs on this PC whether it answers: one TCP connection or one HTTP request, for a verification.

It refuses to ask anybody whom the PC's config does not name, to follow a redirect, and to read an answer's body.
"""

import re
import socket
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from reco3 import __version__
from reco3.agent.http_wire import Connection, HungUpError, NotHttpError

MAX_WAIT_S = 5.0
MAX_URL_CHARS = 500
_LOOPBACKS = ("127.0.0.1", "::1")
_HOST_PATTERN = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_TARGET_PATTERN = re.compile(r"/[!-~]*")


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """Where to send a GET; `target` is the path and the query."""

    host: str
    port: int
    is_tls: bool
    target: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `http://HOST[:PORT][/PATH[?QUERY]]`, https likewise; None for anything else, such as one with a user."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            return None
        host = parts.hostname or ""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        is_plain = not parts.fragment and "@" not in parts.netloc and len(text) <= MAX_URL_CHARS and text.isascii()
        if parts.scheme not in {"http", "https"} or not is_plain or port == 0:
            return None
        if not _HOST_PATTERN.fullmatch(host) or not _TARGET_PATTERN.fullmatch(target):
            return None
        is_tls = parts.scheme == "https"
        return cls(host, port or (443 if is_tls else 80), is_tls, target)

    def __str__(self) -> str:
        scheme, host = "https" if self.is_tls else "http", f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self.target}"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of asking: a status, or why there is none."""

    status: int | None
    detail: str


def get_status(url: HttpUrl, *, timeout_s: float) -> Reply:
    """Send one GET and read no more than the head of the answer."""
    headers = {"User-Agent": f"reco3-agent/{__version__}", "Accept": "*/*", "Connection": "close"}
    allowed_s = min(timeout_s, MAX_WAIT_S)
    try:
        connection = Connection(url.host, url.port, is_tls=url.is_tls, timeout_s=allowed_s)
        try:
            connection.send("GET", url.target, headers=headers, body=None, timeout_s=allowed_s)
            status = connection.read_head().status
        finally:
            connection.close()
    except (OSError, NotHttpError) as error:
        return Reply(None, _why(error))
    return Reply(status, f"answered {status}")


def connect(port: int, *, timeout_s: float) -> str:
    """Connect to a port of this PC's loopback, by IPv4 or IPv6; returns why it failed, empty when it did not."""
    reasons = []
    for address in _LOOPBACKS:
        try:
            socket.create_connection((address, port), timeout=min(timeout_s, MAX_WAIT_S)).close()
        except OSError as error:
            reasons.append(_why(error))
        else:
            return ""
    return reasons[0]


def _why(error: OSError | NotHttpError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, HungUpError):
        return "hung up without an answer"
    if isinstance(error, OSError):
        return str(error.strerror or error)
    return f"not an HTTP answer: {error}"
