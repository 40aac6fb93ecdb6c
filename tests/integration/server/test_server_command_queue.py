"""The command queue over the real store: asked, approved, delivered once, reported once, every step audited."""

import asyncio
import json

import pytest

from builders import PC, Rig, operator, report, request, rig, taken_heartbeat
from reco3.protocol.commands import CommandType
from reco3.protocol.messages import WatchedProcess
from reco3.server.domain.commands import AgentReport, Command, CommandStatus, ReportStatus
from reco3.server.domain.errors import BadInput, Conflict, NotFound
from reco3.server.services.commands import CommandFilter
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio

SOON_S = 5.0


@pytest.fixture
async def services(store: Database) -> Rig:
    """Every service over a real store that knows one PC."""
    return await with_pc(rig(store))


async def with_pc(services: Rig) -> Rig:
    await services.agents.record_heartbeat(taken_heartbeat())
    return services


async def restart(services: Rig) -> Command:
    return await services.commands.request(request("RESTART_PROCESS", {"process": "nginx"}), operator())


async def pulled(services: Rig, *, wait_s: float = 0.0, agent_id: str = PC) -> list[str]:
    return [command.id for command in (await services.deliveries.pull(agent_id, journal=None, wait_s=wait_s)).commands]


async def stored(services: Rig, command_id: str) -> Command:
    found = await services.commands.newest(CommandFilter(agent_id=None), before=None, limit=100)
    return next(command for command in found if command.id == command_id)


def reported(command: Command, status: ReportStatus = ReportStatus.COMPLETED, **changes: object) -> AgentReport:
    return report(status, command_id=command.id, **changes)


async def test_a_safe_command_goes_from_the_operator_to_its_result(services: Rig) -> None:
    command = await services.commands.request(request(), operator(name="ann"))
    first = (await services.deliveries.pull(PC, journal=None, wait_s=0)).commands
    await services.reports.take(reported(command))

    assert [(one.id, one.status) for one in first] == [(command.id, CommandStatus.DELIVERED)]
    assert (await stored(services, command.id)).status is CommandStatus.COMPLETED
    events = await services.events("command_created", "agent_pull", "agent_report")
    assert [(event.event_type, event.actor, event.ref_id) for event in events] == [
        ("command_created", "user:ann", command.id),
        ("agent_pull", f"agent:{PC}", command.id),
        ("agent_report", f"agent:{PC}", command.id),
    ]
    assert (events[0].payload["type"], events[0].payload["payload"]) == ("SET_MODE", {"mode": "SAFE"})


@pytest.mark.parametrize(
    ("command_type", "payload", "code"),
    [
        ("FORMAT_DISK", {}, "unknown_command_type"),
        ("set_mode", {"mode": "SAFE"}, "unknown_command_type"),
        ("SET_MODE", {"mode": "OFF"}, "bad_payload"),
        ("RESTART_PROCESS", {"process": "mysql"}, "unknown_process"),
        ("RESTART_PROCESS", {"process": "nginx; id"}, "bad_payload"),
    ],
)
async def test_a_bad_request_stores_nothing(
    services: Rig, command_type: str, payload: dict[str, object], code: str
) -> None:
    with pytest.raises(BadInput) as refusal:
        await services.commands.request(request(command_type, payload), operator())

    assert refusal.value.code == code
    assert await services.commands.newest(CommandFilter(agent_id=None), before=None, limit=9) == []
    assert await services.events("command_created") == []


@pytest.mark.parametrize("agent_id", ["pc-404", "", "a\0b", "*", "pc-001 "])
async def test_a_command_for_a_pc_that_nobody_heard_of_is_not_found(services: Rig, agent_id: str) -> None:
    with pytest.raises(NotFound) as refusal:
        await services.commands.request(request(agent_id=agent_id), operator())

    assert refusal.value.code == "agent_not_found"


async def test_a_pc_that_reports_no_processes_is_asked_and_decides_itself(services: Rig) -> None:
    await services.agents.record_heartbeat(taken_heartbeat(processes=[]))

    command = await restart(services)

    assert command.status is CommandStatus.PENDING


async def test_a_pc_that_watches_another_process_now_is_asked_for_that_one(services: Rig) -> None:
    await services.agents.record_heartbeat(taken_heartbeat(processes=[WatchedProcess("redis", running=False)]))

    with pytest.raises(BadInput, match="it watches: redis"):
        await restart(services)


async def test_a_strong_command_waits_for_approval_however_often_it_is_asked_for(services: Rig) -> None:
    command = await restart(services)

    for _ in range(3):
        assert await pulled(services) == []
        services.clock.advance(3600)

    assert (await stored(services, command.id)).status is CommandStatus.PENDING
    assert await services.events("agent_pull") == []


async def test_an_approved_strong_command_is_delivered_once_and_never_again(services: Rig) -> None:
    command = await restart(services)
    await services.commands.approve(command.id, operator(name="ann"))

    first = await pulled(services)
    services.clock.advance(86_400)
    again = await pulled(services)

    assert (first, again) == ([command.id], [])
    assert [event.actor for event in await services.events("command_approved")] == ["user:ann"]


async def test_fifty_pulls_at_once_deliver_a_strong_command_to_one_of_them(services: Rig) -> None:
    command = await restart(services)
    await services.commands.approve(command.id, operator())

    answers = await asyncio.gather(*(pulled(services) for _ in range(50)))

    assert [answer for answer in answers if answer] == [[command.id]]
    assert len(await services.events("agent_pull")) == 1


async def test_a_safe_command_that_met_silence_is_offered_again_after_a_minute(services: Rig) -> None:
    command = await services.commands.request(request(), operator())

    first = await pulled(services)
    services.clock.advance(59)
    too_soon = await pulled(services)
    services.clock.advance(1)
    again = await pulled(services)

    assert (first, too_soon, again) == ([command.id], [], [command.id])


async def test_a_pc_gets_only_its_own_commands_oldest_first_and_twenty_at_most(services: Rig) -> None:
    await services.agents.record_heartbeat(taken_heartbeat("pc-002"))
    ids = []
    for _ in range(25):
        ids.append((await services.commands.request(request(), operator())).id)
        services.clock.advance(0.001)

    assert await pulled(services, agent_id="pc-002") == []
    assert await pulled(services) == ids[:20]
    assert await pulled(services) == ids[20:]


async def test_approval_is_refused_where_none_is_needed_or_possible(services: Rig) -> None:
    safe = await services.commands.request(request(), operator())
    strong = await restart(services)
    await services.commands.approve(strong.id, operator(name="ann"))

    with pytest.raises(NotFound) as unknown:
        await services.commands.approve("no-such-command", operator())
    with pytest.raises(BadInput) as needless:
        await services.commands.approve(safe.id, operator())
    with pytest.raises(Conflict, match="already by ann") as twice:
        await services.commands.approve(strong.id, operator())

    codes = [refusal.value.code for refusal in (unknown, needless, twice)]
    assert codes == ["command_not_found", "approval_not_needed", "already_approved"]
    assert len(await services.events("command_approved")) == 1


async def test_two_approvals_at_the_same_time_leave_one(services: Rig) -> None:
    command = await restart(services)

    outcomes = await asyncio.gather(
        *(services.commands.approve(command.id, operator(name=name)) for name in ("ann", "bob", "cy")),
        return_exceptions=True,
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Conflict", "TakenApproval"]


async def test_a_repeated_report_changes_nothing_and_is_answered(services: Rig) -> None:
    command = await services.commands.request(request(), operator())
    await pulled(services)
    await services.reports.take(reported(command, result={"success": True, "output": "first"}))

    again = await services.reports.take(reported(command, result={"success": True, "output": "second"}))

    assert again.status is CommandStatus.COMPLETED
    assert json.loads((await stored(services, command.id)).result_json or "") == {"success": True, "output": "first"}
    assert len(await services.events("agent_report")) == 1


async def test_a_report_of_a_command_that_was_never_delivered_does_not_complete_it(services: Rig) -> None:
    command = await restart(services)

    with pytest.raises(Conflict) as refusal:
        await services.reports.take(reported(command))

    assert refusal.value.code == "report_conflict"
    assert (await stored(services, command.id)).status is CommandStatus.PENDING


@pytest.mark.parametrize("agent_id", ["pc-002", PC])
async def test_another_pcs_command_and_an_unknown_one_look_alike(services: Rig, agent_id: str) -> None:
    command = await services.commands.request(request(), operator())
    command_id = command.id if agent_id != PC else "no-such-command"

    with pytest.raises(NotFound, match="no command of that id for this PC") as refusal:
        await services.reports.take(report(command_id=command_id, agent_id=agent_id))

    assert refusal.value.code == "command_not_found"


async def test_a_completed_notice_opens_an_incident(services: Rig) -> None:
    notice = request("NOTIFY_OPS", {"severity": "WARN", "message": "look at the cooling"})
    command = await services.commands.request(notice, operator())
    await pulled(services)

    await services.reports.take(reported(command))

    found = await services.incidents.newest(status=None, before=None, limit=9)
    assert [(one.code, one.severity, one.summary) for one in found] == [("NOTIFY_OPS", "WARN", "look at the cooling")]
    assert ("incidents", PC) in services.announcer.announced


async def test_without_required_approval_the_record_still_says_who_opened_the_lock(store: Database) -> None:
    services = await with_pc(rig(store, approval_required=False))

    command = await restart(services)

    assert await pulled(services) == [command.id]
    approvals = await services.events("command_approved")
    assert [event.ref_id for event in approvals] == [command.id]
    assert (await stored(services, command.id)).approval is not None


async def test_a_held_pull_is_answered_as_soon_as_a_safe_command_comes(services: Rig) -> None:
    waiting = asyncio.create_task(pulled(services, wait_s=SOON_S))
    await asyncio.sleep(0)

    command = await services.commands.request(request(), operator())

    assert await asyncio.wait_for(waiting, SOON_S / 2) == [command.id]


async def test_a_held_pull_is_answered_by_the_approval_and_not_before(services: Rig) -> None:
    waiting = asyncio.create_task(pulled(services, wait_s=SOON_S))
    command = await restart(services)
    assert not waiting.done()

    await services.commands.approve(command.id, operator())

    assert await asyncio.wait_for(waiting, SOON_S / 2) == [command.id]


async def test_a_pull_that_waited_in_vain_is_answered_empty(services: Rig) -> None:
    assert await pulled(services, wait_s=0.05) == []


async def test_a_pc_that_hung_up_is_not_delivered_to(services: Rig) -> None:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(services.deliveries.pull(PC, journal=None, wait_s=SOON_S, gone=gone))
    await asyncio.sleep(0.02)  # until it waits

    gone.set_result(None)
    assert (await asyncio.wait_for(waiting, SOON_S / 2)).commands == ()
    command = await services.commands.request(request(), operator())

    assert (await stored(services, command.id)).status is CommandStatus.PENDING


async def test_a_stopping_server_releases_every_held_pull(services: Rig) -> None:
    waiting = [asyncio.create_task(pulled(services, wait_s=60)) for _ in range(20)]
    await asyncio.sleep(0)

    services.wakeups.close()

    assert await asyncio.wait_for(asyncio.gather(*waiting), SOON_S) == [[]] * 20
    assert await asyncio.wait_for(pulled(services, wait_s=60), SOON_S) == []


async def test_a_wake_up_for_one_pc_wakes_no_other(services: Rig) -> None:
    await services.agents.record_heartbeat(taken_heartbeat("pc-002"))
    other = asyncio.create_task(pulled(services, wait_s=0.2, agent_id="pc-002"))
    await asyncio.sleep(0)

    await services.commands.request(request(), operator())

    assert await other == []


async def test_the_list_shows_the_newest_first_and_pages(services: Rig) -> None:
    ids = []
    for _ in range(3):
        ids.append((await services.commands.request(request(), operator())).id)
        services.clock.advance(1)

    first = await services.commands.newest(CommandFilter(agent_id=PC), before=None, limit=2)
    rest = await services.commands.newest(CommandFilter(agent_id=PC), before=(first[-1].ts, first[-1].id), limit=2)

    assert [command.id for command in first + rest] == ids[::-1]
    assert first[0].type is CommandType.SET_MODE
