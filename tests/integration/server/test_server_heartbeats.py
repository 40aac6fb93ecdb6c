"""Heartbeats over the real store: stored with their audit rows, listed, and announced OFFLINE when they stop."""

import asyncio

import pytest

from builders import PC, Rig, entry, rig, taken_batch, taken_heartbeat
from fakes import START
from reco3.server.domain.agents import OFFLINE_AFTER_S, AgentStatus
from reco3.server.domain.audit import HeartbeatAudit
from reco3.server.domain.errors import BadInput, Busy, NotFound
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio


@pytest.fixture
def services(store: Database) -> Rig:
    """Every service over a real store."""
    return rig(store)


async def beat(services: Rig, agent_id: str = PC, **changes: object) -> None:
    await services.agents.record_heartbeat(taken_heartbeat(agent_id, at=services.clock(), **changes))  # type: ignore[arg-type]


async def test_a_heartbeat_is_stored_with_its_sample_and_audit_rows_and_announced(services: Rig) -> None:
    await beat(services)

    page = await services.agents.list_agents(after="", limit=10)
    samples = await services.history.recent_samples(PC, minutes=15)
    events = await services.events()

    assert [(view.agent.agent_id, view.status) for view in page.views] == [(PC, AgentStatus.ONLINE)]
    assert [sample.cpu_percent for sample in samples] == [12.5]
    assert [(event.event_type, event.actor) for event in events] == [
        ("agent_online", f"agent:{PC}"),
        ("agent_heartbeat", f"agent:{PC}"),
    ]
    assert services.announcer.announced == [("agents", PC)]


async def test_heartbeats_of_one_pc_that_arrive_together_are_all_kept_and_announce_it_once(services: Rig) -> None:
    await asyncio.gather(*(beat(services) for _ in range(20)))

    assert len(await services.history.recent_samples(PC, minutes=15)) == 20
    assert len(await services.events("agent_online")) == 1
    assert len(await services.events("agent_heartbeat")) == 20


async def test_impossible_numbers_store_nothing(services: Rig) -> None:
    with pytest.raises(BadInput, match=r"metrics\.cpu_percent"):
        await beat(services, cpu_percent=float("nan"))

    assert (await services.agents.list_agents(after="", limit=10)).total == 0
    assert await services.events() == []


async def test_a_heartbeat_whose_audit_row_cannot_be_written_is_not_stored(services: Rig, store: Database) -> None:
    refuse_audit_rows = (
        "CREATE TRIGGER no_audit BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'no audit'); END"
        if store._is_sqlite
        else "ALTER TABLE audit_log ADD CONSTRAINT no_audit CHECK (false) NOT VALID"
    )
    allow_again = "DROP TRIGGER no_audit" if store._is_sqlite else "ALTER TABLE audit_log DROP CONSTRAINT no_audit"
    await store.write(lambda tx: tx._connection.exec_driver_sql(refuse_audit_rows))

    with pytest.raises(Busy):
        await beat(services)
    await store.write(lambda tx: tx._connection.exec_driver_sql(allow_again))

    assert (await services.agents.list_agents(after="", limit=10)).total == 0
    await beat(services)
    assert (await services.agents.list_agents(after="", limit=10)).total == 1


async def test_silence_is_announced_once_and_the_return_again(services: Rig) -> None:
    await beat(services)

    services.clock.advance(OFFLINE_AFTER_S)
    await services.agents.sweep_offline()
    services.clock.advance(60)
    await services.agents.sweep_offline()
    await beat(services)

    events = await services.events("agent_offline", "agent_online")
    assert [event.event_type for event in events] == ["agent_online", "agent_offline", "agent_online"]
    assert events[1].actor == "system:offline-sweep"
    assert events[1].ref_id == PC


async def test_the_list_tells_the_truth_before_any_sweep(services: Rig) -> None:
    await beat(services)
    services.clock.advance(OFFLINE_AFTER_S)

    page = await services.agents.list_agents(after="", limit=10)

    assert [view.status for view in page.views] == [AgentStatus.OFFLINE]
    assert (page.online, page.total) == (0, 1)


async def test_a_pc_that_still_talks_is_not_swept(services: Rig) -> None:
    await beat(services)
    services.clock.advance(OFFLINE_AFTER_S - 0.001)

    await services.agents.sweep_offline()

    assert await services.events("agent_offline") == []


async def test_the_sweep_comes_back_when_the_next_pc_may_fall_silent(services: Rig) -> None:
    assert await services.agents.sweep_offline() == 10.0
    await beat(services)
    services.clock.advance(25)

    assert await services.agents.sweep_offline() == pytest.approx(OFFLINE_AFTER_S - 25)
    services.clock.advance(4.799)
    assert await services.agents.sweep_offline() == pytest.approx(0.05)


@pytest.mark.parametrize(("fleet", "rows_each"), [(50, 2), (51, 0)])
async def test_above_fifty_pcs_a_heartbeat_has_no_row_of_its_own(services: Rig, fleet: int, rows_each: int) -> None:
    for number in range(fleet):
        await beat(services, f"pc-{number:03}")
    await services.agents.sweep_offline()
    before = len(await services.events("agent_heartbeat"))

    await beat(services, "pc-000")
    await beat(services, "pc-001")

    assert len(await services.events("agent_heartbeat")) - before == rows_each


async def test_the_policy_every_writes_a_row_for_each(store: Database) -> None:
    services = rig(store, heartbeat_audit=HeartbeatAudit.EVERY)

    for _ in range(3):
        await beat(services)

    assert len(await services.events("agent_heartbeat")) == 3


async def test_the_policy_rollup_writes_one_row_for_five_minutes(store: Database) -> None:
    services = rig(store, heartbeat_audit=HeartbeatAudit.ROLLUP)

    for _ in range(67):
        await beat(services)
        services.clock.advance(10)

    # The first contact, and then with each window of this PC's history.
    rows = await services.events("agent_heartbeat")
    assert [row.payload["count"] for row in rows] == [1, 36, 30]


async def test_the_list_pages_and_counts_the_whole_fleet(services: Rig) -> None:
    for name in ("a", "b", "c"):
        await beat(services, name)

    page = await services.agents.list_agents(after="a", limit=1)

    assert [view.agent.agent_id for view in page.views] == ["b"]
    assert (page.online, page.total) == (3, 3)


async def test_the_list_tells_the_errors_of_the_last_hour(services: Rig) -> None:
    await beat(services)
    await services.logs.record_batch(taken_batch(entry("too old"), at=START))
    services.clock.advance(3601)
    await services.logs.record_batch(taken_batch(entry("recent"), at=services.clock()))

    page = await services.agents.list_agents(after="", limit=10)

    errors = page.views[0].errors
    assert errors is not None
    assert (errors.count, errors.last_msg, errors.last_at) == (1, "recent", services.clock())


async def test_samples_older_than_the_asked_minutes_are_left_out(services: Rig) -> None:
    await beat(services, cpu_percent=1.0)
    services.clock.advance(900.001)
    await beat(services, cpu_percent=2.0)

    samples = await services.history.recent_samples(PC, minutes=15)

    assert [sample.cpu_percent for sample in samples] == [2.0]


@pytest.mark.parametrize("agent_id", ["pc-404", "", "a\0b", "x" * 500])
async def test_samples_of_a_pc_that_nobody_heard_of_are_not_found(services: Rig, agent_id: str) -> None:
    with pytest.raises(NotFound) as refusal:
        await services.history.recent_samples(agent_id, minutes=15)

    assert refusal.value.code == "agent_not_found"
