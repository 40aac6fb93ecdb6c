"""Operators: what each role grants, which names and passwords are refused, when a proof is fresh."""

from datetime import timedelta
from typing import Any

import pytest

from builders import cases, expanded, operator
from fakes import START
from reco3.server.domain.errors import BadInput, Conflict, Forbidden
from reco3.server.domain.operators import (
    SESSION_LIFETIME,
    LoginMethod,
    Operator,
    Role,
    check_name,
    grants,
    has_role,
    is_proved,
    new_session,
    prolonged,
    refuse_last_admin,
    require_person,
    require_proof,
)
from reco3.server.domain.passwords import check_password
from reco3.server.domain.tokens import ApiToken, check_token_role, is_use_worth_noting, opens

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
    assert {required for required in Role if grants(role, required)} == GRANTED[role]


@pytest.mark.parametrize("case", cases("operator_names"), ids=lambda case: ascii(case["name"])[:30])
def test_a_name_belongs_to_a_person_or_is_refused(case: dict[str, Any]) -> None:
    name = expanded(case["name"])
    if case["is_good"]:
        check_name(name)
        return
    with pytest.raises(BadInput) as refusal:
        check_name(name)
    assert refusal.value.field == "name"


@pytest.mark.parametrize("case", cases("passwords"), ids=lambda case: ascii(expanded(case["password"]))[:30])
def test_a_password_is_taken_or_refused_with_the_reason_and_never_repeated(case: dict[str, Any]) -> None:
    password = expanded(case["password"])
    if case["weakness"] is None:
        check_password(password, name=case["name"])
        return
    with pytest.raises(BadInput) as refusal:
        check_password(password, name=case["name"])
    assert refusal.value.code == "weak_password"
    assert case["weakness"] in refusal.value.message
    assert not password or password not in refusal.value.message


def test_a_proof_is_fresh_for_five_minutes() -> None:
    proved = Operator("alice", Role.APPROVER, LoginMethod.SESSION, START)

    require_proof(proved, START + timedelta(minutes=5) - timedelta(milliseconds=1))
    for stale, now in (
        (proved, START + timedelta(minutes=5)),
        (Operator("al", Role.ADMIN, LoginMethod.SESSION), START),
    ):
        with pytest.raises(Forbidden) as refusal:
            require_proof(stale, now)
        assert refusal.value.code == "proof_needed"


@pytest.mark.parametrize("method", [method for method in LoginMethod if method is not LoginMethod.SESSION])
def test_whoever_sends_his_credential_with_every_request_proves_himself_with_it(method: LoginMethod) -> None:
    assert is_proved(Operator("ci", Role.ADMIN, method), START)


def test_only_a_token_is_no_person() -> None:
    for method in LoginMethod:
        if method is LoginMethod.TOKEN:
            with pytest.raises(Forbidden) as refusal:
                require_person(Operator("ci", Role.ADMIN, method))
            assert refusal.value.code == "person_needed"
        else:
            require_person(Operator("ann", Role.ADMIN, method))


def test_the_last_administrator_stays() -> None:
    refuse_last_admin(admins_left=1)
    with pytest.raises(Conflict) as refusal:
        refuse_last_admin(admins_left=0)
    assert refusal.value.code == "last_admin"


def test_a_session_idles_out_after_two_hours_and_never_lasts_longer_than_twelve() -> None:
    session = new_session("hash", Operator("ann", Role.VIEWER, LoginMethod.SESSION), START)

    assert session.expires_at == START + timedelta(hours=2)
    assert session.proved_at == START
    assert prolonged(session, START + timedelta(minutes=9)) is None
    assert prolonged(session, START + timedelta(minutes=10)) == START + timedelta(hours=2, minutes=10)
    assert prolonged(session, START + timedelta(hours=11)) == START + SESSION_LIFETIME


def test_a_session_at_its_very_end_is_prolonged_no_more() -> None:
    session = new_session("hash", Operator("ann", Role.VIEWER, LoginMethod.SESSION), START)
    at_its_end = type(session)("hash", "ann", Role.VIEWER, START, START + SESSION_LIFETIME)

    assert prolonged(at_its_end, START + timedelta(hours=11, minutes=59)) is None


def token(**changes: Any) -> ApiToken:
    defaults: dict[str, Any] = {"role": Role.OPERATOR, "created_at": START, "expires_at": START + timedelta(days=1)}
    return ApiToken(token_hash="hash", id="t-1", name="ci", owner="ann", **{**defaults, **changes})


@pytest.mark.parametrize("held", [None, *Role])
def test_a_token_opens_while_its_owner_holds_what_it_grants(held: Role | None) -> None:
    assert opens(token(), owner_role=held, now=START) is (held in (Role.OPERATOR, Role.APPROVER, Role.ADMIN))


def test_a_token_that_is_revoked_or_expired_opens_nothing() -> None:
    assert not opens(token(revoked_at=START), owner_role=Role.ADMIN, now=START)
    assert not opens(token(), owner_role=Role.ADMIN, now=START + timedelta(days=1))
    assert opens(token(), owner_role=Role.ADMIN, now=START + timedelta(days=1) - timedelta(milliseconds=1))


@pytest.mark.parametrize("held", list(Role))
def test_nobody_makes_a_token_that_does_more_than_himself(held: Role) -> None:
    for wanted in Role:
        if wanted in GRANTED[held]:
            check_token_role(held, wanted)
        else:
            with pytest.raises(Forbidden):
                check_token_role(held, wanted)


def test_the_use_of_a_token_is_worth_noting_once_in_ten_minutes() -> None:
    used = token(last_used_at=START)

    assert is_use_worth_noting(token(), START)
    assert not is_use_worth_noting(used, START + timedelta(minutes=10) - timedelta(milliseconds=1))
    assert is_use_worth_noting(used, START + timedelta(minutes=10))
