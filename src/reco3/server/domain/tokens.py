"""API tokens: what a script holds instead of a person's password.

A token never does more than its owner may do at this moment.
"""

from dataclasses import dataclass
from datetime import datetime

from reco3.server.domain.errors import Forbidden
from reco3.server.domain.operators import USE_GRAIN, Role, grants

PREFIX = "reco3_"
MAX_DAYS = 365
MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as it is stored; only its hash is known."""

    token_hash: str
    id: str
    name: str
    owner: str
    role: Role
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


def opens(token: ApiToken, *, owner_role: Role | None, now: datetime) -> bool:
    """Whether a token is good now; the owner's role is None once his account is gone or disabled."""
    if token.revoked_at is not None or token.expires_at <= now:
        return False
    return owner_role is not None and grants(owner_role, token.role)


def is_use_worth_noting(token: ApiToken, now: datetime) -> bool:
    """Whether the last use that was written down is long enough ago."""
    return token.last_used_at is None or now - token.last_used_at >= USE_GRAIN


def check_token_role(held: Role, wanted: Role) -> None:
    """Refuse a token that could do more than who makes it.

    Raises:
        Forbidden: says which role is held.
    """
    if not grants(held, wanted):
        raise Forbidden(f"Your role is {held}, so you cannot make a token with the role {wanted}.")
