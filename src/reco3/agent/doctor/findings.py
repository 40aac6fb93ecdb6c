"""What the doctor found: a stable code, a level, what was found and what to do; as text and as JSON.

It refuses to show a character that a terminal would obey.
"""

import json
import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

MAX_SHOWN_CHARS = 300
MAX_FOREIGN_CHARS = 120
MIN_SECRET_CHARS = 4
WIDTH = 120


class Level(StrEnum):
    """How bad it is, the worst first; only `broken` makes the exit code 1."""

    BROKEN = "broken"
    WARNING = "warning"
    NOTE = "note"
    OK = "ok"


_RANKS = {level: rank for rank, level in enumerate(Level)}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome; `to_do` is empty where nothing is to be done."""

    code: str
    level: Level
    found: str
    to_do: str = ""


def ok(code: str, found: str) -> Finding:
    """All is well."""
    return Finding(code, Level.OK, found)


def note(code: str, found: str, to_do: str = "") -> Finding:
    """Good to know."""
    return Finding(code, Level.NOTE, found, to_do)


def warning(code: str, found: str, to_do: str) -> Finding:
    """It works, but not as well or as safely as it should."""
    return Finding(code, Level.WARNING, found, to_do)


def broken(code: str, found: str, to_do: str) -> Finding:
    """Something that the config asks for does not work."""
    return Finding(code, Level.BROKEN, found, to_do)


def shown(text: object, max_chars: int = MAX_SHOWN_CHARS) -> str:
    """A text of this PC on one line."""
    line = "".join(character if character.isprintable() else "?" for character in str(text))
    return line if len(line) <= max_chars else line[:max_chars] + "..."


def word(path: object) -> str:
    """A path as one word of a command that a person may copy."""
    text = str(path)
    if sys.platform == "win32":
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)


def foreign(text: object) -> str:
    """A text of somebody else's making: ASCII alone, and not much of it."""
    return shown("".join(character if character.isascii() else "?" for character in str(text)), MAX_FOREIGN_CHARS)


def in_order(findings: Sequence[Finding], *, secret: str = "") -> list[Finding]:
    """The worst first, safe to show: on one line each, and without the key even where somebody echoed it."""
    return [_cleaned(one, secret) for one in sorted(findings, key=lambda one: _RANKS[one.level])]


def _cleaned(finding: Finding, secret: str) -> Finding:
    def clean(text: str) -> str:
        return shown(text.replace(secret, "***") if len(secret) >= MIN_SECRET_CHARS else text, 2 * MAX_SHOWN_CHARS)

    return replace(finding, found=clean(finding.found), to_do=clean(finding.to_do))


def count(findings: Sequence[Finding], level: Level) -> int:
    """How many there are of a level."""
    return sum(one.level is level for one in findings)


def as_json(findings: Sequence[Finding]) -> str:
    """The same for a program; the form is described in docs/doctor.md."""
    counts = {level: count(findings, level) for level in Level}
    return json.dumps({"checks": [asdict(one) for one in findings], **counts}, indent=2) + "\n"


def as_text(findings: Sequence[Finding]) -> str:
    """Aligned lines, what to do below what was found, and a last line that counts."""
    code_width = max(len(one.code) for one in findings)
    indent = " " * (len("warning") + code_width + 4)
    lines: list[str] = []
    for one in findings:
        head = f"{one.level:<7}  {one.code:<{code_width}}  "
        lines += _wrapped(one.found, head, indent)
        if one.to_do:
            lines.append(f"{indent}-> {one.to_do}")  # In one line: a command that is cut cannot be copied.
    return "\n".join([*lines, "", summary(findings), ""])


def _wrapped(text: str, head: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def summary(findings: Sequence[Finding]) -> str:
    """One line that counts, and names what is not as it should be."""
    counts = [_counted(count(findings, level), level) for level in (Level.BROKEN, Level.WARNING, Level.NOTE)]
    bad = list(dict.fromkeys(one.code for one in findings if one.level in {Level.BROKEN, Level.WARNING}))
    return ", ".join(counts) + ": " + (", ".join(bad) or f"nothing to repair in {len(findings)} checks")


def _counted(number: int, level: Level) -> str:
    return f"{number} {level}" + ("" if number == 1 or level is Level.BROKEN else "s")
