"""Policies and uses of break-glass on both databases, each change with its audit row."""

from dataclasses import replace
from typing import Any

import pytest

from builders import PC, Rig, entry, operator, request, rig, taken_batch, taken_heartbeat
from fakes import START
from reco3.server.domain.break_glass import BREAK_GLASS_CODE
from reco3.server.domain.errors import BadInput, Conflict, Forbidden, NotFound
from reco3.server.domain.incidents import Incident
from reco3.server.domain.operators import Account, Role
from reco3.server.domain.policies import Terms
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio

FOUR_EYES = Terms(approvals_required=2, four_eyes=True)
META: dict[str, Any] = {
    "break_glass_id": "sheet-1",
    "type": "RESTART_PROCESS",
    "payload": {"process": "nginx"},
    "owners": ["ann", "bob"],
    "used_at": "2030-01-15T11:00:00.000Z",
}


@pytest.fixture
async def services(store: Database) -> Rig:
    """Every service over a real store that knows one PC."""
    services = rig(store)
    await services.agents.record_heartbeat(taken_heartbeat())
    return services


async def use(services: Rig, **changes: Any) -> None:
    told = entry("break-glass was used", code=BREAK_GLASS_CODE, meta={**META, **changes})
    await services.logs.record_batch(taken_batch(told, at=services.clock()))


async def incidents(services: Rig) -> list[Incident]:
    return await services.incidents.newest(status=None, before=None, limit=9)


async def person(services: Rig, name: str) -> None:
    account = Account(name, Role.APPROVER, START, password_hash="hash")
    await services.store.write(lambda tx: tx.operators.add(account))


async def test_a_policy_is_set_replaced_and_removed(services: Rig) -> None:
    first = await services.policies.put("STOP_PROCESS", "db-*", FOUR_EYES, operator(name="ann"))
    services.clock.advance(60)
    lone = Terms(reason_required=True, lifetime_s=300)
    second = await services.policies.put("STOP_PROCESS", "db-*", lone, operator(name="bob"))
    other = await services.policies.put("*", "db-*", FOUR_EYES, operator())

    assert second.id == first.id
    book = await services.policies.read()
    assert book.policies == (other, second)
    assert (second.terms, second.updated_by, second.updated_at) == (lone, "bob", services.clock())

    await services.policies.remove(second.id, operator())
    assert (await services.policies.read()).policies == (other,)
    with pytest.raises(NotFound) as refusal:
        await services.policies.remove(second.id, operator())
    assert refusal.value.code == "policy_not_found"


async def test_every_change_of_a_policy_is_audited_and_four_eyes_off_once_more(services: Rig) -> None:
    policy = await services.policies.put("*", "*", FOUR_EYES, operator(name="ann"))
    await services.policies.put("*", "*", replace(FOUR_EYES, four_eyes=False), operator(name="ann"))
    await services.policies.put("*", "*", Terms(four_eyes=False), operator(name="ann"))
    await services.policies.remove(policy.id, operator(name="ann"))

    changes = await services.events("policy_changed")
    assert [(change.actor, change.ref_id) for change in changes] == [("user:ann", policy.id)] * 4
    assert [change.payload["from"] is None for change in changes] == [True, False, False, False]
    assert [change.payload["to"] is None for change in changes] == [False, False, False, True]
    assert len(await services.events("four_eyes_disabled")) == 1


async def test_a_first_policy_without_four_eyes_says_so(services: Rig) -> None:
    await services.policies.put("*", "*", Terms(), operator())

    assert len(await services.events("four_eyes_disabled")) == 1


async def test_a_policy_that_could_never_hold_is_not_stored(services: Rig) -> None:
    with pytest.raises(BadInput):
        await services.policies.put("SET_MODE", "*", FOUR_EYES, operator())

    assert (await services.policies.read()).policies == ()
    assert await services.events("policy_changed") == []


async def test_the_default_follows_the_people_there_are(services: Rig) -> None:
    assert not (await services.policies.read()).default.four_eyes

    await person(services, "ann")

    assert (await services.policies.read()).default.four_eyes


async def test_a_command_keeps_the_terms_it_was_requested_under(services: Rig) -> None:
    asked = await services.commands.request(request("ROLLBACK", {}), operator(name="rita"))
    await services.policies.put("*", "*", FOUR_EYES, operator())
    later = await services.commands.request(request("ROLLBACK", {}), operator(name="rita"))

    assert (asked.approvals_required, asked.four_eyes) == (1, False)
    assert (later.approvals_required, later.four_eyes) == (2, True)


async def test_a_reason_that_the_policy_asks_for_must_be_given(services: Rig) -> None:
    await services.policies.put("ROLLBACK", PC, Terms(reason_required=True), operator())

    with pytest.raises(BadInput) as refusal:
        await services.commands.request(request("ROLLBACK", {}), operator())
    assert refusal.value.code == "reason_required"

    assert await services.commands.request(replace(request("ROLLBACK", {}), reason="it broke"), operator())
    assert await services.commands.request(request(), operator()), "safe commands need none"


async def test_a_use_of_break_glass_alarms_and_is_recorded_once_however_often_it_is_told(services: Rig) -> None:
    await use(services)
    await use(services)

    found = await services.break_glass.newest(before=None, limit=9)
    assert [(one.id, one.agent_id, one.command_type, one.owners) for one in found] == [
        ("sheet-1", PC, "RESTART_PROCESS", ("ann", "bob"))
    ]
    assert [(one.code, one.severity, one.count) for one in await incidents(services)] == [
        (BREAK_GLASS_CODE, "CRITICAL", 2)
    ]
    assert [event.ref_id for event in await services.events("break_glass_used")] == ["sheet-1"]


async def test_a_later_line_brings_the_result_and_another_pc_changes_nothing(services: Rig) -> None:
    await use(services)
    foreign = entry("forged", code=BREAK_GLASS_CODE, meta={**META, "owners": ["eve"], "result": {"success": False}})
    await services.logs.record_batch(taken_batch(foreign, agent_id="pc-002"))
    await use(services, result={"success": True})
    await use(services, result={"success": False})

    found = await services.break_glass.newest(before=None, limit=9)

    assert [(one.agent_id, one.owners, one.result_json) for one in found] == [(PC, ("ann", "bob"), '{"success": true}')]
    assert len(await incidents(services)) == 2, "the other PC's line alarms all the same"


async def test_a_use_without_an_id_still_alarms(services: Rig) -> None:
    await use(services, break_glass_id=None)

    assert await services.break_glass.newest(before=None, limit=9) == []
    assert [one.severity for one in await incidents(services)] == ["CRITICAL"]


async def test_a_use_is_reviewed_once_by_somebody_who_did_not_sign_it(services: Rig) -> None:
    await person(services, "ann")
    await use(services)

    with pytest.raises(Forbidden) as own:
        await services.break_glass.review("sheet-1", operator(Role.APPROVER, "bob"), review="I was right")
    reviewed = await services.break_glass.review("sheet-1", operator(Role.APPROVER, "cy"), review="disk was full")
    with pytest.raises(Conflict) as again:
        await services.break_glass.review("sheet-1", operator(Role.APPROVER, "dora"), review="me too")
    with pytest.raises(NotFound) as missing:
        await services.break_glass.review("sheet-2", operator(), review="?")

    assert [refusal.value.code for refusal in (own, again, missing)] == [
        "self_approval",
        "already_reviewed",
        "break_glass_not_found",
    ]
    found = (await services.break_glass.newest(before=None, limit=9))[0]
    assert found == reviewed
    assert (found.reviewed_by, found.review) == ("cy", "disk was full")
    assert [event.actor for event in await services.events("break_glass_reviewed")] == ["user:cy"]


async def test_whoever_is_alone_reviews_his_own_sheet(services: Rig) -> None:
    await use(services)

    reviewed = await services.break_glass.review("sheet-1", operator(name="ann"), review="it was me")

    assert reviewed.reviewed_by == "ann"


async def test_uses_are_listed_from_the_last_told_in_pages(services: Rig) -> None:
    for number in range(5):
        services.clock.advance(1)
        await use(services, break_glass_id=f"sheet-{number}")

    first = await services.break_glass.newest(before=None, limit=3)
    rest = await services.break_glass.newest(before=(first[-1].reported_at, first[-1].id), limit=3)

    assert [one.id for one in (*first, *rest)] == ["sheet-4", "sheet-3", "sheet-2", "sheet-1", "sheet-0"]
