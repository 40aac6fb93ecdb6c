"""Operators: who they are, what each role may do, and when a person must prove himself again.

A role is read live for every request; what a session or a token remembers never grants more than that.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from reco3.server.domain.errors import BadInput, Conflict, Forbidden

ADMIN = "admin"
SESSION_LIFETIME = timedelta(hours=12)
SESSION_IDLE = timedelta(hours=2)
PROOF_LIFETIME = timedelta(minutes=5)
INVITATION_LIFETIME = timedelta(hours=24)
# The use of a session or token is written down this coarsely, so that reading costs no writing.
USE_GRAIN = timedelta(minutes=10)

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_RESERVED_PREFIX = "dev-"


class Role(StrEnum):
    """What an operator may do, from looking on to everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"
    ADMIN = "admin"


class LoginMethod(StrEnum):
    """How a caller proved who he is."""

    TEST_MODE = "test-mode"
    SESSION = "session"
    API_KEY = "api-key"
    TOKEN = "token"  # noqa: S105 - the name of a way to log in


@dataclass(frozen=True, slots=True)
class Operator:
    """An authenticated person or script; `proved_at` is when the person behind a session last proved himself."""

    name: str
    role: Role
    method: LoginMethod
    proved_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may log in."""

    name: str
    role: Role
    created_at: datetime
    created_by: str | None = None
    disabled_at: datetime | None = None
    password_hash: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Invitation:
    """Somebody who may set a password once; of the token in the link only the hash is known."""

    token_hash: str
    name: str
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A server-side session; the browser holds a random token, the store only its hash.

    `expires_at` moves with its use; `role` is what the person held at log-in, and grants nothing.
    """

    token_hash: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime
    proved_at: datetime | None = None

    @property
    def id(self) -> str:
        """What its owner calls it by; it opens nothing."""
        return self.token_hash[:16]


# A role also grants what stands in its row: an approver may look and ask, an auditor only look.
_granted: dict[Role, frozenset[Role]] = {
    Role.VIEWER: frozenset({Role.VIEWER}),
    Role.AUDITOR: frozenset({Role.VIEWER, Role.AUDITOR}),
    Role.OPERATOR: frozenset({Role.VIEWER, Role.OPERATOR}),
    Role.APPROVER: frozenset({Role.VIEWER, Role.OPERATOR, Role.APPROVER}),
    Role.ADMIN: frozenset(Role),
}


def has_role(operator: Operator, required: Role) -> bool:
    """Whether the operator's role grants what `required` may do."""
    return grants(operator.role, required)


def grants(held: Role, wanted: Role) -> bool:
    """Whether who holds one role may do everything that another may."""
    return wanted in _granted[held]


def check_name(name: str) -> None:
    """Refuse a name that cannot belong to a person.

    Raises:
        BadInput: says which names can.
    """
    if _NAME.fullmatch(name) is None:
        raise BadInput("name", "expected 1 to 64 of a-z, 0-9 and . _ @ -, beginning with a letter or digit")
    if name == ADMIN or name.startswith(_RESERVED_PREFIX):
        raise BadInput("name", f"{name} is reserved: admin for API_KEY and the set-up, dev-… for development keys")


def new_session(token_hash: str, operator: Operator, now: datetime) -> Session:
    """A session that begins now; whoever opens it has just proved himself."""
    return Session(token_hash, operator.name, operator.role, now, now + SESSION_IDLE, proved_at=now)


def prolonged(session: Session, now: datetime) -> datetime | None:
    """Until when the session now lasts, or None when that is not worth writing down."""
    until = min(session.created_at + SESSION_LIFETIME, now + SESSION_IDLE)
    is_last = until == session.created_at + SESSION_LIFETIME and until != session.expires_at
    return until if is_last or until - session.expires_at >= USE_GRAIN else None


def is_proved(operator: Operator, now: datetime) -> bool:
    """Whether the caller proved himself just now.

    A key, a token and the test mode's own machine prove themselves with every request; a browser that somebody left
    open does not.
    """
    if operator.method is not LoginMethod.SESSION:
        return True
    return operator.proved_at is not None and now - operator.proved_at < PROOF_LIFETIME


def require_proof(operator: Operator, now: datetime) -> None:
    """Refuse a session whose owner has not proved himself within the last five minutes.

    Raises:
        Forbidden: `proof_needed`.
    """
    if not is_proved(operator, now):
        raise Forbidden(
            "This needs a fresh proof that it is you: send your password or a passkey to POST /api/session/proof.",
            code="proof_needed",
        )


def require_person(operator: Operator) -> None:
    """Refuse an API token where it would outlive itself: it must make no key, token or password.

    Raises:
        Forbidden: `person_needed`.
    """
    if operator.method is LoginMethod.TOKEN:
        raise Forbidden("An API token may not do this; log in, or use the API key.", code="person_needed")


def refuse_last_admin(*, admins_left: int) -> None:
    """Refuse a change that leaves nobody who may undo it.

    Raises:
        Conflict: `last_admin`.
    """
    if admins_left == 0:
        raise Conflict("This is the last administrator; make another one first.", code="last_admin")
