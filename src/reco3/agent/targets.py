"""Looks at what a command acts on: the processes of a name, and the service behind them.

It refuses to conclude anything from what it sees, and it changes nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from reco3.agent import platform, runner
from reco3.agent.metrics import Sighting, find_processes, still_there
from reco3.agent.platform.service_states import Condition, ServiceState

MAX_PROCESSES_KEPT = 50
ASK_TIMEOUT_S = 10.0
ASK_MAX_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """One process; a pid is given again to others, a pid with its `started` is not (until the system starts anew)."""

    pid: int
    started: float
    create_time_ms: int


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at a target saw; processes are oldest first, `service` is None when none is configured.

    A short look may miss a process that is a few seconds old; `short_look_at` is when it began, comparable to
    `started`, and what started before that is no new process, seen or not. It is None for a look at all processes.
    """

    process: str
    seen: tuple[Seen, ...]
    boot_id: str
    service_name: str = ""
    service: ServiceState | None = None
    short_look_at: float | None = None

    @property
    def is_up(self) -> bool:
        """Whether anything of it runs."""
        return bool(self.seen) or (self.service is not None and self.service.condition is Condition.RUNNING)

    def new_since(self, before: "Sight") -> tuple[Seen, ...]:
        """The processes that were not there before."""
        return tuple(one for one in self.seen if not before.had(one))

    def left_from(self, before: "Sight") -> tuple[Seen, ...]:
        """The processes that were there before already."""
        return tuple(one for one in self.seen if before.had(one))

    def had(self, one: Seen) -> bool:
        """Whether a process was there at the time of this look."""
        # Starts are told in whole ticks: one within the tick of the look may well have come after it.
        is_older = self.short_look_at is not None and one.started < math.floor(self.short_look_at)
        return is_older or one in self.seen

    def record(self) -> dict[str, Any]:
        """As JSON, for the journal and for reports; `pid` and `create_time_ms` are the oldest process's."""
        oldest = self.seen[0] if self.seen else None
        return {
            "process": self.process,
            "pid": oldest.pid if oldest else None,
            "create_time_ms": oldest.create_time_ms if oldest else None,
            "pids": [one.pid for one in self.seen],
            "processes": [asdict(one) for one in self.seen],
            "boot_id": self.boot_id,
            "service_name": self.service_name,
            "service": asdict(self.service) if self.service else None,
            "short_look_at": self.short_look_at,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read what `record` wrote. Raises: KeyError, TypeError or ValueError for anything else."""
        service = record["service"]
        return cls(
            process=record["process"],
            seen=tuple(Seen(**each) for each in record["processes"]),
            boot_id=record["boot_id"],
            service_name=record["service_name"],
            service=ServiceState(**service | {"condition": Condition(service["condition"])}) if service else None,
            short_look_at=record.get("short_look_at"),
        )


RunCommand = Callable[[runner.Run], runner.Outcome]


def look(process: str, service_name: str, run: RunCommand = runner.run, *, known: Sequence[Sighting] = ()) -> Sight:
    """Look once; while the oldest of the `known` processes is there, at these alone instead of at all there are."""
    short_look_at = platform.moment() if known else None
    sightings = None if short_look_at is None else still_there(process, known)
    if sightings is None:
        short_look_at, sightings = None, find_processes([process])[process]
    sightings = sightings[:MAX_PROCESSES_KEPT]
    seen = tuple(Seen(one.pid, one.started, platform.created_at_ms(one.started)) for one in sightings)
    service = service_state(service_name, run) if service_name else None
    return Sight(process, seen, platform.boot_id(), service_name, service, short_look_at)


def service_state(name: str, run: RunCommand = runner.run) -> ServiceState:
    """Ask the system's service manager about a service."""
    asked = run(runner.Run(platform.service_state_argv(name), ASK_TIMEOUT_S, ASK_MAX_BYTES))
    return platform.read_service_state(asked.exit_code, asked.output)
