"""People: invited, let in, changed and disabled; passwords, tokens and the proof that it is still they."""

import asyncio
import json
from datetime import timedelta

import pytest
from sqlalchemy import text

from builders import Rig, operator, rig
from reco3.server.domain.errors import (
    BadInput,
    Conflict,
    Forbidden,
    NotFound,
    Reco3Error,
    TooManyRequests,
    Unauthorized,
)
from reco3.server.domain.operators import LoginMethod, Operator, Role
from reco3.server.services.accounts import AccountChange
from reco3.server.services.tokens import NewToken
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio

REMOTE = "192.0.2.7"
PASSWORD = "correct horse battery"
KEY = "an-operator-key"


@pytest.fixture
def services(store: Database) -> Rig:
    """Every service over a real store, with an API key in the settings."""
    return rig(store, api_key=KEY)


async def joined(
    services: Rig, name: str = "alice", role: Role = Role.APPROVER, password: str | None = PASSWORD
) -> str:
    """Somebody who accepted an invitation; returns the token of the session."""
    invited = await services.accounts.invite(name, role, operator())
    return (await services.accounts.accept(invited.token, password)).token


async def refused(services: Rig, name: str, password: str, remote: str = REMOTE) -> Reco3Error:
    with pytest.raises(Reco3Error) as refusal:
        await services.operators.log_in_with_password(name, password, remote=remote)
    return refusal.value


async def everything_stored(store: Database) -> str:
    tables = ("operators", "sessions", "invitations", "api_tokens", "audit_log")
    queries = [text(f"SELECT * FROM {table}") for table in tables]
    found = await store.read(lambda tx: [list(map(tuple, tx._connection.execute(query))) for query in queries])
    return json.dumps(found, default=str)


async def test_an_invited_person_sets_a_password_and_is_in(services: Rig, store: Database) -> None:
    invited = await services.accounts.invite("alice", Role.APPROVER, operator())

    opened = await services.accounts.accept(invited.token, PASSWORD)
    again = await services.operators.log_in_with_password("alice", PASSWORD, remote=REMOTE)

    assert opened.operator == again.operator == Operator("alice", Role.APPROVER, LoginMethod.SESSION)
    assert await services.operators.by_session(opened.token) == opened.operator
    stored = await everything_stored(store)
    assert not [secret for secret in (PASSWORD, invited.token, opened.token, again.token) if secret in stored]
    assert [event.event_type for event in await services.events()] == [
        "operator_invited",
        "operator_created",
        "operator_login",
        "operator_login",
    ]


async def test_an_invitation_works_once_and_for_a_day(services: Rig) -> None:
    used = await services.accounts.invite("alice", Role.APPROVER, operator())
    await services.accounts.accept(used.token, PASSWORD)
    old = await services.accounts.invite("bob", Role.APPROVER, operator())
    services.clock.advance(timedelta(hours=24).total_seconds())

    for token in (used.token, old.token, old.token[:-1], "", "\u00fc", old.invitation.token_hash):
        with pytest.raises(Forbidden) as refusal:
            await services.accounts.accept(token, PASSWORD)
        assert refusal.value.code == "invitation_refused"


async def test_of_fifty_acceptances_at_once_one_succeeds(services: Rig) -> None:
    invited = await services.accounts.invite("alice", Role.APPROVER, operator())

    outcomes = await asyncio.gather(
        *(services.accounts.accept(invited.token, None) for _ in range(50)), return_exceptions=True
    )

    assert sum(isinstance(outcome, Forbidden) for outcome in outcomes) == 49


async def test_a_weak_password_leaves_the_invitation_open(services: Rig) -> None:
    invited = await services.accounts.invite("alice", Role.APPROVER, operator())

    with pytest.raises(BadInput):
        await services.accounts.accept(invited.token, "alice-alice-alice")

    assert (await services.accounts.accept(invited.token, PASSWORD)).token


async def test_a_newer_invitation_makes_the_older_void_and_a_taken_name_is_not_invited(services: Rig) -> None:
    older = await services.accounts.invite("alice", Role.ADMIN, operator())
    newer = await services.accounts.invite("alice", Role.VIEWER, operator())

    with pytest.raises(Forbidden):
        await services.accounts.accept(older.token, PASSWORD)
    assert (await services.accounts.accept(newer.token, PASSWORD)).operator.role is Role.VIEWER
    with pytest.raises(Conflict) as refusal:
        await services.accounts.invite("alice", Role.VIEWER, operator())
    assert refusal.value.code == "name_taken"


async def test_a_withdrawn_invitation_is_void(services: Rig) -> None:
    invited = await services.accounts.invite("alice", Role.APPROVER, operator())

    await services.accounts.withdraw("alice", operator())

    with pytest.raises(Forbidden):
        await services.accounts.accept(invited.token, PASSWORD)
    with pytest.raises(NotFound):
        await services.accounts.withdraw("alice", operator())


async def test_a_second_invitation_lets_a_person_set_a_new_password_and_ends_the_old_sessions(services: Rig) -> None:
    old = await joined(services)
    invited = await services.accounts.invite_again("alice", operator())

    opened = await services.accounts.accept(invited.token, "another horse entirely")

    assert await services.operators.by_session(old) is None
    assert await services.operators.by_session(opened.token) is not None
    assert isinstance(await refused(services, "alice", PASSWORD), Unauthorized)
    assert (await services.operators.log_in_with_password("alice", "another horse entirely", remote=REMOTE)).token
    with pytest.raises(NotFound):
        await services.accounts.invite_again("nobody", operator())


async def test_a_second_invitation_does_not_let_a_disabled_person_in(services: Rig) -> None:
    await joined(services)
    invited = await services.accounts.invite_again("alice", operator())
    await services.accounts.change("alice", AccountChange(is_disabled=True), operator())

    with pytest.raises(Forbidden) as refusal:
        await services.accounts.accept(invited.token, PASSWORD)
    assert refusal.value.code == "invitation_refused"


async def test_a_changed_role_holds_at_once_and_ends_the_persons_sessions(services: Rig) -> None:
    token = await joined(services)

    await services.accounts.change("alice", AccountChange(role=Role.VIEWER), operator())

    assert await services.operators.by_session(token) is None
    assert services.announcer.dismissed == ["alice"]
    opened = await services.operators.log_in_with_password("alice", PASSWORD, remote=REMOTE)
    assert opened.operator.role is Role.VIEWER
    changes = await services.events("operator_changed")
    assert [(event.actor, event.ref_id, event.payload) for event in changes] == [
        ("user:admin", "alice", {"role": "viewer", "disabled": False})
    ]


async def test_a_role_is_read_live_whatever_the_session_remembers(services: Rig, store: Database) -> None:
    token = await joined(services)

    await store.write(lambda tx: tx._connection.execute(text("UPDATE operators SET role = 'viewer'")))
    demoted = await services.operators.by_session(token)
    await store.write(lambda tx: tx._connection.execute(text("DELETE FROM operators")))

    assert demoted is not None
    assert demoted.role is Role.VIEWER
    assert await services.operators.by_session(token) is None


async def test_a_disabled_person_is_out_and_comes_in_again_when_enabled(services: Rig) -> None:
    token = await joined(services)

    await services.accounts.change("alice", AccountChange(is_disabled=True), operator())
    assert await services.operators.by_session(token) is None
    refusal = await refused(services, "alice", PASSWORD)
    await services.accounts.change("alice", AccountChange(is_disabled=False), operator())

    assert (refusal.code, refusal.message) == ("unauthorized", "No account has this name and password.")
    assert await services.operators.by_session(token) is None
    assert (await services.operators.log_in_with_password("alice", PASSWORD, remote=REMOTE)).token


async def test_the_api_key_of_a_disabled_account_opens_nothing(store: Database) -> None:
    services = rig(store)
    completed = await services.operators.set_up(await services.operators.open_set_up() or "")
    await joined(services, "ann", Role.ADMIN)

    await services.accounts.change("admin", AccountChange(is_disabled=True), operator(name="ann"))

    assert await services.operators.by_api_key(completed.api_key, remote=REMOTE) is None
    assert await services.operators.by_session(completed.opened.token) is None


async def test_the_invitations_of_somebody_who_is_changed_are_void(services: Rig) -> None:
    await joined(services, "eve", Role.ADMIN)
    invited = await services.accounts.invite("xavier", Role.ADMIN, operator(name="eve"))

    await services.accounts.change("eve", AccountChange(is_disabled=True), operator())

    with pytest.raises(Forbidden):
        await services.accounts.accept(invited.token, PASSWORD)


@pytest.mark.parametrize("change", [AccountChange(role=Role.APPROVER), AccountChange(is_disabled=True)])
async def test_the_last_administrator_is_neither_demoted_nor_disabled(store: Database, change: AccountChange) -> None:
    services = rig(store)
    await services.operators.set_up(await services.operators.open_set_up() or "")
    with pytest.raises(Conflict) as refusal:
        await services.accounts.change("admin", change, operator())
    assert refusal.value.code == "last_admin"

    await joined(services, "ann", Role.ADMIN)
    await services.accounts.change("admin", change, operator())

    with pytest.raises(Conflict):
        await services.accounts.change("ann", change, operator())
    with pytest.raises(NotFound):
        await services.accounts.change("nobody", change, operator())


async def test_the_account_of_the_settings_cannot_be_changed_but_lets_others_go(services: Rig) -> None:
    await joined(services, "ann", Role.ADMIN)

    await services.accounts.change("ann", AccountChange(is_disabled=True), operator())

    with pytest.raises(Conflict):
        await services.accounts.change("admin", AccountChange(is_disabled=True), operator())


async def test_without_the_api_key_of_the_settings_its_sessions_and_tokens_open_nothing(store: Database) -> None:
    first = rig(store, api_key=KEY)
    session = await first.operators.log_in(KEY, remote=REMOTE)
    made = await first.tokens.make(NewToken("ci", Role.ADMIN, timedelta(days=1)), operator())
    assert await first.operators.by_api_key(made.text, remote=REMOTE) == Operator(
        "admin", Role.ADMIN, LoginMethod.TOKEN
    )

    second = rig(store)

    assert await second.operators.by_session(session.token) is None
    assert await second.operators.by_api_key(made.text, remote=REMOTE) is None


async def test_an_unknown_name_a_wrong_password_and_an_account_without_one_are_refused_alike(services: Rig) -> None:
    await joined(services)
    await joined(services, "keyless", password=None)

    refusals = [
        await refused(services, name, password)
        for name, password in (("alice", "wrong"), ("nobody", PASSWORD), ("keyless", ""), ("", ""), ("admin", KEY))
    ]

    assert {(type(one), one.code, one.message) for one in refusals} == {
        (Unauthorized, "unauthorized", "No account has this name and password.")
    }


async def test_a_name_that_is_guessed_at_from_everywhere_must_wait_a_minute_known_or_not(services: Rig) -> None:
    await joined(services)
    for name in ("alice", "nobody"):
        for number in range(10):
            assert isinstance(await refused(services, name, f"wrong-{number}", f"192.0.2.{number}"), Unauthorized)

    for name in ("alice", "nobody"):
        assert isinstance(await refused(services, name, PASSWORD, "198.51.100.1"), TooManyRequests)
    services.clock.advance(60)
    assert (await services.operators.log_in_with_password("alice", PASSWORD, remote=REMOTE)).token


async def test_an_address_that_guesses_at_many_names_must_wait_and_no_other(services: Rig) -> None:
    await joined(services)
    for number in range(10):
        assert isinstance(await refused(services, f"name-{number}", PASSWORD), Unauthorized)

    assert isinstance(await refused(services, "alice", PASSWORD), TooManyRequests)
    assert (await services.operators.log_in_with_password("alice", PASSWORD, remote="198.51.100.1")).token


async def test_guesses_that_run_at_the_same_moment_count_for_each_other(
    services: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await joined(services)
    all_compare, compared = asyncio.Event(), 0

    async def is_right(password: str, _stored: str | None) -> bool:
        nonlocal compared
        compared += 1
        await all_compare.wait()
        return password == PASSWORD

    async def guessing(password: str) -> asyncio.Task[object]:
        before = compared
        guess = asyncio.create_task(services.operators.log_in_with_password("alice", password, remote=REMOTE))
        while compared == before:  # noqa: ASYNC110 - until it is being compared, so that the right one comes last
            await asyncio.sleep(0.001)
        return guess

    monkeypatch.setattr(services.operators.passwords, "is_right", is_right)
    flood = [await guessing(one) for one in (*(f"wrong-{number}" for number in range(13)), PASSWORD)]
    all_compare.set()
    outcomes = await asyncio.gather(*flood, return_exceptions=True)

    assert sum(isinstance(one, Unauthorized) for one in outcomes) == 10
    assert sum(isinstance(one, TooManyRequests) for one in outcomes) == 4
    assert isinstance(outcomes[-1], TooManyRequests)


async def test_a_set_up_can_set_a_password_and_refuses_a_weak_one_without_ending(store: Database) -> None:
    services = rig(store)
    token = await services.operators.open_set_up() or ""

    with pytest.raises(BadInput):
        await services.operators.set_up(token, password="admin1234567")
    completed = await services.operators.set_up(token, password=PASSWORD)

    opened = await services.operators.log_in_with_password("admin", PASSWORD, remote=REMOTE)
    assert opened.operator == completed.opened.operator


async def test_ones_own_password_is_changed_and_the_other_sessions_end(services: Rig) -> None:
    first = await joined(services)
    second = (await services.operators.log_in_with_password("alice", PASSWORD, remote=REMOTE)).token
    alice = await services.operators.by_session(second)
    assert alice is not None

    await services.accounts.set_password(alice, second, "another horse entirely")

    assert await services.operators.by_session(first) is None
    assert await services.operators.by_session(second) == alice
    assert isinstance(await refused(services, "alice", PASSWORD), Unauthorized)
    with pytest.raises(NotFound):
        await services.accounts.set_password(operator(), None, PASSWORD)


async def test_a_proof_is_renewed_by_ones_own_password_or_key_and_by_no_others(services: Rig) -> None:
    token = await joined(services)
    await joined(services, "bob", password="another horse entirely")
    services.clock.advance(timedelta(hours=1).total_seconds())
    alice = await services.operators.by_session(token)
    assert alice is not None
    assert alice.proved_at != services.clock()

    for wrong in ("wrong", "another horse entirely"):
        with pytest.raises(Forbidden) as refusal:
            await services.operators.prove_by_password(alice, token, wrong, remote=REMOTE)
        assert refusal.value.code == "proof_refused"
    with pytest.raises(Forbidden):
        await services.operators.prove_by_api_key(alice, token, KEY, remote=REMOTE)
    proved = await services.operators.prove_by_password(alice, token, PASSWORD, remote=REMOTE)

    assert proved.proved_at == services.clock()
    found = await services.operators.by_session(token)
    assert found is not None
    assert found.proved_at == services.clock()


async def test_the_holder_of_the_api_key_renews_the_proof_of_his_session_with_it(services: Rig) -> None:
    opened = await services.operators.log_in(KEY, remote=REMOTE)
    services.clock.advance(600)

    proved = await services.operators.prove_by_api_key(opened.operator, opened.token, KEY, remote=REMOTE)

    assert proved.proved_at == services.clock()
    with pytest.raises(BadInput) as refusal:
        await services.operators.prove_by_api_key(operator(), None, KEY, remote=REMOTE)
    assert refusal.value.code == "no_session"


async def test_a_token_does_what_its_owner_may_and_is_stored_as_a_hash(services: Rig, store: Database) -> None:
    await joined(services)
    alice = Operator("alice", Role.APPROVER, LoginMethod.SESSION)
    made = await services.tokens.make(NewToken("ci", Role.OPERATOR, timedelta(days=30)), alice)

    assert await services.operators.by_api_key(made.text, remote=REMOTE) == Operator(
        "alice", Role.OPERATOR, LoginMethod.TOKEN
    )
    assert made.text not in await everything_stored(store)
    assert await services.operators.by_api_key(made.token.token_hash, remote=REMOTE) is None
    with pytest.raises(Forbidden):
        await services.tokens.make(NewToken("ci", Role.ADMIN, timedelta(days=30)), alice)
    with pytest.raises(Unauthorized):
        await services.operators.log_in(made.text, remote=REMOTE)


async def test_a_token_is_refused_once_its_owner_lost_the_role_or_is_disabled(services: Rig) -> None:
    await joined(services)
    alice = Operator("alice", Role.APPROVER, LoginMethod.SESSION)
    made = await services.tokens.make(NewToken("ci", Role.OPERATOR, timedelta(days=30)), alice)

    async def opens() -> bool:
        return await services.operators.by_api_key(made.text, remote=REMOTE) is not None

    assert await opens()
    await services.accounts.change("alice", AccountChange(role=Role.VIEWER), operator())
    assert not await opens()
    await services.accounts.change("alice", AccountChange(role=Role.ADMIN), operator())
    assert await opens()
    await services.accounts.change("alice", AccountChange(is_disabled=True), operator())
    assert not await opens()


async def test_a_token_expires_and_is_revoked_by_its_owner_alone(services: Rig) -> None:
    await joined(services)
    alice, bob = (Operator(name, Role.APPROVER, LoginMethod.SESSION) for name in ("alice", "bob"))
    short = await services.tokens.make(NewToken("short", Role.VIEWER, timedelta(days=1)), alice)
    long = await services.tokens.make(NewToken("long", Role.VIEWER, timedelta(days=365)), alice)

    services.clock.advance(timedelta(days=1).total_seconds())
    with pytest.raises(NotFound):
        await services.tokens.revoke(long.token.id, bob)

    assert await services.operators.by_api_key(short.text, remote=REMOTE) is None
    assert await services.operators.by_api_key(long.text, remote=REMOTE) is not None
    await services.tokens.revoke(long.token.id, alice)
    assert await services.operators.by_api_key(long.text, remote=REMOTE) is None
    assert [token.name for token in await services.tokens.of(alice)] == ["short"]


async def test_the_last_use_of_a_token_is_written_once_in_ten_minutes(services: Rig) -> None:
    await joined(services)
    alice = Operator("alice", Role.APPROVER, LoginMethod.SESSION)
    made = await services.tokens.make(NewToken("ci", Role.VIEWER, timedelta(days=30)), alice)
    uses: set[object] = set()

    for _ in range(30):
        await services.operators.by_api_key(made.text, remote=REMOTE)
        uses.add((await services.tokens.of(alice))[0].last_used_at)
        services.clock.advance(60)

    assert len(uses) == 3


async def test_a_person_sees_and_ends_his_own_sessions_only(services: Rig) -> None:
    alice = await services.operators.by_session(await joined(services))
    bobs = await joined(services, "bob")
    bob = await services.operators.by_session(bobs)
    assert alice is not None
    assert bob is not None
    [session_of_bob] = await services.operators.sessions.of(bob)

    with pytest.raises(NotFound):
        await services.operators.sessions.revoke(session_of_bob.id, alice)
    assert await services.operators.by_session(bobs) is not None
    await services.operators.sessions.revoke(session_of_bob.id, bob)

    assert await services.operators.by_session(bobs) is None
    assert [event.actor for event in await services.events("session_revoked")] == ["user:bob"]
