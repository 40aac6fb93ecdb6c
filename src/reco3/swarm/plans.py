"""What a run of the swarm is asked to do, as frozen values."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from reco3.swarm.targets import Target

MAX_PCS = 1_000_000


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """A fleet that behaves like real agents.

    `epoch` names this run in journals and log streams. `starts_at` is a moment of the monotonic clock.
    `shared_connections` is None when each PC has its own. PCs numbered below `held_pulls` hold pulls open.
    """

    target: Target
    pcs: int
    seed: str
    seconds: float
    epoch: str
    starts_at: float
    start_spread_s: float
    heartbeat_s: float
    pull_wait_s: int
    held_pulls: int
    logs_per_minute: float
    failure_probability: float
    shared_connections: int | None

    @property
    def ends_at(self) -> float:
        """When nothing new is begun any more."""
        return self.starts_at + self.seconds

    @property
    def measured_from(self) -> float:
        """From when on rates and latencies count: once every PC has begun."""
        return self.starts_at + self.start_spread_s


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Requests as fast as they are answered, or `rate` of them a second; `starts_at` is of the monotonic clock."""

    target: Target
    pcs: int
    seed: str
    seconds: float
    warm_up_s: float
    starts_at: float
    connections: int
    rate: float | None
    path: str
    method: str
    epoch: str


@dataclass(frozen=True, slots=True)
class CommandPlan:
    """How many commands the operator asks for, with which key (None: test mode), and between which moments."""

    count: int
    operator_key: str | None
    first_at: float
    last_at: float


def shares(count: int, workers: int) -> Sequence[range]:
    """The numbers below `count`, split into near-equal runs, one a worker."""
    bounds = [count * worker // workers for worker in range(workers + 1)]
    return [range(first, last) for first, last in pairwise(bounds)]
