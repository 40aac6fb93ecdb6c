"""Commands tell the truth: expiry, questions to journals, cancellation, silence, evidence, a person's word."""

import pytest

from builders import PC, Rig, approval, command, operator, report, request, rig, taken_heartbeat
from reco3.protocol.messages import WatchedProcess
from reco3.server.domain.approvals import GivenApproval
from reco3.server.domain.commands import (
    Command,
    CommandStatus,
    Expectation,
    Outcome,
    ReportStatus,
    Verdict,
)
from reco3.server.domain.errors import Conflict, NotFound
from reco3.server.services.commands import CommandFilter
from reco3.server.services.deliveries import Pulled
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio

NGINX = WatchedProcess(name="nginx", running=True, pid=77, create_time_ms=1_900_000_000_123)


@pytest.fixture
async def services(store: Database) -> Rig:
    """Every service over a real store that knows one PC, which watches nginx."""
    services = rig(store)
    await services.agents.record_heartbeat(taken_heartbeat(processes=[NGINX]))
    return services


async def approved_restart(services: Rig) -> Command:
    asked = await services.commands.request(request("RESTART_PROCESS", {"process": "nginx"}), operator(name="ann"))
    await services.commands.approve(asked.id, operator(name="bob"))
    return asked


async def pull(services: Rig, journal: str | None = "j1") -> Pulled:
    return await services.deliveries.pull(PC, journal=journal, wait_s=0)


async def stored(services: Rig, command_id: str) -> Command:
    return (await services.commands.life(command_id)).command


async def steps(services: Rig, command_id: str) -> list[str]:
    return [recorded.event.event_type for recorded in (await services.commands.life(command_id)).events]


async def test_an_unapproved_command_expires_after_a_quarter_of_an_hour(services: Rig) -> None:
    asked = await services.commands.request(request("ROLLBACK", {}), operator())

    services.clock.advance(899)
    await services.commands.sweep()
    assert (await stored(services, asked.id)).status is CommandStatus.PENDING
    services.clock.advance(1)
    await services.commands.sweep()

    assert (await stored(services, asked.id)).status is CommandStatus.EXPIRED
    assert await steps(services, asked.id) == ["command_created", "command_expired"]


async def test_an_expired_command_can_be_neither_approved_nor_delivered_even_before_the_sweep(services: Rig) -> None:
    asked = await services.commands.request(request("ROLLBACK", {}), operator())
    late = await approved_restart(services)
    services.clock.advance(900)

    with pytest.raises(Conflict, match="expired"):
        await services.commands.approve(asked.id, operator())

    assert await pull(services) == Pulled()
    assert (await stored(services, late.id)).status is CommandStatus.PENDING


async def test_an_approval_records_the_process_that_the_approver_saw(services: Rig) -> None:
    asked = await approved_restart(services)

    order = (await pull(services)).commands[0]

    assert order.id == asked.id
    assert order.expectation == Expectation(77, 1_900_000_000_123)


async def test_a_yes_to_another_process_than_the_one_there_is_no_yes(services: Rig) -> None:
    asked = await services.commands.request(request("RESTART_PROCESS", {"process": "nginx"}), operator())

    with pytest.raises(Conflict) as refusal:
        await services.commands.approve(asked.id, operator(), GivenApproval(shown=Expectation(76, 1_900_000_000_000)))
    assert refusal.value.code == "changed_since_shown"
    assert (await stored(services, asked.id)).approval is None

    await services.commands.approve(asked.id, operator(), GivenApproval(shown=Expectation(77, 1_900_000_000_123)))
    assert (await stored(services, asked.id)).approval is not None


async def test_a_journal_that_is_silent_is_asked_again_and_another_one_is_not(services: Rig) -> None:
    asked = await approved_restart(services)

    first = await pull(services)
    services.clock.advance(29)
    too_soon = await pull(services)
    services.clock.advance(1)
    again = await pull(services)

    assert [one.delivery_count for one in first.commands] == [1]
    assert too_soon == Pulled()
    assert [(one.id, one.delivery_count) for one in again.commands] == [(asked.id, 2)]


async def test_a_pc_that_lost_its_journal_makes_the_fate_of_a_strong_command_unknown(services: Rig) -> None:
    asked = await approved_restart(services)
    await pull(services, "j1")

    assert await pull(services, "j2") == Pulled()

    assert (await stored(services, asked.id)).status is CommandStatus.UNKNOWN
    assert (await steps(services, asked.id))[-1] == "command_unknown"


async def test_silence_of_an_agent_without_a_journal_ends_as_unknown_after_five_minutes(services: Rig) -> None:
    asked = await approved_restart(services)
    await pull(services, None)

    services.clock.advance(299)
    await services.commands.sweep()
    assert (await stored(services, asked.id)).status is CommandStatus.DELIVERED
    services.clock.advance(1)
    await services.commands.sweep()

    assert (await stored(services, asked.id)).status is CommandStatus.UNKNOWN
    assert await pull(services, None) == Pulled()


async def test_a_late_report_tells_what_became_of_an_unknown_command(services: Rig) -> None:
    asked = await approved_restart(services)
    await pull(services, None)
    services.clock.advance(300)
    await services.commands.sweep()

    await services.reports.take(report(command_id=asked.id))

    assert (await stored(services, asked.id)).status is CommandStatus.COMPLETED


async def test_a_pending_command_is_cancelled_at_once_and_never_delivered(services: Rig) -> None:
    asked = await approved_restart(services)

    status = await services.commands.cancel(asked.id, operator(name="ann"), reason="wrong PC")

    assert status is CommandStatus.CANCELLED
    assert await pull(services) == Pulled()
    cancelled = (await services.events("command_cancelled"))[0]
    assert (cancelled.actor, cancelled.payload) == ("user:ann", {"reason": "wrong PC"})
    with pytest.raises(Conflict, match="is cancelled") as refusal:
        await services.commands.cancel(asked.id, operator(), reason=None)
    assert refusal.value.code == "not_cancellable"


async def test_a_delivered_command_is_cancelled_by_the_pc_that_is_asked_once_a_lease(services: Rig) -> None:
    asked = await approved_restart(services)
    await pull(services)

    assert await services.commands.cancel(asked.id, operator(), reason=None) is None
    told = await pull(services)
    told_again = await pull(services)
    await services.reports.take(
        report(ReportStatus.FAILED, command_id=asked.id, result={"success": False, "code": "cancelled"})
    )

    assert (told, told_again) == (Pulled(cancels=(asked.id,)), Pulled())
    assert (await stored(services, asked.id)).status is CommandStatus.CANCELLED


async def test_a_command_in_the_hands_of_an_agent_without_a_journal_cannot_be_taken_back(services: Rig) -> None:
    asked = await approved_restart(services)
    await pull(services, None)

    with pytest.raises(Conflict, match="no journal") as refusal:
        await services.commands.cancel(asked.id, operator(), reason=None)

    assert refusal.value.code == "not_cancellable"


async def test_a_contradicting_report_is_kept_as_evidence_and_changes_nothing(services: Rig) -> None:
    asked = await approved_restart(services)
    await pull(services)
    await services.reports.take(report(command_id=asked.id))

    with pytest.raises(Conflict) as refusal:
        await services.reports.take(report(ReportStatus.FAILED, command_id=asked.id, result={"success": False}))

    life = await services.commands.life(asked.id)
    assert refusal.value.code == "report_conflict"
    assert life.command.status is CommandStatus.COMPLETED
    assert [one.verdict for one in life.reports] == [Verdict.TAKEN, Verdict.CONFLICT]
    assert life.events[-1].event.event_type == "report_conflict"


async def test_a_thousand_contradictions_leave_twenty_reports(services: Rig) -> None:
    asked = await approved_restart(services)
    await pull(services)
    await services.reports.take(report(command_id=asked.id))

    for number in range(100):
        with pytest.raises(Conflict):
            await services.reports.take(report(ReportStatus.FAILED, command_id=asked.id, result={"n": number}))

    assert len((await services.commands.life(asked.id)).reports) == 20


async def test_a_report_of_a_command_nobody_knows_is_kept_once_and_shown(services: Rig) -> None:
    for _ in range(3):
        with pytest.raises(NotFound):
            await services.reports.take(report(command_id="from-a-lost-database"))

    orphans = await services.reports.orphans(before_id=None, limit=9)
    assert [(one.command_id, one.agent_id, one.status) for one in orphans] == [
        ("from-a-lost-database", PC, ReportStatus.COMPLETED)
    ]
    assert [event.event_type for event in await services.events("orphan_report")] == ["orphan_report"]


async def test_a_pc_cannot_fill_the_table_with_orphans(services: Rig) -> None:
    for number in range(205):
        with pytest.raises(NotFound):
            await services.reports.take(report(command_id=f"made-up-{number}"))

    assert len(await services.reports.orphans(before_id=None, limit=500)) == 200


async def test_a_restored_database_learns_from_the_journal_what_it_forgot(services: Rig) -> None:
    # The copy was taken after the approval and before the delivery.
    asked = await approved_restart(services)

    await services.reports.take(report(command_id=asked.id))

    assert (await stored(services, asked.id)).status is CommandStatus.COMPLETED
    assert await pull(services) == Pulled()


@pytest.mark.parametrize(
    ("outcome", "status"), [(Outcome.RAN, CommandStatus.COMPLETED), (Outcome.DID_NOT_RUN, CommandStatus.FAILED)]
)
async def test_a_person_resolves_an_unknown_command_with_a_reason(
    services: Rig, outcome: Outcome, status: CommandStatus
) -> None:
    asked = await approved_restart(services)
    await pull(services)
    await services.reports.take(report(ReportStatus.UNKNOWN, command_id=asked.id, result={"code": "interrupted"}))

    ended = await services.commands.resolve(asked.id, operator(name="cy"), outcome=outcome, reason="looked at it")

    assert ended.status is status
    word = (await services.events("command_resolved"))[0]
    assert (word.actor, word.payload["reason"], word.payload["outcome"]) == ("user:cy", "looked at it", outcome)
    found = (await stored(services, asked.id)).resolution
    assert found is not None
    assert (found.resolved_by, found.outcome) == ("cy", outcome)
    with pytest.raises(Conflict) as refusal:
        await services.commands.resolve(asked.id, operator(), outcome=outcome, reason="again")
    assert refusal.value.code == "not_unknown"


async def test_two_changes_of_the_same_version_cannot_both_be_stored(store: Database) -> None:
    await store.write(lambda tx: tx.commands.add(command()))
    await store.write(lambda tx: tx.commands.put(command(reason="first")))

    with pytest.raises(Conflict) as refusal:
        await store.write(lambda tx: tx.commands.put(command(reason="second")))

    assert refusal.value.code == "changed_meanwhile"
    kept = await store.read(lambda tx: tx.commands.get("cmd-1"))
    assert kept is not None
    assert (kept.reason, kept.version) == ("first", 1)


async def test_an_approval_of_a_command_changed_meanwhile_is_not_stored(store: Database) -> None:
    await store.write(lambda tx: tx.commands.add(command()))
    await store.write(lambda tx: tx.commands.put(command(reason="first")))

    def approve_the_old_one(tx: object) -> None:
        tx.commands.add_approval(approval())  # type: ignore[attr-defined]
        tx.commands.put(command())  # type: ignore[attr-defined]

    with pytest.raises(Conflict):
        await store.write(approve_the_old_one)

    kept = await store.read(lambda tx: tx.commands.get("cmd-1"))
    assert kept is not None
    assert kept.approval is None


async def test_a_list_can_be_narrowed_to_what_waits(services: Rig) -> None:
    waiting = await services.commands.request(request("ROLLBACK", {}), operator())
    done = await services.commands.request(request(), operator())
    await pull(services)
    await services.reports.take(report(command_id=done.id))

    pending = CommandFilter(statuses=frozenset({CommandStatus.PENDING}))
    found = await services.commands.newest(pending, before=None, limit=9)

    assert [one.id for one in found] == [waiting.id]


async def test_the_timeline_tells_every_step_in_order(services: Rig) -> None:
    asked = await approved_restart(services)
    await pull(services)
    await services.reports.take(report(ReportStatus.RUNNING, command_id=asked.id))
    await services.reports.take(report(command_id=asked.id))

    assert await steps(services, asked.id) == [
        "command_created",
        "command_approved",
        "agent_pull",
        "agent_report",
        "agent_report",
    ]
