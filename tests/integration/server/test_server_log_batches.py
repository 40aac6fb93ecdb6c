"""Log batches over the real store: each numbered line once, one open incident per code, one audit row a batch."""

import asyncio

import pytest

from builders import PC, Rig, entry, operator, rig, taken_batch, taken_heartbeat
from fakes import START
from reco3.protocol.messages import LogEntry
from reco3.server.domain.errors import BadInput, Conflict, NotFound, TooManyRequests
from reco3.server.domain.history import Keeping
from reco3.server.domain.incidents import Incident, IncidentStatus
from reco3.server.services.logs import BatchStored
from reco3.server.services.retention import Retention, RetentionService
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio

NUMBERED = {"stream": "app.log", "epoch": "7"}


@pytest.fixture
async def services(store: Database) -> Rig:
    """Every service over a real store that knows one PC."""
    services = rig(store)
    await services.agents.record_heartbeat(taken_heartbeat())
    return services


async def send(services: Rig, *entries: LogEntry, **numbering: object) -> BatchStored:
    return await services.logs.record_batch(taken_batch(*entries, at=services.clock(), **numbering))


async def messages(services: Rig) -> list[str]:
    lines = await services.logs.newest_lines(PC, before_id=None, limit=1_000)
    return [line.msg for line in reversed(lines)]


async def incidents(services: Rig) -> list[Incident]:
    return await services.incidents.newest(status=None, before=None, limit=100)


async def test_an_older_agents_batch_is_stored_whole_and_audited_once(services: Rig) -> None:
    stored = await send(services, entry("one"), entry("two", level="WARN"))

    assert stored == BatchStored(count=2, incidents_created=1, acked_seq=None)
    assert await messages(services) == ["one", "two"]
    rows = await services.events("agent_logs")
    assert [(row.actor, row.payload) for row in rows] == [(f"agent:{PC}", {"count": 2, "incidents_created": 1})]


async def test_an_older_agents_repeated_batch_is_stored_again(services: Rig) -> None:
    await send(services, entry("one"))
    await send(services, entry("one"))

    assert await messages(services) == ["one", "one"]


async def test_a_repeated_batch_of_numbered_lines_is_stored_once_and_acknowledged_again(services: Rig) -> None:
    first = await send(services, entry("one"), entry("two"), **NUMBERED, first_seq=1)
    again = await send(services, entry("one"), entry("two"), **NUMBERED, first_seq=1)

    assert (first.acked_seq, again.acked_seq) == (2, 2)
    assert (again.count, again.incidents_created) == (2, 0)
    assert await messages(services) == ["one", "two"]
    assert len(await services.events("agent_logs")) == 1


async def test_the_same_batch_twenty_times_at_once_is_stored_once(services: Rig) -> None:
    answers = await asyncio.gather(
        *(send(services, entry("one"), entry("two"), **NUMBERED, first_seq=1) for _ in range(20))
    )

    assert {answer.acked_seq for answer in answers} == {2}
    assert sum(answer.incidents_created for answer in answers) == 2
    assert await messages(services) == ["one", "two"]


async def test_of_an_overlapping_batch_only_the_new_lines_are_stored(services: Rig) -> None:
    await send(services, entry("one"), entry("two"), **NUMBERED, first_seq=1)

    stored = await send(services, entry("two"), entry("three"), **NUMBERED, first_seq=2)

    assert stored.acked_seq == 3
    assert await messages(services) == ["one", "two", "three"]


async def test_a_gap_is_tolerated_and_audited(services: Rig) -> None:
    await send(services, entry("one"), **NUMBERED, first_seq=1)

    stored = await send(services, entry("ten"), **NUMBERED, first_seq=10)

    assert stored.acked_seq == 10
    assert await messages(services) == ["one", "ten"]
    (gap,) = await services.events("log_gap")
    assert (gap.actor, gap.agent_id) == (f"agent:{PC}", PC)
    assert gap.payload == {**NUMBERED, "from_seq": 2, "to_seq": 9}


async def test_dense_numbers_are_no_gap_however_they_overlap(services: Rig) -> None:
    await send(services, entry("one"), entry("two"), **NUMBERED, first_seq=1)
    await send(services, entry("two"), entry("three"), **NUMBERED, first_seq=2)
    await send(services, entry("four"), **NUMBERED, first_seq=4)
    await send(services, **NUMBERED, first_seq=9)

    assert await services.events("log_gap") == []


async def test_batches_that_are_written_together_count_their_incidents_each(services: Rig) -> None:
    first, second = await asyncio.gather(
        send(services, entry(code="DISK"), entry(code="NET"), **NUMBERED, first_seq=1),
        send(services, entry(code="DISK"), entry(code="FAN"), **NUMBERED, first_seq=3),
    )

    assert first.incidents_created + second.incidents_created == 3
    assert sorted((one.code, one.count) for one in await incidents(services)) == [("DISK", 2), ("FAN", 1), ("NET", 1)]


async def test_a_batch_of_many_lines_is_kept_in_its_order(services: Rig) -> None:
    await send(services, *(entry(f"line {n}", meta={"n": n, "text": "ü"}) for n in range(450)), **NUMBERED, first_seq=1)

    lines = await services.logs.newest_lines(PC, before_id=None, limit=1_000)

    assert [line.msg for line in reversed(lines)] == [f"line {n}" for n in range(450)]
    assert [line.meta for line in reversed(lines)] == [{"n": n, "text": "ü"} for n in range(450)]


async def test_when_much_waits_to_be_written_lines_come_later_and_heartbeats_do_not(
    services: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reco3.server.store.writer.MANY_WAITING", 0)

    with pytest.raises(TooManyRequests) as refused:
        await send(services, entry("one"), **NUMBERED, first_seq=1)
    await services.agents.record_heartbeat(taken_heartbeat())

    assert (refused.value.code, refused.value.retry_after_s) == ("slow_down", 10)
    assert await messages(services) == []


async def test_an_old_batch_that_arrives_late_does_not_move_the_number_back(services: Rig) -> None:
    await send(services, entry("one"), entry("two"), entry("three"), **NUMBERED, first_seq=1)

    stored = await send(services, entry("one"), **NUMBERED, first_seq=1)

    assert stored.acked_seq == 3


async def test_an_empty_batch_acknowledges_nothing_that_was_never_sent(services: Rig) -> None:
    empty = await send(services, **NUMBERED, first_seq=5)
    stored = await send(services, entry("one"), **NUMBERED, first_seq=1)

    assert empty.acked_seq == 0
    assert stored.acked_seq == 1
    assert await messages(services) == ["one"]


async def test_another_epoch_another_stream_and_another_pc_count_by_themselves(services: Rig) -> None:
    await send(services, entry("one"), **NUMBERED, first_seq=1)

    await send(services, entry("new epoch"), stream="app.log", epoch="8", first_seq=1)
    await send(services, entry("other file"), stream="db.log", epoch="7", first_seq=1)
    await services.logs.record_batch(taken_batch(entry("other pc"), agent_id="pc-002", **NUMBERED, first_seq=1))

    assert await messages(services) == ["one", "new epoch", "other file"]


async def test_repeats_of_a_code_grow_one_incident_instead_of_opening_more(services: Rig) -> None:
    created = [
        (
            await send(services, entry("disk at 91 %", code="DISK"), entry("disk at 92 %", code="DISK"))
        ).incidents_created,
        (await send(services, entry("disk at 99 %", code="DISK", level="CRITICAL"))).incidents_created,
    ]

    found = await incidents(services)
    assert created == [1, 0]
    assert [(one.code, one.count, one.severity, one.summary) for one in found] == [
        ("DISK", 3, "CRITICAL", "disk at 99 %")
    ]
    assert len(await services.events("incident_opened")) == 1


async def test_lines_without_a_code_are_told_apart_by_their_text_but_not_by_its_numbers(services: Rig) -> None:
    stored = await send(services, entry("timeout after 3 s"), entry("timeout after 9 s"), entry("disk failure"))

    assert stored.incidents_created == 2


async def test_the_same_code_on_two_pcs_is_two_incidents(services: Rig) -> None:
    await send(services, entry(code="DISK"))
    await services.logs.record_batch(taken_batch(entry(code="DISK"), agent_id="pc-002"))

    assert sorted(one.agent_id for one in await incidents(services)) == [PC, "pc-002"]


async def test_warnings_open_no_incident(services: Rig) -> None:
    stored = await send(services, entry(level="WARN"), entry(level="INFO"))

    assert stored.incidents_created == 0
    assert await incidents(services) == []


async def test_after_a_person_closed_an_incident_the_next_line_opens_a_new_one(services: Rig) -> None:
    await send(services, entry(code="DISK"))
    first = (await incidents(services))[0]
    services.clock.advance(1)

    await services.incidents.close(first.id, operator())
    stored = await send(services, entry(code="DISK"))

    closed = await services.incidents.newest(status=IncidentStatus.CLOSED, before=None, limit=9)
    assert stored.incidents_created == 1
    assert [(one.id, one.ts_close, one.closed_by) for one in closed] == [(first.id, services.clock(), "admin")]
    assert [event.actor for event in await services.events("incident_closed")] == ["user:admin"]


async def test_closing_twice_or_closing_nothing_is_refused(services: Rig) -> None:
    await send(services, entry(code="DISK"))
    incident = (await incidents(services))[0]
    await services.incidents.close(incident.id, operator())

    with pytest.raises(Conflict) as twice:
        await services.incidents.close(incident.id, operator())
    with pytest.raises(NotFound) as nothing:
        await services.incidents.close("no-such-incident", operator())

    assert (twice.value.code, nothing.value.code) == ("already_closed", "incident_not_found")
    assert len(await services.events("incident_closed")) == 1


async def test_a_refused_batch_stores_none_of_its_lines(services: Rig) -> None:
    with pytest.raises(BadInput):
        await send(services, *[entry()] * 501)

    assert await messages(services) == []
    assert await services.events("agent_logs") == []


async def test_dashboards_are_told_of_lines_and_of_new_incidents(services: Rig) -> None:
    services.announcer.announced.clear()

    await send(services, entry(level="WARN"))
    await send(services, entry(level="ERROR"))

    assert services.announcer.announced == [("logs", PC), ("logs", PC), ("incidents", PC)]


async def test_lines_of_a_pc_that_nobody_heard_of_are_not_found(services: Rig) -> None:
    with pytest.raises(NotFound):
        await services.logs.newest_lines("pc-404", before_id=None, limit=10)


async def test_history_beyond_its_retention_is_forgotten_and_the_audit_log_is_not(
    services: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reco3.server.services.retention.ROWS_PER_STEP", 2)
    await send(services, *[entry(f"old {n}") for n in range(5)])
    events_before = len(await services.events())
    services.clock.advance(7200)
    await services.agents.record_heartbeat(taken_heartbeat(at=services.clock()))
    await send(services, entry("new"))
    hour = services.clock() - START

    await RetentionService(services.logs._outside, Retention(Keeping(raw=hour / 2), logs=hour / 2)).prune()

    assert await messages(services) == ["new"]
    assert len(await services.history.recent_samples(PC, minutes=1440)) == 1
    assert len(await services.events()) > events_before
