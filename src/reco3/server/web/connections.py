"""How many connections this process may have, and how crowded it is.

A process that runs out of descriptors can accept nobody, not even an operator; so pulls stop being held long before.
"""

import sys
from collections.abc import Sized

# A held pull can be told to come back later; a heartbeat cannot, and an operator least of all.
TIGHT_SHARE = 0.85
FULL_SHARE = 0.95
_UNLIMITED = 1_000_000


class Crowd:
    """The open connections beside the limit of the process."""

    def __init__(self, limit: int) -> None:
        self._tight = int(limit * TIGHT_SHARE)
        self._full = int(limit * FULL_SHARE)
        self._connections: Sized = ()

    def watch(self, connections: Sized) -> None:
        """Count these from now on."""
        self._connections = connections

    @property
    def is_tight(self) -> bool:
        """Whether pulls should be answered at once instead of held."""
        return len(self._connections) >= self._tight

    @property
    def is_full(self) -> bool:
        """Whether each connection should close after its answer to make room."""
        return len(self._connections) >= self._full


def raised_descriptor_limit() -> int:
    """Allow this process as many descriptors as the system lets it have; returns how many."""
    if sys.platform == "win32":
        return _UNLIMITED
    import resource  # noqa: PLC0415 - does not exist on Windows

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = _UNLIMITED
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
