"""What a lock says when it holds.

It refuses to know any lock.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """A lock held; `reason` says which one and how the PC's administrator opens it."""

    code: str
    reason: str
