"""The words of `reco3 swarm …`: what may be given, and what is said when it is wrong.

It refuses to guess: abbreviations are errors, and a key is no argument.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from reco3.protocol.limits import HEARTBEAT_PERIOD_S, MAX_PULL_WAIT_S
from reco3.swarm.plans import MAX_PCS
from reco3.swarm.targets import MAX_WORKERS, BadUsage, parse_target

MAX_CONNECTIONS = 500_000
MAX_SECONDS = 7 * 86_400
DEFAULT_SEED = "1"
EXAMPLES = """\
examples:
  reco3 swarm keys --pcs 1000 > keys.txt          (the server reads it: RECO3_AGENT_KEYS_FILE=keys.txt)
  reco3 swarm run --base-url http://127.0.0.1:5001 --pcs 1000 --seconds 60 --logs-per-minute 4 --commands 20
  reco3 swarm load --base-url http://127.0.0.1:5001 --pcs 1000 --connections 64 --closed --seconds 10
exit codes: 0 done; 1 something acknowledged is lost or stored twice, or nobody answered; 2 bad usage
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadUsage(f"{message}\nusage: see {self.prog} --help")


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The verb and its options.

    Raises:
        BadUsage: the message says what was expected.
    """
    if not argv:
        raise BadUsage("expected one of keys, run, load, verify\nusage: see reco3 swarm --help")
    options = _parser().parse_args(list(argv))
    _refuse_contradictions(options)
    return options


def _parser() -> _Parser:
    parser = _Parser(
        prog="reco3 swarm",
        description="Simulate many PCs against a RECO3 server.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    def add(verb: str, text: str) -> _Parser:
        return verbs.add_parser(verb, help=text, description=text, allow_abbrev=False)

    _add_fleet(add("keys", "Print the PCs' keys, id=key a line."))
    _add_run(add("run", "Behave like so many real agents, and verify what was acknowledged."))
    _add_load(add("load", "Send requests as fast as they are answered, or at a fixed rate."))
    _add_verify(add("verify", "Hold a ledger that a run has written against the server's record."))
    return parser


def _add_fleet(verb: _Parser) -> None:
    verb.add_argument("--pcs", type=_whole(1, MAX_PCS), required=True, metavar="N", help="how many PCs")
    verb.add_argument(
        "--seed", type=_seed, default=DEFAULT_SEED, metavar="S", help=f"what the keys are made from ({DEFAULT_SEED})"
    )


def _add_target(verb: _Parser) -> None:
    verb.add_argument("--base-url", type=_target, required=True, dest="target", metavar="URL", help="the server")


def _add_length(verb: _Parser) -> None:
    verb.add_argument("--seconds", type=_span(0.1, MAX_SECONDS), required=True, metavar="T", help="how long")
    verb.add_argument("--workers", type=_whole(1, MAX_WORKERS), metavar="N", help="processes (as many as are needed)")
    verb.add_argument("--json", type=Path, metavar="FILE", help="write the report there as JSON")


def _add_run(verb: _Parser) -> None:
    _add_target(verb)
    _add_fleet(verb)
    _add_length(verb)
    verb.add_argument("--heartbeat-s", type=_span(0.1, 3600), default=float(HEARTBEAT_PERIOD_S), metavar="S")
    verb.add_argument("--start-spread-s", type=_span(0, MAX_SECONDS), metavar="S", help="default: --heartbeat-s")
    verb.add_argument("--pull-wait", type=_whole(0, MAX_PULL_WAIT_S), default=25, metavar="S", help="0: poll")
    verb.add_argument("--held-pulls", type=_held, default=MAX_PCS, metavar="N|all", help="PCs that hold pulls")
    verb.add_argument("--logs-per-minute", type=_span(0, 60_000), default=0.0, metavar="X", help="lines of each PC")
    verb.add_argument("--failure-probability", type=_span(0, 0.9), default=0.0, metavar="P", help="requests cut off")
    verb.add_argument("--connections", type=_lines, default=None, metavar="own|shared:C", help="default: own")
    verb.add_argument("--commands", type=_whole(0, MAX_PCS), default=0, metavar="K", help="one each to K random PCs")
    verb.add_argument("--ledger", type=Path, metavar="FILE", help="write the books there")
    _add_record(verb)


def _add_load(verb: _Parser) -> None:
    _add_target(verb)
    _add_fleet(verb)
    _add_length(verb)
    verb.add_argument("--connections", type=_whole(1, MAX_CONNECTIONS), default=64, metavar="C")
    pace = verb.add_mutually_exclusive_group(required=True)
    pace.add_argument("--closed", action="store_true", help="each connection sends when it was answered")
    pace.add_argument("--rate", type=_span(0.1, 10_000_000), metavar="R", help="so many requests a second")
    verb.add_argument("--warm-up-s", type=_span(0, 3600), default=3.0, metavar="S", help="not counted (3)")
    verb.add_argument("--path", type=_path, default="/agent/heartbeat", metavar="PATH", help="default: heartbeats")
    verb.add_argument("--method", choices=("POST", "GET"), default="POST", help="POST sends a heartbeat's body")


def _add_verify(verb: _Parser) -> None:
    verb.add_argument("--ledger", type=Path, required=True, metavar="FILE", help="the books that a run has written")
    verb.add_argument("--base-url", type=_target, dest="target", metavar="URL", help="the server")
    _add_record(verb)


def _add_record(verb: _Parser) -> None:
    verb.add_argument("--operator-key-file", type=Path, metavar="FILE", help="not needed in test mode on loopback")
    verb.add_argument("--database", type=Path, metavar="FILE", help="verify straight from the server's SQLite file")
    verb.add_argument("--verify", action="store_true", help="verify through the operator API")


def _refuse_contradictions(options: argparse.Namespace) -> None:
    if options.verb == "run":
        if options.start_spread_s is None:
            options.start_spread_s = options.heartbeat_s
        if options.seconds <= options.start_spread_s:
            raise BadUsage(f"--seconds: expected more than the start spread of {options.start_spread_s:g} s")
    if options.verb == "load" and options.seconds <= options.warm_up_s:
        raise BadUsage(f"--seconds: expected more than the warm-up of {options.warm_up_s:g} s")
    if options.verb == "verify" and options.database is None and options.target is None:
        raise BadUsage("expected --database FILE, or --base-url URL to verify through the operator API")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:12]) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {ascii(text)[:40]}")
        return int(text)

    return parse


def _span(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        is_number = re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text)
        if not is_number or not least <= float(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a number from {least:g} to {most:g}, got {ascii(text)[:40]}")
        return float(text)

    return parse


def _held(text: str) -> int:
    return MAX_PCS if text == "all" else _whole(0, MAX_PCS)(text)


def _lines(text: str) -> int | None:
    if text == "own":
        return None
    name, _, count = text.partition(":")
    if name != "shared":
        raise argparse.ArgumentTypeError(f"expected own or shared:C, got {ascii(text)[:40]}")
    return _whole(1, MAX_CONNECTIONS)(count)


def _seed(text: str) -> str:
    if not text.isascii() or not text.isprintable() or not text:
        raise argparse.ArgumentTypeError(f"expected printable ASCII, got {ascii(text)[:40]}")
    return text


def _path(text: str) -> str:
    if not re.fullmatch(r"/[!-~]*", text):
        raise argparse.ArgumentTypeError(f"expected a path such as /agent/heartbeat, got {ascii(text)[:40]}")
    return text


_target = parse_target
