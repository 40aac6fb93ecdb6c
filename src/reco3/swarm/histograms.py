"""How long things took, as counts in buckets that grow with the value: bounded memory, an error under 2 %.

It refuses to keep single values; of those it knows only the largest.
"""

from array import array

_PRECISION_BITS = 6
_PER_OCTAVE = 1 << _PRECISION_BITS
_OCTAVES = 30
_LONGEST_US = (1 << (_OCTAVES + _PRECISION_BITS)) - 1


class Histogram:
    """Spans of time from 1 µs to some hours."""

    __slots__ = ("_counts", "count", "max_s")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _PER_OCTAVE * (_OCTAVES + 1)))
        self.count = 0
        self.max_s = 0.0

    def record(self, span_s: float) -> None:
        """Count one span; a negative one counts as none."""
        span_us = min(int(span_s * 1_000_000), _LONGEST_US) if span_s > 0 else 0
        shift = span_us.bit_length() - _PRECISION_BITS - 1
        self._counts[span_us if shift < 0 else (shift << _PRECISION_BITS) + (span_us >> shift)] += 1
        self.count += 1
        if span_s > self.max_s:  # noqa: PLR1730 - max() would take as long as all the rest
            self.max_s = span_s

    def percentile_s(self, percent: float) -> float | None:
        """The span that `percent` of all do not exceed, rounded up to its bucket; None of nothing."""
        if not self.count:
            return None
        wanted = self.count * percent / 100
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(_highest_of(bucket) / 1_000_000, self.max_s)
        return self.max_s

    def add(self, other: "Histogram") -> None:
        """Count what another one counted."""
        for bucket, count in enumerate(other._counts):  # noqa: SLF001 - of our own kind
            if count:
                self._counts[bucket] += count
        self.count += other.count
        self.max_s = max(self.max_s, other.max_s)


def _highest_of(bucket: int) -> int:
    """The first span that is beyond a bucket, in µs."""
    if bucket < 2 * _PER_OCTAVE:
        return bucket + 1
    shift = (bucket >> _PRECISION_BITS) - 1
    mantissa = bucket - (shift << _PRECISION_BITS)
    return (mantissa + 1) << shift
