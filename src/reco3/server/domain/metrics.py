"""Samples: the few numbers of a heartbeat that are kept as history."""

import math
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter

from reco3.protocol.limits import MAX_PROCESSES
from reco3.protocol.messages import Metrics
from reco3.server.domain.errors import BadInput

MAX_TEXT_CHARS = 256
MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One point of a PC's history: percentages 0 to 100, network totals in bytes since boot."""

    agent_id: str
    ts: datetime
    cpu_percent: float | None
    mem_percent: float | None
    disk_percent: float | None
    net_bytes_sent: int | None
    net_bytes_recv: int | None


def check_metrics(metrics: Metrics) -> None:
    """Refuse numbers that no PC can have and texts that no name needs.

    Raises:
        BadInput: names the first offending field.
    """
    for value in _numbers(metrics):
        # Not a number compares false with everything.
        if value is not None and not 0 <= value <= MAX_INTEGER:
            _name_the_fault(metrics)
    for text in _texts(metrics):
        if text is not None and len(text) > MAX_TEXT_CHARS:
            _name_the_fault(metrics)
    if len(metrics.processes) > MAX_PROCESSES:
        raise BadInput("metrics.processes", f"expected at most {MAX_PROCESSES} entries, got {len(metrics.processes)}")


TEXTS = ("platform", "hostname", "mode", "journal", "trust_version")
NUMBERS = tuple(
    field.name for field in fields(Metrics) if field.name not in (*TEXTS, "apply_enabled", "processes", "interfaces")
)
_numbers, _texts = attrgetter(*NUMBERS), attrgetter(*TEXTS)


def _name_the_fault(metrics: Metrics) -> None:
    for name in (*NUMBERS, *TEXTS):
        _check_value(name, getattr(metrics, name))


def _check_value(name: str, value: object) -> None:
    if isinstance(value, bool):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput(f"metrics.{name}", "expected a finite number")
    if isinstance(value, int | float) and not 0 <= value <= MAX_INTEGER:
        raise BadInput(f"metrics.{name}", f"expected a number from 0 to {MAX_INTEGER}, got {value}")
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
        raise BadInput(f"metrics.{name}", f"expected at most {MAX_TEXT_CHARS} characters, got {len(value)}")
