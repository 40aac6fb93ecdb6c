"""Operators: what each role grants."""

import pytest

from builders import operator
from reco3.server.domain.operators import Role, has_role

GRANTED = {
    Role.VIEWER: {Role.VIEWER},
    Role.AUDITOR: {Role.VIEWER, Role.AUDITOR},
    Role.OPERATOR: {Role.VIEWER, Role.OPERATOR},
    Role.APPROVER: {Role.VIEWER, Role.OPERATOR, Role.APPROVER},
    Role.ADMIN: set(Role),
}


@pytest.mark.parametrize("role", list(Role))
def test_a_role_grants_exactly_what_its_row_says(role: Role) -> None:
    assert {required for required in Role if has_role(operator(role), required)} == GRANTED[role]
