"""The words of `reco3 keys …`: an approver's own keys, and the sheets that are signed ahead of an emergency.

It refuses to guess, and a passphrase is no argument.
"""

import argparse
from collections.abc import Sequence

from reco3.console.approver_keys import OWNER_EXPECTED, OWNER_PATTERN
from reco3.console.arguments import Parser, common_options, not_empty, reason, whole_number
from reco3.console.keys import BadUsage
from reco3.protocol.commands import CommandType

VERBS = ("init", "show", "list", "register", "break-glass")
MAX_SHEET_DAYS = 90
DEFAULT_SHEET_DAYS = 30
MAX_LABEL_CHARS = 64
GIVEN_AS_ARGUMENT = (
    "a passphrase is not taken as an argument: everybody on this machine can list it, and your shell remembers it. "
    "Type it when you are asked, or give --passphrase-file FILE or --passphrase-file -. "
    "If it was the real one, make another key."
)
EXAMPLES = """\
examples:
  reco3 keys init
  reco3 keys register --server https://reco3.example
  reco3 keys break-glass --pc pc-001 --type RESTART_PROCESS process=nginx \\
      --reason "server room lost" --server https://reco3.example --out pc-001.sheet
  reco3 keys break-glass --add-signature pc-001.sheet
  reco3 keys break-glass show pc-001.sheet
"""
EXIT_CODES = """\
exit codes: 0 done; 1 refused by the server, or nothing was signed; 2 bad usage; 3 server unreachable
"""


class _RefusePassphrase(argparse.Action):
    def __call__(self, *_arguments: object, **_further: object) -> None:
        raise BadUsage(GIVEN_AS_ARGUMENT)


def parse_key_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The verb and its options; `break-glass show` is the verb `show-sheet`.

    Raises:
        BadUsage: the message says what was expected.
    """
    words = list(argv)
    if not words:
        raise BadUsage(f"expected one of {', '.join(VERBS)}\nusage: see reco3 keys --help")
    if words[:2] == ["break-glass", "show"]:
        return _sheet_showing().parse_args(words[2:])
    options, rest = _parser().parse_known_args(words)
    if rest and options.verb == "break-glass" and not any(word.startswith("-") for word in rest):
        # argparse takes a list of words only in one piece; an option may stand between ours.
        options.payload = [*options.payload, *rest]
    elif rest:
        raise BadUsage(f"there is no {ascii(rest[0])[:60]} here\nusage: see reco3 keys {options.verb} --help")
    if options.verb == "break-glass":
        _check_sheet(options)
    return options


def key_options() -> Parser:
    """Which key, and where its passphrase comes from."""
    options = Parser(add_help=False, allow_abbrev=False)
    _add_key(options)
    _add_passphrase(options)
    return options


def _parser() -> Parser:
    parser = Parser(
        prog="reco3 keys",
        description="Make, show and register the key that you approve with. It stays on this machine.",
        epilog=EXAMPLES + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)

    def add(verb: str, text: str, *parents: Parser) -> Parser:
        return verbs.add_parser(verb, help=text, description=text, parents=list(parents), allow_abbrev=False)

    _add_init(add("init", "Make a key; prints the pin for your PCs.", key_options(), _json_option()))
    add("show", "Show the fingerprint and the pin of a key.", _key_choice(), _json_option())
    add("list", "List the keys on this machine.", _json_option())
    register = add(
        "register", "Tell the server of your key, so that the page knows it.", key_options(), common_options()
    )
    register.add_argument("--label", type=_label, metavar="TEXT", help="what the page calls it; default: this machine")
    _add_sheet(add("break-glass", "Sign a command ahead, for use on the PC with the server down."))
    return parser


def _sheet_showing() -> Parser:
    parser = Parser(
        prog="reco3 keys break-glass show",
        description="Say what a sheet does, and who signed it.",
        parents=[_json_option()],
        allow_abbrev=False,
    )
    parser.add_argument("sheet", metavar="FILE", type=not_empty, help="the sheet")
    parser.set_defaults(verb="show-sheet")
    return parser


def _json_option() -> Parser:
    options = Parser(add_help=False, allow_abbrev=False)
    options.add_argument("--json", action="store_true", help="print the result as JSON")
    return options


def _key_choice() -> Parser:
    options = Parser(add_help=False, allow_abbrev=False)
    _add_key(options)
    return options


def _add_key(options: Parser) -> None:
    options.add_argument("--owner", type=_owner, metavar="NAME", help="whose key; default: your only one")
    options.add_argument(
        "--file", type=not_empty, metavar="PATH", help="the key's file, if it is not in the usual folder"
    )


def _add_passphrase(options: Parser) -> None:
    options.add_argument(
        "--passphrase-file",
        type=not_empty,
        metavar="FILE",
        help="file with the key's passphrase, - for standard input; default: you are asked",
    )
    options.add_argument("--passphrase", action=_RefusePassphrase, nargs="?", help=argparse.SUPPRESS)


def _add_init(verb: Parser) -> None:
    verb.add_argument(
        "--no-passphrase",
        action="store_true",
        help="whoever copies the file can then sign with it: for machines that nobody else uses",
    )


def _add_sheet(verb: Parser) -> None:
    _add_key(verb)
    _add_passphrase(verb)
    for name, text in (("--server", "where to ask for the PC's epoch and the fleet's id"), ("--api-key-file", "")):
        verb.add_argument(name, metavar="URL" if text else "FILE", help=text or "file with the operator's key")
    verb.add_argument("--json", action="store_true", help="print the sheet as JSON")
    verb.add_argument("--pc", type=not_empty, metavar="AGENT", help="the PC's id")
    verb.add_argument("--type", type=not_empty, metavar="TYPE", help=", ".join(CommandType))
    verb.add_argument("payload", metavar="key=value", nargs="*", default=[], help="such as process=nginx")
    verb.add_argument("--reason", type=reason, metavar="TEXT", help="what it is for")
    verb.add_argument("--agent-epoch", type=not_empty, metavar="EPOCH", help="the id of the PC's journal")
    verb.add_argument("--fleet-id", type=not_empty, metavar="ID", help="the server's fleet")
    verb.add_argument(
        "--expires-in-days", type=_days, metavar="N", help=f"1 to {MAX_SHEET_DAYS}, default {DEFAULT_SHEET_DAYS}"
    )
    verb.add_argument("--out", type=not_empty, metavar="FILE", help="where the sheet is written; never overwritten")
    verb.add_argument("--add-signature", type=not_empty, metavar="FILE", help="sign a sheet that somebody else made")
    verb.add_argument("--yes", action="store_true", help="sign without asking")


def _check_sheet(options: argparse.Namespace) -> None:
    making = {
        "--pc": options.pc,
        "--type": options.type,
        "--reason": options.reason,
        "--agent-epoch": options.agent_epoch,
        "--fleet-id": options.fleet_id,
        "--expires-in-days": options.expires_in_days,
        "--out": options.out,
        "--server": options.server,
        "key=value": options.payload or None,
    }
    given = [name for name, value in making.items() if value is not None]
    if options.add_signature is not None and given:
        raise BadUsage(f"--add-signature signs a sheet as it is: {given[0]} does not go with it")
    missing = [name for name in ("--pc", "--type", "--reason", "--out") if making[name] is None]
    if options.add_signature is None and missing:
        raise BadUsage(f"a sheet needs {', '.join(missing)}\nusage: see reco3 keys break-glass --help")


def _owner(text: str) -> str:
    if OWNER_PATTERN.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"expected {OWNER_EXPECTED}, got {ascii(text)[:60]}")
    return text


def _label(text: str) -> str:
    if not 1 <= len(text.strip()) <= MAX_LABEL_CHARS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_LABEL_CHARS} characters")
    return text.strip()


def _days(text: str) -> int:
    return whole_number(text, 1, MAX_SHEET_DAYS)
