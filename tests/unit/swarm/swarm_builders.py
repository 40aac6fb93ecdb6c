"""What the swarm's tests build: targets, plans, PCs, errands."""

import time
from dataclasses import replace
from typing import Any

from reco3.swarm.connections import Answer, Errand, Kind
from reco3.swarm.pcs import SimulatedPc
from reco3.swarm.plans import FleetPlan
from reco3.swarm.requests import RequestBook
from reco3.swarm.targets import Target

EPOCH = "e1"
TARGET = Target("http", "127.0.0.1", 5001, "", "127.0.0.1")


def book(**changes: Any) -> RequestBook:
    """Writes requests to a server on loopback."""
    return RequestBook(TARGET, **{"epoch": EPOCH, "started_ms": 1_789_000_000_000, "pull_wait_s": 25, **changes})


def plan(**changes: Any) -> FleetPlan:
    """Ten PCs that hold their pulls, an hour long, begun a while ago."""
    default = FleetPlan(
        target=TARGET,
        pcs=10,
        seed="1",
        seconds=3600.0,
        epoch=EPOCH,
        starts_at=time.monotonic() - 100,
        start_spread_s=10.0,
        heartbeat_s=10.0,
        pull_wait_s=25,
        held_pulls=10,
        logs_per_minute=0.0,
        failure_probability=0.0,
        shared_connections=None,
    )
    return replace(default, **changes)


def pc(number: int = 3, *, began_at: float | None = None) -> SimulatedPc:
    """A PC that has begun."""
    return SimulatedPc(number, seed="1", began_at=time.monotonic() - 100 if began_at is None else began_at)


def errand(kind: Kind = Kind.HEARTBEAT, **changes: Any) -> Errand:
    """A heartbeat on its way."""
    return Errand(**{"pc": pc(), "kind": kind, "request": b"?", "scheduled_at": 0.0, "timeout_s": 15.0, **changes})


def answer(body: str = '{"status":"ok"}', status: int = 200, retry_after: bytes | None = None) -> Answer:
    """A good answer."""
    return Answer(status, body.encode(), retry_after)
