"""Where the passphrase of an approver's key comes from: a terminal, a file, or standard input.

It refuses to take one as an argument or from the environment, where others could list it, and to remember it.
"""

import getpass
import sys
from pathlib import Path

from reco3.console.keys import OTHERS_MAY_READ, BadUsage
from reco3.console.output import complain

MAX_PASSPHRASE_CHARS = 1024
NO_TERMINAL = (
    "there is no terminal to ask for the passphrase of the key: give --passphrase-file FILE, "
    "or --passphrase-file - to read it from standard input"
)


def new_passphrase(source: str | None) -> str:
    """A passphrase for a new key, asked for twice on a terminal.

    Raises:
        BadUsage: it is empty, the two differ, or there is nobody to ask.
    """
    if source is not None:
        return _not_empty(_read(source), source)
    passphrase = _not_empty(_ask("Passphrase for the new key: "), "the answer")
    if _ask("The same again: ") != passphrase:
        raise BadUsage("the two passphrases differ; no key was made")
    return passphrase


def passphrase(source: str | None, *, of: str) -> str:
    """The passphrase of the existing key `of`.

    Raises:
        BadUsage: it is empty, or there is nobody to ask.
    """
    if source is not None:
        return _not_empty(_read(source), source)
    return _not_empty(_ask(f"Passphrase of {of}: "), "the answer")


def _ask(prompt: str) -> str:
    if not sys.stdin.isatty():
        raise BadUsage(NO_TERMINAL)
    try:
        return getpass.getpass(prompt)
    except EOFError as err:
        raise BadUsage("no passphrase was given") from err


def _read(source: str) -> str:
    text = sys.stdin.readline(MAX_PASSPHRASE_CHARS + 2) if source == "-" else _read_file(Path(source))
    return text.rstrip("\r\n")


def _read_file(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.readline(MAX_PASSPHRASE_CHARS + 2)
        mode = path.stat().st_mode
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else "it is not text"
        raise BadUsage(f"--passphrase-file: cannot read {str(path)!a}: {reason}") from err
    if sys.platform != "win32" and mode & OTHERS_MAY_READ and path.is_file():
        complain(f"others can read the passphrase in {str(path)!a}; chmod 600 keeps it to you")
    return text


def _not_empty(text: str, source: str) -> str:
    if not text:
        raise BadUsage(
            f"the passphrase in {'standard input' if source == '-' else ascii(source)} is empty: whoever copies the "
            "key's file could sign with it. Give one, or say --no-passphrase when you make the key."
        )
    if len(text) > MAX_PASSPHRASE_CHARS:
        raise BadUsage(f"the passphrase is longer than {MAX_PASSPHRASE_CHARS} characters")
    return text
