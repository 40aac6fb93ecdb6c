"""Where the operator's key comes from, and where it may go.

It refuses a key as an argument, and to send one in clear text to another machine.
"""

import getpass
import ipaddress
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

KEY_VARIABLE = "RECO3_API_KEY"
URL_VARIABLE = "RECO3_URL"
DEFAULT_URL = "http://127.0.0.1:5001"
MAX_KEY_CHARS = 1024
OTHERS_MAY_READ = 0o077


class BadUsage(Exception):
    """The command line cannot be carried out as it was given; the message says what to give instead."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the server is; `base_path` is empty or begins with a slash."""

    scheme: str
    host: str
    port: int
    base_path: str

    @property
    def url(self) -> str:
        """The address as it is written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.base_path}"


def parse_address(text: str) -> ServerAddress:
    """The address in a URL.

    Raises:
        BadUsage: it is not an http or https URL of a server alone.
    """
    if "@" in text:
        raise BadUsage("--server: a name or password does not belong into the URL, where others can list it")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as err:
        raise BadUsage(f"--server: {_shown(text)} is not a URL: {err}") from err
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise BadUsage(f"--server: expected a URL such as {DEFAULT_URL}, got {_shown(text)}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise BadUsage(f"--server: expected printable ASCII, got {_shown(text)}")
    return ServerAddress(
        parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/")
    )


def find_key(key_file: str | None, environment: Mapping[str, str]) -> str | None:
    """The key from the file, else from the environment, else None.

    Raises:
        BadUsage: the file cannot be read, or what it holds cannot be a key.
    """
    if key_file is not None:
        source = "standard input" if key_file == "-" else key_file
        return _checked(_read_key(key_file), source)
    if text := environment.get(KEY_VARIABLE):
        return _checked(text, KEY_VARIABLE)
    return None


def refuse_clear_text(address: ServerAddress, key: str | None) -> None:
    """Refuse to send a key where others could read it on the way.

    Raises:
        BadUsage: the address is another machine's and the connection is not encrypted.
    """
    if key is None or address.scheme == "https" or is_loopback(address.host):
        return
    raise BadUsage(
        f"the key is not sent to {address.url}: over plain http everybody on the way can read it. "
        "Use https://, or an SSH tunnel to a loopback address."
    )


def _read_key(key_file: str) -> str:
    if key_file == "-":
        if sys.stdin.isatty():
            return getpass.getpass("API key: ")
        return sys.stdin.read(MAX_KEY_CHARS + 2)
    path = Path(key_file)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_KEY_CHARS + 2)
        mode = path.stat().st_mode
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else "it is not text"
        raise BadUsage(f"--api-key-file: cannot read {_shown(key_file)}: {reason}") from err
    if sys.platform != "win32" and mode & OTHERS_MAY_READ and path.is_file():
        sys.stderr.write(f"reco3: others can read the key in {_shown(key_file)}; chmod 600 keeps it to you\n")
    return text


def _checked(text: str, source: str) -> str:
    key = text.strip()
    if not key:
        raise BadUsage(f"there is no key in {_shown(source)}")
    if len(key) > MAX_KEY_CHARS or not key.isascii() or not key.isprintable() or " " in key:
        raise BadUsage(f"what is in {_shown(source)} cannot be a key: expected one line of printable ASCII, no spaces")
    return key


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(text: str) -> str:
    return ascii(text)[:80]
