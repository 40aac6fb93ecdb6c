"""Enrolment, rotation, revocation and clones over a real store, on both databases."""

import asyncio
import hashlib
import itertools
from collections.abc import Callable

import pytest

from builders import PC, Rig, operator, request, rig, taken_heartbeat
from reco3.protocol.commands import CommandType
from reco3.server.domain.agent_keys import KeySource
from reco3.server.domain.errors import BadInput, Conflict, NotFound, TooManyRequests, Unauthorized
from reco3.server.domain.incidents import IncidentStatus
from reco3.server.services import clones
from reco3.server.services.deliveries import Pulled
from reco3.server.services.enrolments import Enrolled, Enrolment
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio

REMOTE = "192.0.2.7"
KEY, OTHER_KEY = "a-key-that-the-pc-made", "another-key"


@pytest.fixture
def services(store: Database) -> Rig:
    return rig(store)


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def token_for(services: Rig, agent_id: str | None = None, *, may_replace: bool = False) -> str:
    made = await services.enrolments.make_token(operator(), agent_id=agent_id, may_replace=may_replace)
    return made.text


async def enrol(
    services: Rig, token: str, agent_id: str | None = PC, *, key: str = KEY, remote: str = REMOTE
) -> Enrolled:
    return await services.enrolments.enrol(Enrolment(token, hash_of(key), agent_id, "linux"), remote=remote)


async def wait_until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_true():  # noqa: ASYNC110 - the writer's thread answers in its own time
            await asyncio.sleep(0.002)


async def test_a_token_lets_one_pc_in_with_its_own_key(services: Rig) -> None:
    token = await token_for(services)

    enrolled = await enrol(services, token, "pc-9")

    assert enrolled.agent_id == "pc-9"
    assert len(enrolled.fleet_id) == 22
    assert services.agent_keys.is_valid("pc-9", KEY)
    assert not services.agent_keys.is_valid("pc-9", hash_of(KEY))
    assert not services.agent_keys.is_valid(PC, KEY)
    key = await services.key_custody.read("pc-9")
    assert (key.source, key.is_revoked) == (KeySource.ENROLLED, False)


async def test_every_pc_of_a_server_hears_of_the_same_fleet(services: Rig, store: Database) -> None:
    first = await enrol(services, await token_for(services), "pc-8")
    second = await enrol(rig(store), await token_for(services), "pc-9")

    assert first.fleet_id == second.fleet_id


async def test_an_enrolled_key_outlives_a_restart(services: Rig, store: Database) -> None:
    await enrol(services, await token_for(services))
    restarted = rig(store)

    await restarted.agent_keys.seed({"pc-002": "otherkey"})

    assert restarted.agent_keys.is_valid(PC, KEY)


async def test_of_fifty_uses_at_once_exactly_one_succeeds(services: Rig) -> None:
    token = await token_for(services)
    names = [f"pc-{number}" for number in range(50)]
    attempts = [enrol(services, token, name, key=f"key-of-{name}", remote=name) for name in names]

    outcomes = await asyncio.gather(*attempts, return_exceptions=True)

    enrolled = [outcome.agent_id for outcome in outcomes if isinstance(outcome, Enrolled)]
    assert len(enrolled) == 1
    assert sum(isinstance(outcome, Unauthorized) for outcome in outcomes) == 49
    assert [name for name in names if services.agent_keys.is_valid(name, f"key-of-{name}")] == enrolled
    assert len(await services.events("agent_enrolled")) == 1


async def test_without_the_spending_of_tokens_many_would_come_in(
    services: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reco3.server.store.enrolments.EnrolmentTable.use", lambda *_, **__: True)
    token = await token_for(services)

    outcomes = [await enrol(services, token, f"pc-{number}") for number in range(3)]

    assert len(outcomes) == 3


@pytest.mark.parametrize("spoil", ["unknown", "spent", "expired", "of another pc", "taken back"])
async def test_a_token_that_does_not_open_is_refused_in_one_shape(services: Rig, spoil: str) -> None:
    token = await token_for(services, "pc-7")
    agent_id = "pc-7"
    match spoil:
        case "unknown":
            token = "x" * len(token)
        case "spent":
            await enrol(services, token, "pc-7")
        case "expired":
            services.clock.advance(15 * 60)
        case "of another pc":
            agent_id = "pc-8"
        case "taken back":
            await services.enrolments.revoke_token((await services.enrolments.tokens())[0].id, operator())

    with pytest.raises(Unauthorized) as refusal:
        await enrol(services, token, agent_id, key=OTHER_KEY)

    assert (refusal.value.code, refusal.value.message) == ("unauthorized", Unauthorized().message)
    assert not services.agent_keys.is_valid(agent_id, OTHER_KEY)


async def test_a_token_opens_until_the_last_moment(services: Rig) -> None:
    token = await token_for(services, "pc-7")
    services.clock.advance(15 * 60 - 0.001)

    assert (await enrol(services, token, None)).agent_id == "pc-7"


async def test_a_name_that_is_taken_is_kept_and_the_token_is_not_spent(services: Rig) -> None:
    await services.agent_keys.seed({PC: "devkey"})
    token = await token_for(services)

    with pytest.raises(Conflict) as refusal:
        await enrol(services, token)

    assert refusal.value.code == "already_enrolled"
    assert services.agent_keys.is_valid(PC, "devkey")
    assert not services.agent_keys.is_valid(PC, KEY)
    assert (await enrol(services, token, "pc-9")).agent_id == "pc-9"


async def test_a_token_that_may_replace_ends_the_old_key(services: Rig) -> None:
    await services.agent_keys.seed({PC: "devkey"})

    await enrol(services, await token_for(services, PC, may_replace=True))

    assert services.agent_keys.is_valid(PC, KEY)
    assert not services.agent_keys.is_valid(PC, "devkey")
    await services.agent_keys.seed({PC: "devkey"})
    assert services.agent_keys.is_valid(PC, KEY)
    assert not services.agent_keys.is_valid(PC, "devkey")


async def test_whoever_holds_a_pull_by_the_old_key_is_let_go_before_the_new_one_opens(services: Rig) -> None:
    await services.agent_keys.seed({PC: "devkey"})
    held = asyncio.ensure_future(services.deliveries.pull(PC, journal="old", wait_s=20))
    await wait_until(lambda: services.wakeups.is_awaited(PC))

    await enrol(services, await token_for(services, PC, may_replace=True))

    assert held.done()
    with pytest.raises(Unauthorized):
        await held


async def test_a_token_that_may_replace_must_name_its_pc(services: Rig) -> None:
    with pytest.raises(BadInput, match="agent_id"):
        await token_for(services, may_replace=True)


@pytest.mark.parametrize(
    ("agent_id", "key_hash", "token", "field"),
    [
        ("../x", "a" * 64, None, "agent_id"),
        ("pc 1", "a" * 64, None, "agent_id"),
        ("", "a" * 64, None, "agent_id"),
        ("pc-9", "A" * 64, None, "key_hash"),
        ("pc-9", KEY, None, "key_hash"),
        ("pc-9", "a" * 64, "", "token"),
        ("pc-9", "a" * 64, "t" * 201, "token"),
        (None, "a" * 64, None, "agent_id"),
    ],
)
async def test_nonsense_is_refused_by_field_and_spends_nothing(
    services: Rig, agent_id: str | None, key_hash: str, token: str | None, field: str
) -> None:
    good = await token_for(services)
    enrolment = Enrolment(good if token is None else token, key_hash, agent_id, "linux")

    with pytest.raises(BadInput) as refusal:
        await services.enrolments.enrol(enrolment, remote=REMOTE)

    assert refusal.value.field == field
    assert (await enrol(services, good, "pc-9")).agent_id == "pc-9"


async def test_who_guesses_tokens_has_to_wait_and_nobody_else(services: Rig) -> None:
    token = await token_for(services)
    for number in range(10):
        with pytest.raises(Unauthorized):
            await enrol(services, f"guess-{number}", remote="198.51.100.1")

    with pytest.raises(TooManyRequests):
        await enrol(services, token, remote="198.51.100.1")

    assert (await enrol(services, token)).agent_id == PC


async def test_tokens_are_stored_as_hashes_and_listed_without_their_texts(services: Rig, store: Database) -> None:
    token = await token_for(services, "pc-7")

    listed = await services.enrolments.tokens()
    stored = await store.read(lambda tx: tx.enrolments.newest(limit=10))

    assert token not in repr((listed, stored, await services.events()))
    assert [one.agent_id for one in listed] == ["pc-7"]
    with pytest.raises(Unauthorized):
        await enrol(services, stored[0].token_hash, "pc-7")


async def test_every_step_is_audited_by_who_took_it(services: Rig) -> None:
    await enrol(services, await token_for(services))
    await token_for(services, "pc-7")
    await services.enrolments.revoke_token((await services.enrolments.tokens())[0].id, operator())
    await services.agent_keys.announce_next(PC, hash_of(OTHER_KEY))
    assert services.agent_keys.is_valid(PC, OTHER_KEY)
    await services.key_custody.revoke(PC, operator(), reason="stolen")

    events = [(event.actor, event.event_type) for event in await services.events()]

    assert events == [
        ("user:admin", "enrolment_token_created"),
        ("agent:pc-001", "agent_enrolled"),
        ("user:admin", "enrolment_token_created"),
        ("user:admin", "enrolment_token_revoked"),
        ("agent:pc-001", "agent_key_rotation_begun"),
        ("agent:pc-001", "agent_key_rotated"),
        ("user:admin", "agent_key_revoked"),
    ]


async def test_a_used_or_unknown_token_cannot_be_taken_back(services: Rig) -> None:
    await enrol(services, await token_for(services))
    used = (await services.enrolments.tokens())[0]

    with pytest.raises(Conflict) as conflict:
        await services.enrolments.revoke_token(used.id, operator())
    with pytest.raises(NotFound) as missing:
        await services.enrolments.revoke_token("no-such-token", operator())

    assert (conflict.value.code, missing.value.code) == ("token_used", "enrolment_token_not_found")
    assert (used.used_by, used.used_at) == (PC, services.clock())


async def test_old_tokens_are_forgotten(services: Rig) -> None:
    await token_for(services, "pc-7")
    services.clock.advance(31 * 86_400)
    await token_for(services, "pc-8")

    assert [token.agent_id for token in await services.enrolments.tokens()] == ["pc-8"]


async def test_both_keys_open_until_the_next_one_is_used(services: Rig, store: Database) -> None:
    await services.agent_keys.seed({PC: KEY})
    await services.agent_keys.announce_next(PC, hash_of(OTHER_KEY))
    assert services.agent_keys.is_valid(PC, KEY)
    assert services.agent_keys.is_rotating(PC)

    assert services.agent_keys.is_valid(PC, OTHER_KEY)

    assert not services.agent_keys.is_valid(PC, KEY)
    assert not services.agent_keys.is_rotating(PC)
    restarted = rig(store)
    assert [one.why for one in await restarted.agent_keys.seed({PC: KEY})] == ["replaced"]
    assert restarted.agent_keys.is_valid(PC, OTHER_KEY)
    assert not restarted.agent_keys.is_valid(PC, KEY)


async def test_a_rotation_in_progress_survives_a_restart(services: Rig, store: Database) -> None:
    await services.agent_keys.seed({PC: KEY})
    await services.agent_keys.announce_next(PC, hash_of(OTHER_KEY))
    restarted = rig(store)

    await restarted.agent_keys.seed({PC: KEY})

    assert restarted.agent_keys.is_valid(PC, KEY)
    assert restarted.agent_keys.is_valid(PC, OTHER_KEY)
    assert not restarted.agent_keys.is_valid(PC, KEY)


async def test_a_later_next_key_takes_the_place_of_an_earlier(services: Rig) -> None:
    await services.agent_keys.seed({PC: KEY})
    await services.agent_keys.announce_next(PC, hash_of("lost"))
    await services.agent_keys.announce_next(PC, hash_of(OTHER_KEY))

    assert not services.agent_keys.is_valid(PC, "lost")
    assert services.agent_keys.is_valid(PC, OTHER_KEY)


@pytest.mark.parametrize("next_hash", [hash_of(KEY), "", "nonsense", hash_of("x").upper()])
async def test_no_next_key_is_taken_that_is_none(services: Rig, next_hash: str) -> None:
    await services.agent_keys.seed({PC: KEY})

    with pytest.raises(BadInput, match="next_key_hash"):
        await services.agent_keys.announce_next(PC, next_hash)


async def test_a_switch_that_could_not_be_stored_leaves_both_keys_open(
    services: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await services.agent_keys.seed({PC: KEY})
    await services.agent_keys.announce_next(PC, hash_of(OTHER_KEY))

    def fail(*_: object) -> None:
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("reco3.server.store.agent_keys.AgentKeyTable.put", fail)
        assert services.agent_keys.is_valid(PC, OTHER_KEY)
        await wait_until(lambda: services.agent_keys.is_rotating(PC))

    assert services.agent_keys.is_valid(PC, KEY)
    assert services.agent_keys.is_valid(PC, OTHER_KEY)
    assert not services.agent_keys.is_valid(PC, KEY)


async def test_a_revoked_key_and_its_next_one_open_nothing_and_a_start_says_so(services: Rig, store: Database) -> None:
    await services.agent_keys.seed({PC: KEY})
    await services.agent_keys.announce_next(PC, hash_of(OTHER_KEY))

    await services.key_custody.revoke(PC, operator(), reason="the PC was stolen")

    restarted = rig(store)
    assert [one.why for one in await restarted.agent_keys.seed({PC: KEY})] == ["revoked"]
    for keys in (services.agent_keys, restarted.agent_keys):
        assert not keys.is_valid(PC, KEY)
        assert not keys.is_valid(PC, OTHER_KEY)
    await restarted.agent_keys.seed({PC: "a-new-one-in-the-settings"})
    assert restarted.agent_keys.is_valid(PC, "a-new-one-in-the-settings")


async def test_a_revocation_ends_every_held_pull_at_once(services: Rig) -> None:
    await services.agent_keys.seed({PC: KEY})
    await services.commands.sweep()  # From now on the server knows which PCs have anything in flight.
    held = [asyncio.ensure_future(services.deliveries.pull(PC, journal=name, wait_s=20)) for name in "jk"]
    await wait_until(lambda: services.wakeups.is_awaited(PC))

    await services.key_custody.revoke(PC, operator(), reason="stolen")

    async with asyncio.timeout(2):
        outcomes = await asyncio.gather(*held, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unauthorized, Unauthorized]


async def test_a_key_is_revoked_once_and_only_where_there_is_one(services: Rig) -> None:
    await services.agent_keys.seed({PC: KEY})
    await services.key_custody.revoke(PC, operator(), reason="stolen")

    with pytest.raises(Conflict) as conflict:
        await services.key_custody.revoke(PC, operator(), reason="stolen")
    with pytest.raises(NotFound) as missing:
        await services.key_custody.revoke("pc-404", operator(), reason="stolen")

    assert (conflict.value.code, missing.value.code) == ("already_revoked", "agent_key_not_found")


async def test_a_revoked_name_is_not_free_for_anybody(services: Rig) -> None:
    await services.agent_keys.seed({PC: KEY})
    await services.key_custody.revoke(PC, operator(), reason="stolen")

    with pytest.raises(Conflict):
        await enrol(services, await token_for(services), key=OTHER_KEY)
    await enrol(services, await token_for(services, PC, may_replace=True), key=OTHER_KEY)

    assert services.agent_keys.is_valid(PC, OTHER_KEY)
    assert not services.agent_keys.is_valid(PC, KEY)


async def cloned(services: Rig, *journals: str) -> None:
    """A PC with a key, whose pulls come with these journals, three seconds apart."""
    await services.agent_keys.seed({PC: KEY})
    await services.agents.record_heartbeat(taken_heartbeat())
    for journal in journals:
        services.clock.advance(3)
        assert await services.deliveries.pull(PC, journal=journal, wait_s=0) == Pulled()
    await everything_posted(services)


async def everything_posted(services: Rig) -> None:
    """Wait for what was handed to the writer before."""
    await services.store.write(lambda tx: tx.audit.add([]))


async def approved(services: Rig) -> str:
    command = await services.commands.request(request("RESTART_PROCESS", {"process": "nginx"}), operator())
    await services.commands.approve(command.id, operator(name="second"))
    return command.id


async def pulled(services: Rig, journal: str) -> list[str]:
    return [command.id for command in (await services.deliveries.pull(PC, journal=journal, wait_s=0)).commands]


async def test_two_pcs_with_one_key_get_nothing_strong_until_a_person_has_looked(services: Rig) -> None:
    await cloned(services, "a", "b", "a")
    strong = await approved(services)
    safe = (await services.commands.request(request(), operator())).id
    assert (await services.key_custody.read(PC)).clone_suspected_at == services.clock()

    assert await pulled(services, "a") == [safe]
    assert await pulled(services, "b") == []

    await services.key_custody.clear_clone(PC, operator(), reason="the copy was deleted")
    assert await pulled(services, "a") == [strong]


async def test_the_very_pull_that_gives_the_clone_away_gets_nothing_strong(services: Rig) -> None:
    await cloned(services, "a", "b")
    await approved(services)

    assert await pulled(services, "a") == []


async def test_without_the_gate_the_strong_command_would_go_out(services: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "reco3.server.services.deliveries.deliverable", lambda tx, agent_id: tx.commands.in_flight(agent_id)
    )
    await cloned(services, "a", "b", "a")
    strong = await approved(services)

    assert await pulled(services, "a") == [strong]


async def test_not_even_a_question_goes_to_a_suspected_clone(services: Rig) -> None:
    await cloned(services, "a")
    strong = await approved(services)
    assert await pulled(services, "a") == [strong]
    services.clock.advance(31)
    for journal in ("b", "a"):
        services.deliveries.note_journal(PC, journal)

    assert await pulled(services, "a") == []

    await services.key_custody.clear_clone(PC, operator(), reason="looked")
    assert await pulled(services, "a") == [strong]


async def test_a_reinstalled_agent_is_no_clone(services: Rig) -> None:
    await cloned(services, "a", "a", "b", "b", "b")
    strong = await approved(services)

    assert (await services.key_custody.read(PC)).clone_suspected_at is None
    assert await pulled(services, "b") == [strong]


async def beaten(services: Rig, *runs_ms: int | None) -> None:
    """Take heartbeats of agents that started then, five seconds apart; they share a key."""
    await services.agent_keys.seed({PC: KEY})
    for started_ms in runs_ms:
        services.clock.advance(5)
        await services.agents.record_heartbeat(taken_heartbeat(at=services.clock(), agent_started_ms=started_ms))
    await everything_posted(services)


async def test_a_copy_that_carries_the_journal_along_is_noticed_by_its_run(services: Rig) -> None:
    await beaten(services, 1_000, 2_000, 1_000)
    assert (await services.key_custody.read(PC)).clone_suspected_at is None

    await beaten(services, 2_000)
    strong = await approved(services)

    assert (await services.key_custody.read(PC)).clone_suspected_at is not None
    assert await pulled(services, "a") == []
    await services.key_custody.clear_clone(PC, operator(), reason="the copy was deleted")
    await beaten(services, 2_000, 2_000)
    assert await pulled(services, "a") == [strong]


async def test_an_agent_that_is_started_again_and_again_is_no_clone(services: Rig) -> None:
    await beaten(services, 1_000, 2_000, 2_000, 3_000, None, 3_000, 4_000, None)

    assert (await services.key_custody.read(PC)).clone_suspected_at is None


async def test_a_clone_is_one_incident_and_one_row_however_long_it_lasts(services: Rig) -> None:
    await cloned(services, *itertools.islice(itertools.cycle("ab"), 20))

    incidents = await services.incidents.newest(status=None, before=None, limit=10)
    assert [(one.code, one.severity, one.agent_id, one.count) for one in incidents] == [
        (clones.CLONE_CODE, "CRITICAL", PC, 1)
    ]
    assert len(await services.events("agent_clone_suspected")) == 1
    assert ("incidents", PC) in services.announcer.announced


async def test_clearing_closes_the_incident_and_the_next_turn_raises_the_alarm_again(services: Rig) -> None:
    await cloned(services, "a", "b", "a")
    await services.key_custody.clear_clone(PC, operator(), reason="looked")
    incident = (await services.incidents.newest(status=None, before=None, limit=10))[0]
    assert (incident.status, incident.closed_by) == (IncidentStatus.CLOSED, "admin")
    assert [event.payload["reason"] for event in await services.events("agent_clone_cleared")] == ["looked"]

    await cloned(services, "a", "b", "a")

    assert (await services.key_custody.read(PC)).clone_suspected_at is not None
    await services.key_custody.clear_clone(PC, operator(), reason="looked")
    with pytest.raises(Conflict) as conflict:
        await services.key_custody.clear_clone(PC, operator(), reason="looked")
    assert conflict.value.code == "no_clone_suspected"


async def test_an_alarm_that_could_not_be_stored_is_raised_again(
    services: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("reco3.server.store.incidents.IncidentTable.add", fail)
        await cloned(services, "a", "b", "a")
        await services.events()

    await cloned(services, "b")

    assert (await services.key_custody.read(PC)).clone_suspected_at is not None


async def test_a_suspicion_outlives_a_restart(services: Rig, store: Database) -> None:
    await cloned(services, "a", "b", "a")
    restarted = rig(store)
    await restarted.agent_keys.seed({PC: KEY})

    await approved(restarted)

    assert await pulled(restarted, "a") == []
    assert CommandType.RESTART_PROCESS in [
        command.type for command in await store.read(lambda tx: tx.commands.in_flight(PC))
    ]


async def test_agents_of_the_first_protocol_name_no_journal_and_are_not_suspected(services: Rig) -> None:
    await services.agent_keys.seed({PC: KEY})
    for journal in (None, "a", None, "a", None):
        services.deliveries.note_journal(PC, journal)
    await everything_posted(services)

    assert (await services.key_custody.read(PC)).clone_suspected_at is None


async def test_enrolling_anew_ends_a_suspicion(services: Rig) -> None:
    await cloned(services, "a", "b", "a")

    await enrol(services, await token_for(services, PC, may_replace=True))

    assert (await services.key_custody.read(PC)).clone_suspected_at is None
