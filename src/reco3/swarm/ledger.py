"""The swarm's own books: what the server acknowledged, command by command and line by line.

They are written from answers alone, never from what the server says about itself afterwards.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reco3.swarm.pcs import SimulatedPc
from reco3.swarm.targets import BadUsage

VERSION = 1


@dataclass(slots=True)
class Arrival:
    """A command that reached a PC: `arrived_at` is Unix time in seconds, `deliveries` how often it came."""

    pc: int
    arrived_at: float
    is_strong: bool = False
    deliveries: int = 1
    is_reported: bool = False


@dataclass(slots=True)
class Asked:
    """A command that the server took from the operator; `asked_at` is Unix time, before the request was sent."""

    pc: int
    asked_at: float


@dataclass(slots=True)
class Ledger:
    """The books of a run; the n-th entry of each list belongs to PC `first_pc + n`.

    `heartbeat_acked_at` is when the last acknowledged heartbeat was sent, in Unix time, 0 for none.
    """

    epoch: str
    first_pc: int = 0
    acked_seq: list[int] = field(default_factory=list)
    sent_seq: list[int] = field(default_factory=list)
    heartbeat_acked_at: list[float] = field(default_factory=list)
    arrivals: dict[str, Arrival] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)

    @classmethod
    def of(cls, epoch: str, pcs: Sequence[SimulatedPc], arrivals: Mapping[str, Arrival]) -> "Ledger":
        """The books of a worker's PCs, which are numbered without gaps."""
        return cls(
            epoch,
            pcs[0].number if pcs else 0,
            [pc.acked_seq for pc in pcs],
            [pc.sent_seq for pc in pcs],
            [round(pc.heartbeat_acked_at, 3) for pc in pcs],
            dict(arrivals),
        )

    def append(self, other: "Ledger") -> None:
        """Take over the books of the next worker."""
        self.acked_seq += other.acked_seq
        self.sent_seq += other.sent_seq
        self.heartbeat_acked_at += other.heartbeat_acked_at
        self.arrivals.update(other.arrivals)

    @property
    def lines_acked(self) -> int:
        """How many log lines the server says it holds."""
        return sum(self.acked_seq)


def acknowledged_seq(words: Mapping[str, object], *, first_seq: int, last_seq: int) -> int:
    """The highest number that an answer to a batch acknowledges; an older server tells a count, or nothing but 200."""
    acked_seq = words.get("acked_seq")
    if isinstance(acked_seq, int):
        return min(acked_seq, last_seq)
    count = words.get("count")
    if isinstance(count, int) and count >= 0:
        return min(first_seq + count - 1, last_seq)
    return last_seq


def write_ledger(ledger: Ledger, path: Path) -> None:
    """Write the books as JSON. Raises: OSError."""
    path.write_text(json.dumps({"version": VERSION, **asdict(ledger)}), encoding="utf-8")


def read_ledger(path: Path) -> Ledger:
    """The books in a file.

    Raises:
        BadUsage: there is no such file, or it is no ledger.
    """
    try:
        words: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if words.pop("version") != VERSION:
            raise BadUsage(f"--ledger: {path} was written by another version of the swarm")
        arrivals = {name: Arrival(**arrival) for name, arrival in words.pop("arrivals").items()}
        asked = {name: Asked(**command) for name, command in words.pop("asked").items()}
        return Ledger(**words, arrivals=arrivals, asked=asked)
    except OSError as err:
        raise BadUsage(f"--ledger: cannot read {path}: {err.strerror}") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise BadUsage(f"--ledger: {path} is no ledger of the swarm") from err
