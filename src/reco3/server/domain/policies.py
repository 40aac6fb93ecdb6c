"""Policies: how many people must approve a strong command, and under which terms.

They are the server's own word: what a PC demands stands in its config, and a policy can only ask for more.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from reco3.protocol.commands import CommandType, needs_approval
from reco3.protocol.envelope import MAX_VALIDITY_S
from reco3.server.domain.commands import MIN_LIFETIME_S
from reco3.server.domain.errors import BadInput

ANY = "*"
MAX_APPROVALS = 10
MAX_PATTERN_CHARS = 64
_WILDCARDS = frozenset("*?")
_PATTERN_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-*?")


@dataclass(frozen=True, slots=True)
class Terms:
    """What it takes to approve a command; `lifetime_s` is the longest that it may wait, None for the usual."""

    approvals_required: int = 1
    four_eyes: bool = False
    reason_required: bool = False
    lifetime_s: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Terms for one command type, or `*` for all, on the PCs whose names a pattern such as `db-*` matches."""

    id: str
    command_type: str
    agent_pattern: str
    terms: Terms
    updated_by: str
    updated_at: datetime

    def covers(self, command_type: CommandType, agent_id: str) -> bool:
        """Whether the policy speaks of this command on this PC."""
        return self.command_type in (ANY, command_type) and fnmatchcase(agent_id, self.agent_pattern)


def default_terms(*, has_people: bool) -> Terms:
    """What holds without a policy: four eyes need two people, so they begin with the first person's account."""
    return Terms(four_eyes=has_people)


def terms_for(policies: Iterable[Policy], command_type: CommandType, agent_id: str, *, has_people: bool) -> Terms:
    """The terms of the most specific policy.

    A PC's own name beats a pattern, a longer pattern a shorter one, then a named type `*`; what is left is decided by
    the stricter terms.
    """
    covering = [policy for policy in policies if policy.covers(command_type, agent_id)]
    if not covering:
        return default_terms(has_people=has_people)
    return max(covering, key=_specificity).terms


def check_policy(policy: Policy) -> None:
    """Refuse a policy that could never hold.

    Raises:
        BadInput: names the field.
    """
    strong = [command_type.value for command_type in CommandType if needs_approval(command_type)]
    if policy.command_type not in (ANY, *strong):
        known = ", ".join(strong)
        raise BadInput("command_type", f"expected * or one of {known}, got {ascii(policy.command_type)[:60]}")
    pattern = policy.agent_pattern
    if not 1 <= len(pattern) <= MAX_PATTERN_CHARS or not _PATTERN_CHARS.issuperset(pattern):
        raise BadInput("agent_pattern", f"expected 1 to {MAX_PATTERN_CHARS} letters, digits and . _ - * ?")
    terms = policy.terms
    if not 1 <= terms.approvals_required <= MAX_APPROVALS:
        raise BadInput("approvals_required", f"expected 1 to {MAX_APPROVALS}, got {terms.approvals_required}")
    if terms.lifetime_s is not None and not MIN_LIFETIME_S <= terms.lifetime_s <= MAX_VALIDITY_S:
        raise BadInput("lifetime_s", f"expected {MIN_LIFETIME_S} to {MAX_VALIDITY_S} seconds, got {terms.lifetime_s}")


def _specificity(policy: Policy) -> tuple[object, ...]:
    letters = sum(character not in _WILDCARDS for character in policy.agent_pattern)
    terms = policy.terms
    return (
        _WILDCARDS.isdisjoint(policy.agent_pattern),
        letters,
        policy.command_type != ANY,
        terms.approvals_required,
        terms.four_eyes,
        terms.reason_required,
        policy.agent_pattern,
    )
