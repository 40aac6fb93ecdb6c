"""Operators: who may do what.

Accounts and policies grow here; today there is one kind of credential, the API key, and its role.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


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


@dataclass(frozen=True, slots=True)
class Operator:
    """An authenticated person or script."""

    name: str
    role: Role
    method: LoginMethod


@dataclass(frozen=True, slots=True)
class Session:
    """A server-side session; the browser holds a random token, the store only its hash."""

    token_hash: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime


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
    return required in _granted[operator.role]
