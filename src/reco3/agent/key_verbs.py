"""`reco3 agent enrol` and `reco3 agent rotate-key`: their words, and what they say.

It refuses a token as an argument, and to repeat what it does not understand: it might be one.
"""

import argparse
import getpass
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from reco3.agent.own_key import Enrolled, EnrolOrder, KeyTroubleError, NotDoneError, UnusableError, enrol, rotate_key

EXIT_OK, EXIT_NOT_DONE, EXIT_UNUSABLE = 0, 1, 2
MAX_TOKEN_CHARS = 200
OTHERS_MAY_READ = 0o077
NO_ARGUMENT = (
    "a token is not taken as an argument: everybody on this machine can list it, and your shell remembers it. "
    "Put it into a file (--token-file FILE) or pipe it in (--token-file -). "
    "If the token was real, have it revoked: reco3 enrol revoke ID."
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UnusableError(f"{message}\nusage: see {self.prog} --help")


class _RefuseToken(argparse.Action):
    def __call__(self, *_arguments: object, **_further: object) -> None:
        raise UnusableError(NO_ARGUMENT)


def enrol_verb(words: Sequence[str]) -> int:
    """Let this PC in by a token; returns the exit code."""
    parser = _Parser(
        prog="reco3 agent enrol",
        description="Make this PC's key, bring its hash to the server with a one-time token, and write the config.",
        epilog="An administrator makes the token: reco3 enrol create",
        allow_abbrev=False,
    )
    parser.add_argument(
        "config", metavar="CONFIG", type=Path, help="made when it is not there; else kept but for three values"
    )
    parser.add_argument("--server", metavar="URL", required=True, help="https:// for a server on another machine")
    parser.add_argument("--agent-id", metavar="ID", help="default: the config's, else the name that the token is for")
    parser.add_argument("--token-file", metavar="FILE", required=True, help="file with the token, - for standard input")
    parser.add_argument("--allow-insecure-http", action="store_true", help="let a new config use plain http://")
    parser.add_argument("--token", action=_RefuseToken, nargs="?", help=argparse.SUPPRESS)
    return _carried_out(lambda: _enrol(_parsed(parser, words)))


def rotate_verb(words: Sequence[str]) -> int:
    """Give this PC another key; returns the exit code."""
    parser = _Parser(
        prog="reco3 agent rotate-key",
        description="Make this PC's next key and put it into the config; the old one ends when the new one is used.",
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG", type=Path)
    return _carried_out(lambda: _rotate(_parsed(parser, words)))


def _enrol(options: argparse.Namespace) -> str:
    token = _checked_token(_read_token(options.token_file))
    order = EnrolOrder(options.config, options.server, token, options.agent_id, options.allow_insecure_http)
    return _next_steps(enrol(order), options.config)


def _rotate(options: argparse.Namespace) -> str:
    config = rotate_key(options.config)
    return (
        f"{config.agent_id} has a new key in {options.config}.\n"
        "Restart the agent now: with its first request the old key ends. Until then both are good.\n"
    )


def _next_steps(enrolled: Enrolled, path: Path) -> str:
    config = enrolled.config
    fleet = f", fleet {enrolled.fleet_id}" if enrolled.fleet_id else ""
    scheme = "https" if config.base_url.is_tls else "http"
    steps = [
        f"look through {path}: what to watch, and what may be done to this PC"
        + ("" if config.control.apply_enabled else " (strong commands are off: control.apply_enabled is false)"),
        f"check it: reco3 agent --check {path}",
        f"start the agent, or restart it: reco3 agent {path}",
    ]
    lines = [f"  {number}. {step}" for number, step in enumerate(steps, start=1)]
    head = f"{config.agent_id} is enrolled at {scheme}://{config.base_url.host}:{config.base_url.port}{fleet}."
    kept = f"Its key was made here and is in {path} alone, for its owner to read (0600)."
    return "\n".join([head, kept, "Next:", *lines, ""])


def _carried_out(verb: Callable[[], str]) -> int:
    try:
        sys.stdout.write(verb())
    except KeyTroubleError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_NOT_DONE if isinstance(error, NotDoneError) else EXIT_UNUSABLE
    return EXIT_OK


def _parsed(parser: _Parser, words: Sequence[str]) -> argparse.Namespace:
    options, rest = parser.parse_known_args(list(words))
    if rest:
        raise UnusableError(f"there are words too many; {NO_ARGUMENT}\nusage: see {parser.prog} --help")
    return options


def _read_token(source: str) -> str:
    if source == "-":
        return getpass.getpass("token: ") if sys.stdin.isatty() else sys.stdin.read(MAX_TOKEN_CHARS + 2)
    path = Path(source)
    try:
        with path.open(encoding="ascii") as file:
            text = file.read(MAX_TOKEN_CHARS + 2)
        mode = path.stat().st_mode
    except OSError as error:
        raise UnusableError(f"--token-file: cannot read {ascii(source)[:80]}: {error.strerror}") from error
    except ValueError as error:
        raise UnusableError(f"--token-file: what is in {ascii(source)[:80]} is no token") from error
    if sys.platform != "win32" and mode & OTHERS_MAY_READ and path.is_file():
        sys.stderr.write(f"others can read the token in {ascii(source)[:80]}; chmod 600 keeps it to you\n")
    return text


def _checked_token(text: str) -> str:
    token = text.strip()
    if not token or len(token) > MAX_TOKEN_CHARS or not token.isascii() or not token.isprintable() or " " in token:
        raise UnusableError("what was given cannot be a token: expected one line, as `reco3 enrol create` prints it")
    return token
