"""What a command line prints, and the exit code that each way of ending has.

It refuses to print a text as it came to standard error, and to fail on a terminal that knows fewer characters.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum

from reco3.console.api import Refused, Unreachable
from reco3.console.keys import URL_VARIABLE, BadUsage
from reco3.console.texts import json_text, visible_lines

INTERRUPTED = 130


class Exit(IntEnum):
    """What a script learns from the exit code; the last two only from a command that waits for the end."""

    DONE = 0
    REFUSED = 1
    BAD_USAGE = 2
    UNREACHABLE = 3
    NOT_COMPLETED = 4
    UNKNOWN = 5


class NotSigned(Exception):
    """Nothing was signed, by the approver's own choice or because the bytes must not be; the message says why."""

    code = "not_signed"


def run(parse: Callable[[], argparse.Namespace], act: Callable[[argparse.Namespace], int]) -> int:
    """Parse, act, and turn every expected failure into one line and its exit code."""
    is_json = False
    try:
        options = parse()
        is_json = wants_json(options)
        return act(options)
    except (BadUsage, Refused, Unreachable, NotSigned) as err:
        return _tell_failure(err, is_json=is_json)
    except SystemExit as err:
        return int(err.code or 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing may be flushed to him at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


def wants_json(options: argparse.Namespace) -> bool:
    """Whether `--json` was given."""
    return bool(getattr(options, "json", False))


def done(lines: Iterable[str]) -> int:
    """Print the result; returns the exit code of a success."""
    print_lines(lines)
    return Exit.DONE


def print_lines(lines: Iterable[str]) -> None:
    """Lines to standard output; texts from outside in them were made visible before."""
    for line in lines:
        sys.stdout.write(_encodable(line, sys.stdout.encoding) + "\n")
    sys.stdout.flush()


def tell(lines: Iterable[str]) -> None:
    """What a person reads before the result, to standard error; texts from outside were made visible before."""
    for line in lines:
        sys.stderr.write(_encodable(line, sys.stderr.encoding) + "\n")
    sys.stderr.flush()


def complain(text: str) -> None:
    """What a person should know besides the result, to standard error."""
    sys.stderr.write(f"reco3: {_encodable(visible_lines(text), sys.stderr.encoding)}\n")
    sys.stderr.flush()


def _tell_failure(err: BadUsage | Refused | Unreachable | NotSigned, *, is_json: bool) -> Exit:
    match err:
        case Refused():
            if is_json:
                print_lines([json_text({"error": err.code, "message": err.message})])
            complain(f"the server refused: {err.code}: {err.message}{_hint(err)}")
            return Exit.REFUSED
        case NotSigned():
            if is_json:
                print_lines([json_text({"error": err.code, "message": str(err)})])
            complain(f"NOT SIGNED: {err}")
            return Exit.REFUSED
        case Unreachable():
            complain(f"{err}. Is the server running there? --server URL or ${URL_VARIABLE} names another.")
            return Exit.UNREACHABLE
        case BadUsage():
            complain(str(err))
            return Exit.BAD_USAGE


def _hint(err: Refused) -> str:
    hint = _hints.get(err.code)
    return f" ({hint})" if hint else ""


_hints: Mapping[str, str] = {
    "unauthorized": "give the operator's key: --api-key-file FILE or $RECO3_API_KEY",
    "signature_needed": "reco3 approve ID signs it with your own key",
    "unknown_key": "reco3 keys register makes your key known to the server",
}


def _encodable(text: str, encoding: str | None) -> str:
    return text.encode(encoding or "ascii", "backslashreplace").decode(encoding or "ascii")
