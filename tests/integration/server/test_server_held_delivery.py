"""An approval reaches a pull that is held open in the very transaction that records it."""

from dataclasses import dataclass, field

import pytest

from builders import PC, Rig, operator, request, rig, taken_heartbeat
from reco3.protocol.messages import WatchedProcess
from reco3.server.domain.commands import CommandStatus, Pulled
from reco3.server.domain.errors import Conflict
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio


@dataclass
class RecordingPull:
    """A pull that its PC holds open."""

    held_by_journal: str | None = "journal-1"
    steps: list[str] = field(default_factory=list)
    got: list[Pulled] = field(default_factory=list)

    def wake(self) -> None:
        self.steps.append("wake")

    def reserve(self) -> None:
        self.steps.append("reserve")

    def give(self, pulled: Pulled) -> None:
        self.steps.append("give")
        self.got.append(pulled)

    def resume(self) -> None:
        self.steps.append("resume")


@pytest.fixture
async def services(store: Database) -> Rig:
    """Every service over a real store, with one PC that watches nginx."""
    made = rig(store)
    await made.agents.record_heartbeat(taken_heartbeat(processes=[WatchedProcess("nginx", running=True, pid=7)]))
    return made


async def pending_restart(services: Rig) -> str:
    asked = await services.commands.request(request("RESTART_PROCESS", {"process": "nginx"}), operator())
    return asked.id


async def status_of(services: Rig, command_id: str) -> CommandStatus:
    return (await services.commands.life(command_id)).command.status


async def test_an_approved_command_is_delivered_and_handed_over_at_once(services: Rig) -> None:
    command_id = await pending_restart(services)
    held = RecordingPull()
    services.wakeups.offer(PC, held)

    await services.commands.approve(command_id, operator())

    assert held.steps == ["reserve", "give"]
    [command] = held.got[0].commands
    assert (command.id, command.status, command.journal) == (command_id, CommandStatus.DELIVERED, "journal-1")
    assert await status_of(services, command_id) is CommandStatus.DELIVERED
    assert [event.event_type for event in await services.events("command_approved", "agent_pull")] == [
        "command_approved",
        "agent_pull",
    ]
    assert services.wakeups.has_news(PC)


async def test_a_safe_command_is_handed_over_as_it_is_asked_for(services: Rig) -> None:
    held = RecordingPull()
    services.wakeups.offer(PC, held)

    asked = await services.commands.request(request(), operator())

    assert [command.id for command in held.got[0].commands] == [asked.id]


async def test_a_strong_command_that_nobody_approved_leaves_the_pull_waiting(services: Rig) -> None:
    held = RecordingPull()
    services.wakeups.offer(PC, held)

    command_id = await pending_restart(services)

    assert held.steps == ["reserve", "resume"]
    assert await status_of(services, command_id) is CommandStatus.PENDING


async def test_the_pull_that_was_looked_for_is_not_woken_to_look_again_but_others_are(services: Rig) -> None:
    held, other = RecordingPull(), RecordingPull(held_by_journal="journal-2")
    services.wakeups.enter(PC, other.wake)
    services.wakeups.enter(PC, held.wake)
    services.wakeups.offer(PC, held)

    await pending_restart(services)

    assert held.steps == ["reserve", "resume"]
    assert other.steps == ["wake"]
    assert services.wakeups.has_news(PC)


async def test_a_refused_approval_leaves_the_pull_waiting(services: Rig) -> None:
    command_id = await pending_restart(services)
    await services.commands.approve(command_id, operator())
    held = RecordingPull()
    services.wakeups.offer(PC, held)

    with pytest.raises(Conflict):
        await services.commands.approve(command_id, operator())

    assert held.steps == ["reserve", "resume"]


async def test_an_agent_without_a_journal_is_woken_and_pulls_again(services: Rig) -> None:
    # Nothing may be marked delivered to it that it might not hear: nobody could ever ask it again.
    command_id = await pending_restart(services)
    held = RecordingPull(held_by_journal=None)
    woken: list[bool] = []
    services.wakeups.offer(PC, held)
    services.wakeups.enter(PC, lambda: woken.append(True))

    await services.commands.approve(command_id, operator())

    assert held.steps == []
    assert woken == [True]
    assert await status_of(services, command_id) is CommandStatus.PENDING


async def test_an_answer_that_was_lost_is_asked_for_again(services: Rig) -> None:
    command_id = await pending_restart(services)
    services.wakeups.offer(PC, RecordingPull())
    await services.commands.approve(command_id, operator())

    early = await services.deliveries.pull_now(PC, journal="journal-1")
    services.clock.advance(31)
    late = await services.deliveries.pull_now(PC, journal="journal-1")

    assert early == Pulled()
    assert [(command.id, command.delivery_count) for command in late.commands] == [(command_id, 2)]
