"""Accounts, sessions, invitations, keys and tokens in the real store, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fakes import START
from reco3.protocol.envelope import KeyKind
from reco3.server.domain.keys import OperatorKey
from reco3.server.domain.operators import Account, Invitation, Role, Session
from reco3.server.domain.tokens import ApiToken
from reco3.server.store.database import Database
from soft_authenticator import ORIGIN, SoftAuthenticator

pytestmark = pytest.mark.anyio

LATER = START + timedelta(hours=1)


def account(name: str = "alice", **changes: object) -> Account:
    return replace(Account(name, Role.APPROVER, START, created_by="admin"), **changes)  # type: ignore[arg-type]


def key(key_id: str = "k-1", owner: str = "alice", **changes: object) -> OperatorKey:
    passkey = SoftAuthenticator()
    made = OperatorKey(key_id, owner, KeyKind.WEBAUTHN, passkey.public_key, "phone", START, f"credential of {key_id}")
    return replace(made, origin=ORIGIN, rp_id="localhost", **changes)  # type: ignore[arg-type]


async def test_an_account_is_stored_and_changes_in_role_password_and_state_only(store: Database) -> None:
    await store.write(lambda tx: tx.operators.add(account(), api_key_hash="hash"))
    changed = account(role=Role.ADMIN, password_hash="$argon2id$", disabled_at=LATER)

    await store.write(lambda tx: tx.operators.put(replace(changed, created_by="mallory", created_at=LATER)))

    assert await store.read(lambda tx: tx.operators.get("alice")) == changed
    assert await store.read(lambda tx: tx.operators.by_key_hash("hash")) == changed
    assert await store.read(lambda tx: tx.operators.get("bob")) is None


async def test_several_accounts_may_have_no_api_key_and_are_listed_by_name(store: Database) -> None:
    await store.write(lambda tx: [tx.operators.add(account(name)) for name in ("carol", "alice", "bob")])

    assert [one.name for one in await store.read(lambda tx: tx.operators.all())] == ["alice", "bob", "carol"]


async def test_only_administrators_who_are_not_disabled_are_counted(store: Database) -> None:
    await store.write(lambda tx: tx.operators.add(account("ann", role=Role.ADMIN)))
    await store.write(lambda tx: tx.operators.add(account("old", role=Role.ADMIN, disabled_at=START)))
    await store.write(lambda tx: tx.operators.add(account("app")))

    assert await store.read(lambda tx: tx.operators.count_admins()) == 1


async def test_people_are_accounts_with_a_password_or_a_key_that_counts(store: Database) -> None:
    async def has_people() -> bool:
        return await store.read(lambda tx: tx.operators.has_people())

    assert not await has_people()
    await store.write(lambda tx: tx.operators.add(account(), api_key_hash="an API key makes no person"))
    await store.write(lambda tx: tx.operator_keys.add(key("of-nobody", owner="admin")))
    assert not await has_people()

    await store.write(lambda tx: tx.operator_keys.add(key()))
    assert await has_people()
    await store.write(lambda tx: tx.operators.put(account(disabled_at=START)))
    assert not await has_people()
    await store.write(lambda tx: tx.operators.put(account()))
    await store.write(lambda tx: tx.operator_keys.revoke("k-1", LATER))
    assert not await has_people()
    await store.write(lambda tx: tx.operators.put(account(password_hash="$argon2id$")))
    assert await has_people()


async def test_a_session_is_prolonged_proved_and_found_by_its_owner(store: Database) -> None:
    sessions = [Session(f"hash-{n}", "alice", Role.VIEWER, START, LATER) for n in range(3)]
    await store.write(
        lambda tx: [tx.sessions.add(one) for one in [*sessions, replace(sessions[0], token_hash="x", name="bob")]]
    )

    await store.write(lambda tx: tx.sessions.prolong("hash-0", LATER + timedelta(hours=1)))
    await store.write(lambda tx: tx.sessions.prove("hash-1", START))

    found = await store.read(lambda tx: tx.sessions.of("alice", now=START))
    assert {one.token_hash: (one.expires_at, one.proved_at) for one in found} == {
        "hash-0": (LATER + timedelta(hours=1), None),
        "hash-1": (LATER, START),
        "hash-2": (LATER, None),
    }
    assert [one.token_hash for one in await store.read(lambda tx: tx.sessions.of("alice", now=LATER))] == ["hash-0"]


async def test_all_sessions_of_a_person_end_but_the_one_that_is_kept(store: Database) -> None:
    names = {"a": "alice", "b": "alice", "c": "bob"}
    await store.write(
        lambda tx: [tx.sessions.add(Session(one, names[one], Role.VIEWER, START, LATER)) for one in names]
    )

    await store.write(lambda tx: tx.sessions.end_all_of("alice", keep="b"))
    assert [await store.read(lambda tx, one=one: tx.sessions.get(one) is not None) for one in names] == [
        False,
        True,
        True,
    ]

    await store.write(lambda tx: tx.sessions.end_all_of("alice"))
    assert [await store.read(lambda tx, one=one: tx.sessions.get(one) is not None) for one in names] == [
        False,
        False,
        True,
    ]


async def test_an_invitation_is_open_until_it_is_used_withdrawn_or_too_old(store: Database) -> None:
    wishes = [Invitation(f"hash-{name}", name, Role.VIEWER, "admin", START, LATER) for name in ("ann", "bob", "eve")]
    by_eve = Invitation("hash-x", "xavier", Role.ADMIN, "eve", START, LATER)
    await store.write(lambda tx: [tx.invitations.add(one) for one in (*wishes, by_eve)])

    await store.write(lambda tx: tx.invitations.use("hash-ann", START))
    assert await store.write(lambda tx: tx.invitations.withdraw("bob"))
    assert not await store.write(lambda tx: tx.invitations.withdraw("bob"))
    assert not await store.write(lambda tx: tx.invitations.withdraw("ann"))
    await store.write(lambda tx: tx.invitations.withdraw_those_by("eve"))

    assert await store.read(lambda tx: tx.invitations.all_open(now=START)) == [wishes[2]]
    assert await store.read(lambda tx: tx.invitations.open_one("hash-eve", now=START)) == wishes[2]
    assert await store.read(lambda tx: tx.invitations.open_one("hash-eve", now=LATER)) is None
    assert await store.read(lambda tx: tx.invitations.open_one("hash-ann", now=START)) is None


async def test_keys_are_found_by_owner_id_and_credential_and_kept_when_revoked(store: Database) -> None:
    keys = [key("k-1"), key("k-2"), key("k-3", owner="bob")]
    await store.write(lambda tx: [tx.operator_keys.add(one) for one in keys])

    await store.write(lambda tx: tx.operator_keys.note_use("k-1", 7))
    await store.write(lambda tx: tx.operator_keys.revoke("k-2", LATER))

    used, revoked = replace(keys[0], sign_count=7), replace(keys[1], revoked_at=LATER)
    assert await store.read(lambda tx: tx.operator_keys.of("alice")) == [used]
    assert await store.read(lambda tx: tx.operator_keys.get("k-2")) == revoked
    assert await store.read(lambda tx: tx.operator_keys.by_credential("credential of k-2")) == revoked
    assert await store.read(lambda tx: tx.operator_keys.by_credential("none")) is None
    assert await store.read(lambda tx: tx.operator_keys.counts()) == {"alice": 1, "bob": 1}


async def test_a_token_is_found_by_its_hash_and_listed_until_it_is_revoked(store: Database) -> None:
    tokens = [ApiToken(f"hash-{n}", f"t-{n}", "ci", "alice", Role.VIEWER, START, LATER) for n in range(2)]
    await store.write(lambda tx: [tx.tokens.add(one) for one in tokens])

    await store.write(lambda tx: tx.tokens.note_use("t-0", START))
    await store.write(lambda tx: tx.tokens.revoke("t-1", LATER))

    assert await store.read(lambda tx: tx.tokens.of("alice")) == [replace(tokens[0], last_used_at=START)]
    assert await store.read(lambda tx: tx.tokens.by_hash("hash-1")) == replace(tokens[1], revoked_at=LATER)
    assert await store.read(lambda tx: tx.tokens.by_hash("hash-9")) is None
