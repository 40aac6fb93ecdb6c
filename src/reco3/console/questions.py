"""Asks a person yes or no.

It refuses to take silence, or anything but a plain yes, for a yes.
"""

import sys

from reco3.console.keys import BadUsage

YES = frozenset({"y", "yes"})


def said_yes(question: str) -> bool:
    """Whether the person at the terminal says yes; Enter alone is no.

    Raises:
        BadUsage: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise BadUsage("there is no terminal to ask whether you agree: --yes signs without asking")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline(16).strip().lower() in YES
