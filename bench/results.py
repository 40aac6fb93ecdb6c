"""What a run measured, as frozen values, and their markdown.

It renders what it is given: it measures nothing, and it never fills a gap with a number; what was not measured says so.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

TITLE = "# RECO3 beside the tools one would pick instead"


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of texts."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Render title and table."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(map(_cell, line))} |" for line in lines)])


@dataclass(frozen=True, slots=True)
class Headline:
    """One line of the summary: our figure, the peer's, and how they relate."""

    what: str
    ours: str
    peer: str
    theirs: str
    ratio: str


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the results; `missing` says what was not measured, and why."""

    name: str
    title: str
    headlines: tuple[Headline, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    printed: str = ""
    seconds: float = 0.0

    def markdown(self) -> str:
        """Render the section; its command lines come last, to be repeated."""
        blocks = [f"## {self.title}", *(table.markdown() for table in self.tables)]
        if self.printed:
            blocks.append(self.printed.strip())
        blocks += ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        blocks += [f"Not measured: {reason}" for reason in self.missing]
        if self.commands:
            blocks.append("Commands:\n\n```sh\n" + "\n".join(self.commands) + "\n```")
        return "\n\n".join([*blocks, f"This section took {self.seconds:.0f} s."])


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run: the facts of the machine and the sections in the order they ran."""

    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...] = field(default=())
    warnings: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Render the file RESULTS.md: summary, machine, sections."""
        summary = summary_table(self.sections)
        facts = Table("Machine and versions", ("fact", "value"), self.facts)
        written = "Written by `make bench`; do not edit. `README.md` beside this file says how to read and repeat it."
        warnings = [f"**{warning}**" for warning in self.warnings]
        blocks = [TITLE, written, *warnings, summary.markdown(), *_missing(self.sections), facts.markdown()]
        return "\n\n".join([*blocks, *(section.markdown() for section in self.sections)]) + "\n"


def summary_table(sections: Sequence[Section]) -> Table:
    """Gather the headlines of all sections."""
    rows = [
        (each.what, each.ours, each.peer, each.theirs, each.ratio) for section in sections for each in section.headlines
    ]
    return Table("Summary", ("what", "RECO3", "beside", "figure", "ratio"), tuple(rows))


def times(value: float, base: float) -> str:
    """Render how many times `base` goes into `value`; a dash where there is nothing to divide by."""
    return f"{value / base:.2f}x" if base > 0 else "-"


def faster(ours_ms: float, theirs_ms: float) -> str:
    """Render how much sooner we are done; below 1 the peer is."""
    if min(ours_ms, theirs_ms) <= 0:
        return "-"
    return f"{theirs_ms / ours_ms:.1f}x faster" if theirs_ms >= ours_ms else f"{ours_ms / theirs_ms:.1f}x slower"


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return the value that `fraction` of all values do not exceed (nearest rank).

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values, no percentile")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * fraction // 1) - 1))]


def spread(values: Sequence[float], *, digits: int = 0) -> str:
    """Render the median, and the range when there are several values."""
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def printed_markdown(output: str) -> str:
    """Return a script's text without the JSON that ends it: tables as markdown, everything else as it was typed."""
    blocks: list[tuple[bool, list[str]]] = []
    for line in _without_json(output.splitlines()):
        is_table = line.startswith("|")
        if not blocks or blocks[-1][0] != is_table:
            blocks.append((is_table, []))
        blocks[-1][1].append(line)
    return "\n\n".join(filter(None, (_block(lines, is_table=is_table) for is_table, lines in blocks)))


def _missing(sections: Sequence[Section]) -> list[str]:
    lines = [f"- {section.title}: {reason}" for section in sections for reason in section.missing]
    return ["**Not measured in this run**\n\n" + "\n".join(lines)] if lines else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _without_json(lines: Sequence[str]) -> Sequence[str]:
    starts = [position for position, line in enumerate(lines) if line[:1] in ("{", "[")]
    return lines[: starts[0]] if starts else lines


def _block(lines: Sequence[str], *, is_table: bool) -> str:
    text = "\n".join(lines).strip("\n")
    return text if is_table or not text.strip() else f"```\n{text}\n```"
