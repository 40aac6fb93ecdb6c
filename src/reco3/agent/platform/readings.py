"""What every system can tell of itself in numbers, in one shape for all.

It refuses to judge them: percentages and sums are made by the caller.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Physical memory; `available_bytes` is what programs could still take without swapping."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class DiskReading:
    """One file system; what is kept for the administrator is neither used nor free."""

    total_bytes: int
    used_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class ProcessorReading:
    """Seconds since the start of the system, summed over all processors."""

    busy_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class InterfaceReading:
    """Bytes since the start of the system."""

    bytes_sent: int
    bytes_recv: int
