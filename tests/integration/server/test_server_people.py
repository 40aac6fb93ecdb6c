"""Who may come in: agent keys, operators' keys, sessions, the one-time set-up, and the record of who may not."""

import asyncio
import json
from datetime import timedelta

import pytest
from sqlalchemy import text

from builders import PC, SECRET, Rig, operator, rig
from reco3.server.domain.errors import Busy, Forbidden, TooManyRequests, Unauthorized
from reco3.server.domain.operators import SESSION_IDLE, LoginMethod, Operator, Role
from reco3.server.services.denials import Denial
from reco3.server.services.operators import SESSION_LIFETIME, OperatorService
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio

REMOTE = "192.0.2.7"
KEY = "an-operator-key"


@pytest.fixture
def services(store: Database) -> Rig:
    """Every service over a real store, with an API key in the settings."""
    return rig(store, api_key=KEY)


async def everything_stored(store: Database) -> str:
    """All rows of the tables that hold credentials or tell of them, as one text."""
    tables = ("agent_keys", "enrolment_tokens", "operators", "sessions", "audit_log")
    queries = [text(f"SELECT * FROM {table}") for table in tables]
    found = await store.read(lambda tx: [list(map(tuple, tx._connection.execute(query))) for query in queries])
    return json.dumps(found, default=str)


async def test_a_seeded_key_opens_its_own_pc_and_no_other(services: Rig) -> None:
    await services.agent_keys.seed({PC: "devkey", "pc-002": "otherkey"})

    assert services.agent_keys.is_valid(PC, "devkey")
    for agent_id, key in [
        (PC, "otherkey"),
        ("pc-002", "devkey"),
        ("pc-404", "devkey"),
        (PC, ""),
        ("", ""),
        (PC, "DEVKEY"),
    ]:
        assert not services.agent_keys.is_valid(agent_id, key)


async def test_keys_are_stored_as_hashes_and_a_hash_opens_nothing(services: Rig, store: Database) -> None:
    await services.agent_keys.seed({PC: "devkey-in-clear"})
    stored = await store.read(lambda tx: tx.keys.all())

    assert "devkey-in-clear" not in await everything_stored(store)
    assert not services.agent_keys.is_valid(PC, stored[PC].key_hash)


async def test_seeded_keys_outlive_the_settings_and_a_changed_one_replaces_the_old(store: Database) -> None:
    await rig(store).agent_keys.seed({PC: "old", "pc-002": "kept"})
    services = rig(store)

    await services.agent_keys.seed({PC: "new"})

    assert services.agent_keys.is_valid(PC, "new")
    assert not services.agent_keys.is_valid(PC, "old")
    assert services.agent_keys.is_valid("pc-002", "kept")


async def test_only_a_changed_key_is_audited(services: Rig) -> None:
    await services.agent_keys.seed({PC: "devkey"})
    await services.agent_keys.seed({PC: "devkey"})

    assert [event.ref_id for event in await services.events("agent_key_set")] == [PC]


async def test_the_api_key_opens_a_session_that_is_stored_as_a_hash(services: Rig, store: Database) -> None:
    opened = await services.operators.log_in(KEY, remote=REMOTE)

    assert opened.operator == Operator("admin", Role.ADMIN, LoginMethod.SESSION)
    assert await services.operators.by_session(opened.token) == opened.operator
    stored = await everything_stored(store)
    assert opened.token not in stored
    assert KEY not in stored
    assert [event.actor for event in await services.events("operator_login")] == ["user:admin"]


@pytest.mark.parametrize("wrong", ["", "x", KEY.upper(), KEY + " ", "\0", "\u00fc", SECRET])
async def test_a_wrong_key_opens_nothing(services: Rig, wrong: str) -> None:
    with pytest.raises(Unauthorized):
        await services.operators.log_in(wrong, remote=REMOTE)

    assert await services.operators.by_api_key(wrong, remote=REMOTE) is None


async def test_a_session_ends_after_twelve_hours(services: Rig) -> None:
    opened = await services.operators.log_in(KEY, remote=REMOTE)

    for _ in range(11):
        services.clock.advance(timedelta(hours=1).total_seconds())
        assert await services.operators.by_session(opened.token) is not None
    services.clock.advance(timedelta(hours=1).total_seconds() - 1)
    assert await services.operators.by_session(opened.token) is not None
    services.clock.advance(1)
    assert await services.operators.by_session(opened.token) is None


async def test_a_session_that_nobody_uses_ends_after_two_hours(services: Rig) -> None:
    opened = await services.operators.log_in(KEY, remote=REMOTE)

    services.clock.advance(SESSION_IDLE.total_seconds())

    assert await services.operators.by_session(opened.token) is None


async def test_using_a_session_writes_at_most_once_in_ten_minutes(services: Rig, store: Database) -> None:
    opened = await services.operators.log_in(KEY, remote=REMOTE)
    ends: set[str] = set()
    for _ in range(60):
        services.clock.advance(60)
        await services.operators.by_session(opened.token)
        ends.add(
            await store.read(lambda tx: tx._connection.execute(text("SELECT expires_at FROM sessions")).scalar_one())
        )

    assert 2 <= len(ends) <= 7


async def test_a_session_ends_with_the_log_out_and_leaves_others_open(services: Rig) -> None:
    first, second = (
        await services.operators.log_in(KEY, remote=REMOTE),
        await services.operators.log_in(KEY, remote=REMOTE),
    )

    await services.operators.log_out(first.token, operator())

    assert await services.operators.by_session(first.token) is None
    assert await services.operators.by_session(second.token) is not None
    assert len(await services.events("operator_logout")) == 1


async def test_ended_sessions_are_forgotten(services: Rig, store: Database) -> None:
    await services.operators.log_in(KEY, remote=REMOTE)
    services.clock.advance(SESSION_LIFETIME.total_seconds())

    await services.operators.prune_sessions()

    count = await store.read(lambda tx: tx._connection.execute(text("SELECT COUNT(*) FROM sessions")).scalar_one())
    assert count == 0


async def test_guessing_is_slowed_down_for_a_minute(services: Rig) -> None:
    for number in range(10):
        with pytest.raises(Unauthorized):
            await services.operators.log_in(f"wrong-{number}", remote=REMOTE)

    with pytest.raises(TooManyRequests) as refusal:
        await services.operators.log_in(KEY, remote=REMOTE)
    services.clock.advance(60)

    assert 1 <= refusal.value.retry_after_s <= 61
    assert (await services.operators.log_in(KEY, remote=REMOTE)).operator.name == "admin"


async def test_whoever_guesses_keeps_nobody_else_out(services: Rig) -> None:
    for number in range(10):
        assert await services.operators.by_api_key(f"wrong-{number}", remote=REMOTE) is None

    with pytest.raises(TooManyRequests):
        await services.operators.by_api_key(KEY, remote=REMOTE)

    assert await services.operators.by_api_key(KEY, remote="192.0.2.8") is not None


async def test_a_script_with_one_old_key_is_no_guesser(services: Rig) -> None:
    for _ in range(100):
        assert await services.operators.by_api_key("last year's key", remote=REMOTE) is None

    assert await services.operators.by_api_key(KEY, remote=REMOTE) is not None


async def test_a_new_session_secret_locks_no_operator_out(store: Database) -> None:
    first = OperatorService(rig(store).outside, api_key=None, secret_key="first-secret-of-many")
    token = await first.open_set_up()
    completed = await first.set_up(token or "")

    second = OperatorService(rig(store).outside, api_key=None, secret_key="another-secret-now")

    assert await second.by_session(completed.opened.token) is None
    assert await second.by_api_key(completed.api_key, remote=REMOTE) is not None


async def test_without_any_operator_the_set_up_is_open_once(store: Database) -> None:
    services = rig(store)
    token = await services.operators.open_set_up()
    assert token is not None
    assert services.operators.is_locked

    completed = await services.operators.set_up(token)

    assert not services.operators.is_locked
    assert await services.operators.by_api_key(completed.api_key, remote=REMOTE) == Operator(
        "admin", Role.ADMIN, LoginMethod.API_KEY
    )
    assert await services.operators.by_session(completed.opened.token) is not None
    with pytest.raises(Forbidden):
        await services.operators.set_up(token)
    assert completed.api_key not in await everything_stored(store)


async def test_a_wrong_set_up_token_is_refused_and_leaves_the_right_one_valid(store: Database) -> None:
    services = rig(store)
    token = await services.operators.open_set_up() or ""

    for wrong in ("", "x", token[:-1], token + "x", "\u00fc"):
        with pytest.raises(Forbidden):
            await services.operators.set_up(wrong)

    assert (await services.operators.set_up(token)).api_key


async def test_a_set_up_that_could_not_be_stored_can_be_tried_again(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise Busy("The database cannot write now.")

    services = rig(store)
    token = await services.operators.open_set_up() or ""
    with monkeypatch.context() as patch:
        patch.setattr(store, "write", refuse)
        with pytest.raises(Busy):
            await services.operators.set_up(token)
        assert services.operators.is_locked

    assert (await services.operators.set_up(token)).api_key


async def test_fifty_set_ups_at_once_make_one_administrator(store: Database) -> None:
    services = rig(store)
    token = await services.operators.open_set_up() or ""

    outcomes = await asyncio.gather(*(services.operators.set_up(token) for _ in range(50)), return_exceptions=True)

    assert sum(isinstance(outcome, Forbidden) for outcome in outcomes) == 49
    assert len(await services.events("operator_created")) == 1


async def test_a_server_that_has_an_operator_offers_no_set_up(store: Database) -> None:
    first = rig(store)
    await first.operators.set_up(await first.operators.open_set_up() or "")

    assert await rig(store).operators.open_set_up() is None
    assert await rig(store, api_key=KEY).operators.open_set_up() is None


async def test_a_flood_of_denials_leaves_few_rows_that_count_them_all(services: Rig) -> None:
    for _ in range(1_000):
        await services.denials.record(Denial("auth_failed", "agent key", PC, "/agent/heartbeat"))
    services.clock.advance(60)
    await services.denials.flush()

    rows = await services.events("auth_failed")
    assert [row.payload["count"] for row in rows] == [1, 999]
    assert {(row.actor, row.ref_id) for row in rows} == {("system:auth", PC)}


async def test_a_flood_under_changing_names_is_bounded_too(services: Rig) -> None:
    for number in range(1_200):
        await services.denials.record(Denial("auth_failed", "agent key", f"guess-{number}", "/agent/pull"))
    await services.denials.flush(everything=True)

    rows = await services.events("auth_failed")
    assert len(rows) <= 502
    assert sum(int(str(row.payload["count"])) for row in rows) == 1_200


async def test_a_denial_after_the_minute_gets_its_own_row_at_once(services: Rig) -> None:
    denial = Denial("auth_failed", "agent key", PC, "/agent/pull")
    await services.denials.record(denial)
    services.clock.advance(timedelta(minutes=1).total_seconds())
    await services.denials.flush()

    await services.denials.record(denial)

    assert [row.payload["count"] for row in await services.events("auth_failed")] == [1, 1]


async def test_a_hostile_claim_is_escaped_and_cut(services: Rig) -> None:
    await services.denials.record(Denial("auth_failed", "agent key", "\x1b[31m\n\u202e\0" + "x" * 9_000, "/" * 9_000))

    rows = await services.events("auth_failed")
    claim = str(rows[0].payload["claim"])
    assert claim.isprintable()
    assert claim.isascii()
    assert len(claim) <= 64
    assert len(str(rows[0].payload["path"])) <= 200
