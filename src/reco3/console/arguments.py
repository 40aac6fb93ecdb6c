"""The words of `reco3 commands …`: what may be given, and what is said when it is wrong.

It refuses to guess: abbreviations and unknown options are errors, and a key is no argument.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from reco3.console.api import Api
from reco3.console.keys import (
    DEFAULT_URL,
    KEY_VARIABLE,
    URL_VARIABLE,
    BadUsage,
    find_key,
    parse_address,
    refuse_clear_text,
)
from reco3.protocol.commands import CommandType, check_payload

MAX_LIST = 500
MAX_REASON_CHARS = 500
MIN_EXPIRES_S, MAX_EXPIRES_S = 60, 86_400
KEY_AS_ARGUMENT = (
    "a key is not taken as an argument: everybody on this machine can list it, and your shell remembers it. "
    f"Put it into a file (--api-key-file FILE), pipe it in (--api-key-file -) or set {KEY_VARIABLE}. "
    "If the key was real, replace it."
)
EXIT_CODES = """\
exit codes: 0 done; 1 refused by the server; 2 bad usage; 3 server unreachable;
  with --wait also: 4 the command did not complete; 5 it is not known whether it ran
"""
EXAMPLES = """\
examples:
  reco3 commands create SET_MODE pc-001 mode=SAFE --wait
  reco3 commands create RESTART_PROCESS pc-001 process=nginx --reason "502 since 13:58"
  reco3 commands approve 6f1c… --wait
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong by raising, so that every command line ends in one place."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong instead of ending the program."""
        raise BadUsage(f"{message}\nusage: see {self.prog} --help")


class _RefuseKey(argparse.Action):
    def __call__(self, *_arguments: object, **_further: object) -> None:
        raise BadUsage(KEY_AS_ARGUMENT)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The verb and its options.

    Raises:
        BadUsage: the message says what was expected.
    """
    parser = _parser()
    if not argv:
        raise BadUsage("expected one of list, show, create, approve, cancel, resolve\nusage: see reco3 commands --help")
    options, rest = parser.parse_known_args(list(argv))
    if rest and options.verb == "create" and not any(word.startswith("-") for word in rest):
        # argparse takes a list of words only in one piece; an option may stand between ours.
        options.payload = [*options.payload, *rest]
    elif rest:
        raise BadUsage(f"there is no {ascii(rest[0])[:60]} here\nusage: see reco3 commands {options.verb} --help")
    return options


def open_api(options: argparse.Namespace, environment: Mapping[str, str]) -> Api:
    """The server that the options or the environment name, with the operator's key.

    Raises:
        BadUsage: the address or the key cannot be used.
    """
    address = parse_address(getattr(options, "server", None) or environment.get(URL_VARIABLE) or DEFAULT_URL)
    key = find_key(getattr(options, "api_key_file", None), environment)
    refuse_clear_text(address, key)
    return Api(address, key)


def parse_payload(command_type: str, words: Sequence[str]) -> dict[str, Any]:
    """The payload in `key=value` words; a value is a text unless the command takes a number there.

    Raises:
        BadUsage: a word is no `key=value`, or a key comes twice.
    """
    payload: dict[str, Any] = {}
    for word in words:
        key, mark, value = word.partition("=")
        if not mark or not key:
            raise BadUsage(f"expected key=value for the payload, got {ascii(word)[:60]}")
        if key in payload:
            raise BadUsage(f"the payload names {ascii(key)[:60]} twice")
        payload[key] = value
    return _with_numbers(CommandType(command_type), payload) if command_type in set(CommandType) else payload


def _with_numbers(command_type: CommandType, payload: dict[str, Any]) -> dict[str, Any]:
    """The payload with a number wherever the command refuses the text and the text reads as one."""
    for _ in list(payload):
        bad = check_payload(command_type, payload)
        key = bad.field.removeprefix("payload.") if bad else ""
        number = _number(payload.get(key))
        if number is None:
            break
        payload = {**payload, key: number}
    return payload


def _number(text: object) -> int | None:
    return int(text) if isinstance(text, str) and re.fullmatch(r"-?[0-9]{1,15}", text) else None


def _parser() -> Parser:
    options = common_options()
    parser = Parser(
        prog="reco3 commands",
        description="See, request and decide commands on a RECO3 server.",
        epilog=EXAMPLES + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[options],
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)

    def add(verb: str, text: str) -> Parser:
        return verbs.add_parser(verb, help=text, description=text, parents=[options], allow_abbrev=False)

    _add_list(add("list", "List commands, newest first."))
    _add_id(add("show", "Show one command's life, step by step, with the PC's evidence."))
    _add_create(add("create", "Ask for a command; a strong one then waits for approval."))
    approve = _add_id(add("approve", "Say yes to a strong command."))
    _add_wait(approve)
    cancel = _add_id(add("cancel", "Cancel a command that the PC has not begun."))
    cancel.add_argument("--reason", type=reason, metavar="TEXT", help="why, for the record")
    _add_resolve(add("resolve", "Record what became of a command that ended unknown; nothing runs again."))
    return parser


def common_options() -> Parser:
    """The options that every verb takes which speaks to a server."""
    options = Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    options.add_argument("--server", metavar="URL", help=f"default: ${URL_VARIABLE} or {DEFAULT_URL}")
    options.add_argument(
        "--api-key-file",
        metavar="FILE",
        help=f"file with the operator's key, - for standard input; default: the key in ${KEY_VARIABLE}",
    )
    options.add_argument("--json", action="store_true", help="print the server's answer as JSON")
    options.add_argument("--api-key", action=_RefuseKey, nargs="?", help=argparse.SUPPRESS)
    return options


def _add_list(verb: Parser) -> None:
    verb.add_argument("--agent", metavar="AGENT", help="of this PC only")
    verb.add_argument("--status", metavar="STATUS", help="pending, unknown, …; several with commas")
    verb.add_argument("--limit", type=_limit, default=20, metavar="N", help=f"1 to {MAX_LIST}, default 20")


def _add_id(verb: Parser) -> Parser:
    verb.add_argument("id", metavar="ID", type=not_empty, help="the command's id, as `list` shows it")
    return verb


def _add_create(verb: Parser) -> None:
    verb.add_argument("type", metavar="TYPE", type=not_empty, help=", ".join(CommandType))
    verb.add_argument("agent", metavar="AGENT", type=not_empty, help="the PC's id")
    verb.add_argument("payload", metavar="key=value", nargs="*", default=[], help="such as mode=SAFE or process=nginx")
    verb.add_argument("--reason", type=reason, metavar="TEXT", help="shown to whoever approves, and kept")
    verb.add_argument(
        "--expires-in-s",
        type=_expiry,
        metavar="SECONDS",
        help=f"{MIN_EXPIRES_S} to {MAX_EXPIRES_S}; default: the server's (strong 15 min, safe 24 h)",
    )
    _add_wait(verb)


def _add_wait(verb: Parser) -> None:
    verb.add_argument("--wait", action="store_true", help="wait until the command has ended, and say how")


def _add_resolve(verb: Parser) -> None:
    _add_id(verb)
    verb.add_argument("outcome", metavar="ran|did-not-run", choices=("ran", "did-not-run"), help="what you found")
    verb.add_argument("--reason", type=reason, required=True, metavar="TEXT", help="how you know; kept with your name")


def _limit(text: str) -> int:
    return whole_number(text, 1, MAX_LIST)


def _expiry(text: str) -> int:
    return whole_number(text, MIN_EXPIRES_S, MAX_EXPIRES_S)


def whole_number(text: str, least: int, most: int) -> int:
    """A number in an argument."""
    if not text.isascii() or not text.isdigit() or not least <= int(text[:12]) <= most:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {ascii(text)[:40]}")
    return int(text)


def reason(text: str) -> str:
    """A text for the record, in an argument."""
    if not 1 <= len(text.strip()) <= MAX_REASON_CHARS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_REASON_CHARS} characters")
    return text.strip()


def not_empty(text: str) -> str:
    """An argument that names something."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected something, got nothing")
    return text
