"""The words of `reco3 approve`, `reco3 deny` and `reco3 dev-signer`.

It refuses to guess: abbreviations and unknown options are errors.
"""

import argparse
from collections.abc import Sequence

from reco3.console.arguments import Parser, common_options, not_empty, reason
from reco3.console.key_arguments import key_options

EXIT_CODES = """\
exit codes: 0 done, the command completed; 1 refused by the server, or nothing was signed; 2 bad usage;
  3 server unreachable; 4 the command did not complete; 5 it is not known whether it ran
"""
APPROVING = """\
Show what a command's bytes say, sign them with your key, and wait for the result.
What is shown is read from the bytes here; where the server says something else, nothing is signed.
"""
DENYING = "Refuse a command for everybody; it will not run."
DEV_SIGNING = """\
Sign every strong command that waits for approval, for trying things out on this machine alone.
A PC takes such a signature only with control.profile: dev and a server on a loopback address.
"""


def parse_approve(argv: Sequence[str]) -> argparse.Namespace:
    """`reco3 approve ID`.

    Raises:
        BadUsage: the message says what was expected.
    """
    parser = _parser("approve", APPROVING, key_options(), common_options())
    _add_id(parser)
    parser.add_argument("--comment", type=reason, metavar="TEXT", help="kept with your approval")
    parser.add_argument("--yes", action="store_true", help="sign without asking; what is signed is still shown")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the result")
    return parser.parse_args(list(argv))


def parse_deny(argv: Sequence[str]) -> argparse.Namespace:
    """`reco3 deny ID --reason TEXT`.

    Raises:
        BadUsage: the message says what was expected.
    """
    parser = _parser("deny", DENYING, common_options())
    _add_id(parser)
    parser.add_argument("--reason", type=reason, required=True, metavar="TEXT", help="why, for the record")
    return parser.parse_args(list(argv))


def parse_dev_signer(argv: Sequence[str]) -> argparse.Namespace:
    """`reco3 dev-signer --server URL`.

    Raises:
        BadUsage: the message says what was expected.
    """
    parser = _parser("dev-signer", DEV_SIGNING, common_options())
    parser.add_argument("--once", action="store_true", help="sign what waits now, then stop")
    return parser.parse_args(list(argv))


def _parser(name: str, description: str, *parents: Parser) -> Parser:
    return Parser(
        prog=f"reco3 {name}",
        description=description,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=list(parents),
        allow_abbrev=False,
    )


def _add_id(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", type=not_empty, help="the command's id, as `reco3 commands list` shows it")
