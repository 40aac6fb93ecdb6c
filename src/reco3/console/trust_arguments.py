"""The words of `reco3 trust …`.

It refuses to guess: abbreviations and unknown options are errors.
"""

import argparse
from collections.abc import Sequence

from reco3.console.arguments import Parser, common_options, not_empty, reason, whole_number
from reco3.console.key_arguments import key_options
from reco3.console.keys import BadUsage
from reco3.protocol.trust_changes import MAX_TRUSTED_KEYS

MAX_DAYS = 30
VERBS = "propose, list, show, sign, withdraw"
EXAMPLES = """\
examples:
  reco3 agent trust export config.yaml > trust.json      on any of the PCs: what they trust now
  reco3 trust propose --from trust.json --add 'bob:ed25519:…' --remove 'alice:ed25519:…' --reason "Alice's laptop"
  reco3 trust sign ID                                    each owner, of old and new keys, on his own machine
exit codes: 0 done; 1 refused by the server, or nothing was signed; 2 bad usage; 3 server unreachable
"""


def parse_trust_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The verb and its options.

    Raises:
        BadUsage: the message says what was expected.
    """
    if not argv:
        raise BadUsage(f"expected one of {VERBS}\nusage: see reco3 trust --help")
    options, rest = _parser().parse_known_args(list(argv))
    if rest:
        raise BadUsage(f"there is a word too many\nusage: see reco3 trust {options.verb} --help")
    return options


def _parser() -> Parser:
    options = common_options()
    parser = Parser(
        prog="reco3 trust",
        description="Replace the keys that PCs trust, by a change that enough of their owners sign.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[options],
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)

    def add(verb: str, text: str, *parents: Parser) -> Parser:
        return verbs.add_parser(verb, help=text, description=text, parents=[options, *parents], allow_abbrev=False)

    _add_propose(add("propose", "Ask for a change; it counts once enough owners have signed it."))
    add("list", "List changes, newest first.")
    _add_id(add("show", "Show what the bytes of a change say, and who has signed them."))
    sign = _add_id(add("sign", "Show what the bytes say and sign them with your key.", key_options()))
    sign.add_argument("--yes", action="store_true", help="sign without asking; what is signed is still shown")
    withdraw = _add_id(add("withdraw", "Hand a change on no more; a PC that has followed it stays with it."))
    withdraw.add_argument("--reason", type=reason, required=True, metavar="TEXT", help="why, for the record")
    return parser


def _add_propose(verb: Parser) -> None:
    verb.add_argument(
        "--from",
        dest="old",
        required=True,
        type=not_empty,
        metavar="FILE",
        help="what the PCs trust now, as `reco3 agent trust export CONFIG` prints it; - for standard input",
    )
    verb.add_argument("--add", action="append", default=[], metavar="PIN", help="a key to trust; may be repeated")
    verb.add_argument(
        "--remove", action="append", default=[], metavar="PIN|FINGERPRINT", help="a key to trust no more; likewise"
    )
    verb.add_argument("--required", type=_required, metavar="N", help="how many owners must sign then; default: as now")
    verb.add_argument("--reason", type=reason, required=True, metavar="TEXT", help="shown to whoever signs, and kept")
    verb.add_argument("--expires-in-days", type=_days, metavar="N", help=f"1 to {MAX_DAYS}; default: the server's, 7")


def _add_id(verb: Parser) -> Parser:
    verb.add_argument("id", metavar="ID", type=not_empty, help="the change's id, as `list` shows it")
    return verb


def _required(text: str) -> int:
    return whole_number(text, 1, MAX_TRUSTED_KEYS)


def _days(text: str) -> int:
    return whole_number(text, 1, MAX_DAYS)
