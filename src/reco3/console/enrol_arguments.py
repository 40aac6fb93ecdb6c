"""The words of `reco3 enrol …`.

It refuses a token as an argument: the server is told its id, and nobody types its text.
"""

import argparse
from collections.abc import Sequence

from reco3.console.arguments import MAX_REASON_CHARS, Parser, common_options
from reco3.console.keys import BadUsage

EXAMPLES = """\
examples:
  reco3 enrol create --agent pc-007 > token.txt      a token for this PC, once, within 15 minutes
  reco3 agent enrol config.yaml --server https://reco3.example.com --token-file token.txt     on the PC
  reco3 enrol create --agent pc-007 --may-replace    for a PC that takes the place of one that is known
  reco3 enrol revoke-key pc-007 --reason "stolen"
exit codes: 0 done; 1 refused by the server; 2 bad usage; 3 server unreachable
"""
VERBS = "create, list, revoke, revoke-key, clear-clone"


def parse_enrol_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The verb and its options.

    Raises:
        BadUsage: the message says what was expected.
    """
    if not argv:
        raise BadUsage(f"expected one of {VERBS}\nusage: see reco3 enrol --help")
    options, rest = _parser().parse_known_args(list(argv))
    if rest:
        raise BadUsage(f"there is a word too many\nusage: see reco3 enrol {options.verb} --help")
    return options


def _parser() -> Parser:
    options = common_options()
    parser = Parser(
        prog="reco3 enrol",
        description="Let PCs in, and end their keys.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[options],
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)

    def add(verb: str, text: str) -> Parser:
        return verbs.add_parser(verb, help=text, description=text, parents=[options], allow_abbrev=False)

    create = add("create", "Make a one-time token; it is printed once, alone on standard output.")
    create.add_argument("--agent", metavar="AGENT", help="the PC that it is for; default: any that is not known yet")
    create.add_argument("--may-replace", action="store_true", help="let it end the key that this PC has")
    add("list", "List the tokens of the last weeks, newest first, without their texts.")
    add("revoke", "Take a token back that nobody has used.").add_argument("id", metavar="ID", help="as `list` shows it")
    _add_order(add("revoke-key", "End a PC's key at once, everywhere."))
    _add_order(add("clear-clone", "Say that one PC alone has its key, so that it gets strong commands again."))
    return parser


def _add_order(verb: Parser) -> None:
    verb.add_argument("agent", metavar="AGENT", help="the PC's id")
    verb.add_argument("--reason", required=True, type=_reason, metavar="TEXT", help="why, for the record")


def _reason(text: str) -> str:
    if not text.strip() or len(text) > MAX_REASON_CHARS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_REASON_CHARS} characters")
    return text
