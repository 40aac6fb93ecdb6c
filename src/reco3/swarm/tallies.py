"""What a worker counts while it runs, and how the counts of several workers become one.

It keeps counts and histograms alone; which record was acknowledged is the ledger's business.
"""

from collections import Counter
from dataclasses import dataclass, field

from reco3.swarm.connections import Kind
from reco3.swarm.histograms import Histogram


def _histograms() -> dict[Kind, Histogram]:
    return {kind: Histogram() for kind in Kind}


@dataclass(slots=True)
class Mark:
    """A moment that the user marked, and how long after it each PC had a heartbeat acknowledged that was sent later."""

    marked_at: float
    back: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class Tally:
    """Counts of one worker, or of all.

    `latencies` are from the moment at which a request was due; that of a pull is how much later than asked its empty
    answer came.
    `lags` are how late the swarm itself began.
    `answered` counts while rates are measured, `errors` always.
    `timeline` counts by second since the start, which was at `started_at` in Unix time.
    """

    latencies: dict[Kind, Histogram] = field(default_factory=_histograms)
    lags: Histogram = field(default_factory=Histogram)
    answered: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    timeline: dict[int, Counter[str]] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    lines_acked: int = 0
    opened: int = 0
    stale: int = 0
    held_up: int = 0
    backlog: int = 0
    started_at: float = 0.0
    measured_s: float = 0.0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    rss_bytes: int = 0
    idle_rss_bytes: int = 0

    def note(self, second: int, what: str) -> None:
        """Count something in its second."""
        counts = self.timeline.get(second)
        if counts is None:
            counts = self.timeline[second] = Counter()
        counts[what] += 1

    def add(self, other: "Tally") -> None:
        """Count what another worker counted."""
        for kind, histogram in other.latencies.items():
            self.latencies[kind].add(histogram)
        self.lags.add(other.lags)
        self.answered.update(other.answered)
        self.errors.update(other.errors)
        for second, counts in other.timeline.items():
            self.timeline.setdefault(second, Counter()).update(counts)
        self._add_marks(other.marks)
        for name in ("lines_acked", "opened", "stale", "held_up", "backlog", "cpu_s", "rss_bytes", "idle_rss_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.started_at = max(self.started_at, other.started_at)
        self.measured_s = max(self.measured_s, other.measured_s)
        self.wall_s = max(self.wall_s, other.wall_s)

    def _add_marks(self, marks: list[Mark]) -> None:
        self.marks.extend(Mark(mark.marked_at) for mark in marks[len(self.marks) :])
        for own, other in zip(self.marks, marks, strict=False):
            own.back.add(other.back)
