"""Which server the swarm speaks to, and from which addresses.

It resolves the name once and refuses everything that is not a plain http or https URL.
"""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

SOURCES_PER_WORKER = 16
MAX_WORKERS = 200


class BadUsage(Exception):
    """The command line cannot be carried out as it was given; the message says what to give instead."""


class SwarmFailed(Exception):
    """The swarm could not do its work; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server: `address` is what `host` resolves to, `base_path` is empty or begins with a slash."""

    scheme: str
    host: str
    port: int
    base_path: str
    address: str

    @property
    def is_tls(self) -> bool:
        """Whether the connections are encrypted."""
        return self.scheme == "https"

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine, under an IPv4 address that has many siblings."""
        return _is_loopback(self.address)

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_target(text: str) -> Target:
    """The server that a URL names.

    Raises:
        BadUsage: it is no http or https URL of a server, or its name does not resolve.
    """
    if "@" in text:
        raise BadUsage("--base-url: a name or password does not belong into the URL, where others can list it")
    try:
        parts = urlsplit(text)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as err:
        raise BadUsage(f"--base-url: {ascii(text)[:80]} is not a URL: {err}") from err
    is_plain = not (parts.query or parts.fragment)
    is_printable = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain or not is_printable:
        raise BadUsage(f"--base-url: expected a URL such as http://127.0.0.1:5001, got {ascii(text)[:80]}")
    return Target(parts.scheme, parts.hostname, port, parts.path.rstrip("/"), _resolve(parts.hostname, port))


def source_addresses(target: Target, worker: int) -> Sequence[str]:
    """The loopback addresses that a worker's connections come from; none when the server is elsewhere.

    One address has some 28,000 ports towards one server, and a closed connection keeps its port for a minute.
    """
    if not target.is_loopback:
        return ()
    return tuple(f"127.{50 + worker % MAX_WORKERS}.0.{number}" for number in range(1, SOURCES_PER_WORKER + 1))


def _resolve(host: str, port: int) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as err:
        raise BadUsage(f"--base-url: {host[:80]} does not resolve: {err.strerror}") from err
    addresses = [str(address[0]) for *_, address in found]
    return next(filter(_is_loopback, addresses), addresses[0])


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.version == 4 and parsed.is_loopback  # noqa: PLR2004 - the version of IP
