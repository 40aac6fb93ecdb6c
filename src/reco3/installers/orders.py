"""What whoever installs asks for: the words after `install_*` and `uninstall_*`, and the secrets that they name.

It refuses to show a secret again, and words that it does not know; nothing on the PC has changed then.
"""

import argparse
import getpass
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from reco3.installers.troubles import InstallError
from reco3.protocol.limits import is_agent_id

MAX_SECRET_CHARS = 512
MAX_PINS_CHARS = 256 * 1024
MAX_APPROVALS = 100
MAX_PORT = 65_535
POSITIONALS = "[KEY] URL [AGENT_ID]"
_LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1")
_PIN = re.compile(r"[A-Za-z0-9._@][^\s:]*:[^\s:]+:[A-Za-z0-9+/=]+(?: \S+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOrder:
    """What to install. Of key and token there is one at most; an upgrade, which keeps its config, needs neither."""

    base_url: str
    agent_id: str | None = None
    api_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    pins: tuple[str, ...] = ()
    approvals_required: int | None = None
    allow_insecure_http: bool = False
    is_dry: bool = False
    is_started: bool = True
    wheels: Path | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UninstallOrder:
    """What to remove."""

    keeps_config: bool = False
    is_dry: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse repeats what it was given, and that may be a key.
        raise _bad(message if message.startswith("argument -") else "the words cannot be read", self.prog)


def read_install(
    words: Sequence[str], *, program: str, users: Sequence[str] = (), read_stdin: Callable[[], str] | None = None
) -> InstallOrder:
    """Read the words after `install_*`; `users` are those whom the service may run as.

    Raises: InstallError; SystemExit after --help.
    """
    options, rest = _install_parser(program, users).parse_known_args(list(words))
    words_left = [*options.words, *rest]
    if any(len(word) > 1 and word.startswith("-") for word in words_left):
        raise _bad("there is an option that is not known", program)
    key, base_url, agent_id = _positionals(words_left, options, program)
    stdin = _Stdin(read_stdin or _read_stdin)
    order = InstallOrder(
        base_url=_base_url(base_url, allow_insecure_http=options.allow_insecure_http),
        agent_id=_agent_id(agent_id),
        api_key=_secret(_key_text(key, options.key_file, stdin), "the API key"),
        token=_secret(_source_text(options.token_file, "--token-file", stdin), "the enrolment token"),
        pins=_pins(options.approver_file),
        approvals_required=options.approvals_required,
        allow_insecure_http=options.allow_insecure_http,
        is_dry=options.dry_run,
        is_started=not options.no_start,
        wheels=_folder(options.wheels),
        user=getattr(options, "user", None),
    )
    if order.approvals_required is not None and not 1 <= order.approvals_required <= MAX_APPROVALS:
        raise _bad(f"--approvals-required: expected 1 to {MAX_APPROVALS}", program)
    return order


def read_uninstall(words: Sequence[str], *, program: str) -> UninstallOrder:
    """Read the words after `uninstall_*`. Raises: InstallError; SystemExit after --help."""
    parser = _Parser(prog=program, allow_abbrev=False, description="Stop the agent and remove what was installed.")
    parser.add_argument("--keep-config", action="store_true", help="keep the config, with its key, and the state")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    options, rest = parser.parse_known_args(list(words))
    if rest:
        raise _bad("there are words that are not known", program)
    return UninstallOrder(keeps_config=options.keep_config, is_dry=options.dry_run)


def is_loopback(base_url: str) -> bool:
    """Whether the server is this machine."""
    return _LOOPBACK.fullmatch(urlsplit(base_url).hostname or "") is not None


def _install_parser(program: str, users: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        usage=f"{program} {POSITIONALS} [options]",
        description="Install the RECO3 agent as a service of this PC, or bring the one that is there up to date.",
        epilog="A config that is there is kept. Give the KEY as - (standard input) or by --key-file: what stands on a "
        "command line can be listed by others on this PC, and your shell remembers it.",
        allow_abbrev=False,
    )
    parser.add_argument("words", metavar="WORD", nargs="*", help=f"{POSITIONALS}; no KEY with --key-file, --token-file")
    secrets = parser.add_mutually_exclusive_group()
    secrets.add_argument("--key-file", metavar="FILE", help="a file with the API key, - for standard input")
    secrets.add_argument("--token-file", metavar="FILE", help="enrol with the token in a file, - for standard input")
    parser.add_argument(
        "--approver-file", metavar="FILE", action="append", default=[], help="pins of approvers, one a line; repeatable"
    )
    parser.add_argument("--approvals-required", metavar="N", type=int, help="how many of them must sign; default: 1")
    parser.add_argument("--allow-insecure-http", action="store_true", help="let a new config use http:// to elsewhere")
    parser.add_argument("--wheels", metavar="DIR", help="install without network, from the wheels in a folder")
    parser.add_argument("--no-start", action="store_true", help="let it start with the next boot, not now")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    if users:
        parser.add_argument("--user", choices=users, help=f"whom it runs as; default: as before, at first {users[0]}")
    return parser


def _positionals(words: Sequence[str], options: argparse.Namespace, program: str) -> tuple[str | None, str, str | None]:
    """The key, the server and the PC's name; a key comes first, unless a file holds it or a token."""
    has_file = bool(options.key_file or options.token_file)
    key, rest = (None, list(words)) if has_file else (words[0] if words else None, list(words[1:]))
    needs_id = options.token_file is None
    if (not has_file and key is None) or not 1 + needs_id <= len(rest) <= 2:  # noqa: PLR2004 - a URL and a name
        expected = (
            "URL AGENT_ID" if options.key_file else "URL [AGENT_ID]" if options.token_file else "KEY URL AGENT_ID"
        )
        raise _bad(f"expected {expected}, got {len(words)} words", program)
    return key, rest[0], rest[1] if rest[1:] else None


@dataclass(slots=True)
class _Stdin:
    """Standard input, which can be asked for once."""

    read: Callable[[], str]
    is_used: bool = False

    def text(self, option: str) -> str:
        if self.is_used:
            raise InstallError("bad_order", f"{option}: standard input was read already", "give one of them a file")
        self.is_used = True
        return self.read()


def _read_stdin() -> str:
    return getpass.getpass("secret: ") if sys.stdin.isatty() else sys.stdin.read(MAX_SECRET_CHARS + 2)


def _key_text(key: str | None, key_file: str | None, stdin: _Stdin) -> str | None:
    if key is not None and key != "-":
        return key
    return _source_text("-" if key == "-" else key_file, "--key-file", stdin)


def _source_text(source: str | None, option: str, stdin: _Stdin) -> str | None:
    if source is None:
        return None
    return stdin.text(option) if source == "-" else _file_text(source, option, MAX_SECRET_CHARS + 2)


def _file_text(name: str, option: str, max_chars: int) -> str:
    try:
        with Path(name).open(encoding="utf-8") as file:
            return file.read(max_chars)
    except OSError as error:
        raise InstallError(
            "bad_order", f"{option}: cannot read {name}: {error.strerror}", "name a file that can be read"
        ) from error
    except UnicodeDecodeError:
        raise InstallError("bad_order", f"{option}: {name} is no text in UTF-8", "name another file") from None


def _secret(text: str | None, what: str) -> str | None:
    if text is None:
        return None
    secret = text.removeprefix("\ufeff").strip()
    if not 0 < len(secret) <= MAX_SECRET_CHARS or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise InstallError(
            "bad_order",
            f"{what}: expected one line of 1 to {MAX_SECRET_CHARS} printable ASCII characters without spaces",
            "give it as the server's administrator handed it over",
        )
    return secret


def _base_url(text: str, *, allow_insecure_http: bool) -> str:
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) <= MAX_PORT
    except ValueError:
        is_url = False
    if not is_url or not text.isascii() or not text.isprintable() or any(c in text for c in " @?#\"'"):
        # It may be a key in the wrong place, so it is not shown.
        raise InstallError(
            "bad_order", "URL: expected http://HOST[:PORT] or https://HOST[:PORT][/PATH]", "look at the order of words"
        )
    if parts.scheme == "http" and not is_loopback(text) and not allow_insecure_http:
        raise InstallError(
            "insecure_http",
            f"{text}: plain http:// to another machine lets anyone on the way read the key and forge orders",
            "use https://, or say --allow-insecure-http if you accept that",
        )
    return text


def _agent_id(text: str | None) -> str | None:
    if text is not None and not is_agent_id(text):
        raise InstallError(
            "bad_order", "AGENT_ID: expected 1 to 64 letters, digits and . _ -", "look at the order of words"
        )
    return text


def _pins(names: Sequence[str]) -> tuple[str, ...]:
    """The pins in the files, each once; empty lines and those that begin with # are for people."""
    pins: dict[str, None] = {}
    for name in names:
        text = _file_text(name, "--approver-file", MAX_PINS_CHARS)
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
            pin = line.strip()
            if not pin or pin.startswith("#"):
                continue
            if _PIN.fullmatch(pin) is None:
                raise InstallError(
                    "bad_order",
                    f"--approver-file: {name}:{number}: expected owner:kind:key, as reco3 keys show prints it",
                    "correct the line",
                )
            pins[pin] = None
    return tuple(pins)


def _folder(name: str | None) -> Path | None:
    if name is None:
        return None
    folder = Path(name).absolute()
    if not folder.is_dir():
        raise InstallError("bad_order", f"--wheels: {name} is no folder", "name the folder that holds the wheels")
    return folder


def _bad(message: str, program: str) -> InstallError:
    return InstallError("bad_order", message, f"see {program} --help")
