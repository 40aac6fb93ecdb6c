"""What the three service managers have in common: what a service does now, and the steps that change it.

It refuses to know any of them: names, words and exit codes are the business of each system's own file.
"""

from dataclasses import dataclass
from enum import StrEnum


class ServiceVerb(StrEnum):
    """What a command may ask of a service."""

    RESTART = "restart"
    STOP = "stop"


class Condition(StrEnum):
    """What a service does, in one word for all systems; MISSING means that its manager does not know it."""

    RUNNING = "running"
    STOPPED = "stopped"
    CHANGING = "changing"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A service as its manager sees it; `word` is the manager's own for what it does."""

    condition: Condition
    word: str = ""
    pid: int | None = None
    restarts: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One argv, which exit codes are right, and what to wait for after it, as not every manager waits by itself.

    An exit code in `instead_on` means that the manager does not know the service yet: the steps `instead` are taken.
    """

    argv: tuple[str, ...]
    accepted: tuple[int, ...] = (0,)
    until: tuple[Condition, ...] = ()
    instead_on: tuple[int, ...] = ()
    instead: tuple["Step", ...] = ()


def first_line(output: str, max_chars: int = 100) -> str:
    """Take what a manager says first, as its word for a state that it could not tell."""
    return output.strip().partition("\n")[0].strip()[:max_chars]
