"""Enrolment tokens: one use, a quarter of an hour, and one PC where the token names it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

TOKEN_LIFETIME = timedelta(minutes=15)
TOKENS_KEPT = timedelta(days=30)


class TokenStatus(StrEnum):
    """Whether a token can still be used."""

    OPEN = "open"
    USED = "used"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """Permission for one PC to come in; without an id the PC chooses a name that is not taken.

    `may_replace` lets it take the place of the key that the named PC has.
    """

    id: str
    token_hash: str
    agent_id: str | None
    may_replace: bool
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    used_by: str | None = None


def status_of(token: EnrolmentToken, now: datetime) -> TokenStatus:
    """What the token is at this moment."""
    if token.used_at is not None:
        return TokenStatus.USED
    return TokenStatus.OPEN if now < token.expires_at else TokenStatus.EXPIRED


def opens_for(token: EnrolmentToken, agent_id: str | None, now: datetime) -> bool:
    """Whether a PC that gives itself this name, or none, may use the token now."""
    if status_of(token, now) is not TokenStatus.OPEN:
        return False
    return token.agent_id is None or agent_id in (None, token.agent_id)
