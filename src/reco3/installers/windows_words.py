"""One command line from many words, as Windows programs take it apart again.

It refuses nothing: whoever needs a word without quotes looks at it before.
"""

from collections.abc import Sequence


def command_line(words: Sequence[str]) -> str:
    """Every word in quotes, so that no program can be found at the first space of a path.

    Source: "Parsing C command-line arguments" and CommandLineToArgvW, learn.microsoft.com.
    """
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    quoted, backslashes = '"', 0
    for character in word:
        if character == "\\":
            backslashes += 1
            continue
        # Backslashes are doubled before a quote only.
        quoted += "\\" * (2 * backslashes + 1 if character == '"' else backslashes) + character
        backslashes = 0
    return quoted + "\\" * (2 * backslashes) + '"'
