"""Makes text from outside safe to print: no control character, escape sequence or turned-around line.

It refuses to hide anything: what is not printed is named by its code point.
"""

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

MAX_PILED_MARKS = 4
GAP = "  "
# Letters that look like nothing at all.
UNSEEN_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def visible(text: object) -> str:
    """One line in which every character can be seen."""
    return visible_lines(text).replace("\n", " ⏎ ").replace("\t", " ")


def visible_lines(text: object) -> str:
    """Like `visible`, but line breaks and tabs stay."""
    shown: list[str] = []
    marks = 0
    for character in ("" if text is None else str(text)).replace("\r\n", "\n"):
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        if marks <= MAX_PILED_MARKS:
            shown.append(_seen(character))
        elif marks == MAX_PILED_MARKS + 1:
            shown.append("…")
    return "".join(shown)


def cut(text: str, width: int) -> str:
    """The beginning of a text that takes at most `width` columns."""
    if columns(text) <= width:
        return text
    kept = ""
    for character in text:
        if columns(kept + character) >= width:
            break
        kept += character
    return kept + "…"


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(_columns_of(character) for character in text)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, its cells below those of the row above."""
    widths = [max(map(columns, cells)) for cells in zip(*rows, strict=True)]
    padded = ([cell + " " * (room - columns(cell)) for cell, room in zip(row, widths, strict=True)] for row in rows)
    return [GAP.join(cells).rstrip() for cells in padded]


def json_text(content: object) -> str:
    """JSON in plain ASCII, so that no terminal obeys a text in it."""
    return json.dumps(content, indent=2, ensure_ascii=True).replace("\x7f", "\\u007f")


def value_text(value: Any) -> str:
    """A value as one visible line; what is no text is JSON."""
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _seen(character: str) -> str:
    if character in "\n\t":
        return character
    category = unicodedata.category(character)
    if category.startswith("C") or category in ("Zl", "Zp") or character in UNSEEN_LETTERS:
        return f"\u2039U+{ord(character):04X}\u203a"
    return character


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
