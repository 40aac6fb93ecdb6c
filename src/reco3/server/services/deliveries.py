"""Deliveries: which commands a PC's pull carries, held open until there is one."""

import asyncio
import contextlib
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

from reco3.protocol.limits import MAX_COMMANDS_PER_PULL
from reco3.server.domain.audit import AuditEvent, agent_actor
from reco3.server.domain.commands import (
    Command,
    delivered,
    lost_its_journal,
    may_deliver,
    must_hear_of_cancel,
)
from reco3.server.services.clones import CloneWatch, deliverable
from reco3.server.services.command_rows import command_event, give_up
from reco3.server.services.ports import Outside, Transaction
from reco3.server.services.wakeups import Wakeups

AUTOMATIC_APPROVER = "nobody (RECO3_REQUIRE_APPROVAL=0)"
SWEEP_S = 5.0
MAX_REPORTS_KEPT = 20
MAX_ORPHANS_KEPT = 200
MAX_TIMELINE_ROWS = 200


class News(Enum):
    """What the database holds for a pull: something to hand out, something still in flight, or nothing."""

    NOW = "now"
    LATER = "later"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull carries: commands to run, and the ids of delivered ones that nobody wants any more."""

    commands: tuple[Command, ...] = ()
    cancels: tuple[str, ...] = ()


class DeliveryService:
    """The way from the queue to the PCs."""

    def __init__(self, outside: Outside, wakeups: Wakeups, clones: CloneWatch) -> None:
        self._outside = outside
        self._wakeups = wakeups
        self.note_journal = clones.note

    async def pull(
        self, agent_id: str, *, journal: str | None, wait_s: float, gone: asyncio.Future[Any] | None = None
    ) -> Pulled:
        """What this PC should do now, waiting up to `wait_s` for the first of it.

        `gone` ends once the PC has hung up: nothing is marked delivered to a PC that cannot hear it.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        event = asyncio.Event()
        self.note_journal(agent_id, journal)
        self._wakeups.enter(agent_id, event.set)
        try:
            while True:
                event.clear()
                pulled = await self.pull_now(agent_id, journal=journal)
                remaining_s = deadline - loop.time()
                if pulled != Pulled() or remaining_s <= 0 or self._wakeups.is_closing:
                    return pulled
                if not await _woken(event, remaining_s, gone):
                    return pulled
        finally:
            self._wakeups.leave(agent_id, event.set)

    def has_news(self, agent_id: str) -> bool:
        """Whether something is known to be in flight for this PC, so that it should pull."""
        return self._wakeups.has_news(agent_id)

    async def pull_now(self, agent_id: str, *, journal: str | None) -> Pulled:
        """What this PC should do now."""
        if not self._wakeups.may_have_news(agent_id):
            return Pulled()
        now = self._outside.clock()
        self._wakeups.settle(agent_id)
        news = await self._outside.store.read(lambda tx: _news(tx, agent_id, journal, now))
        if news is not News.NONE:
            self._wakeups.note(agent_id)
        if news is not News.NOW:
            return Pulled()
        pulled = await self._outside.store.write(lambda tx: _deliver(tx, agent_id, journal, self._outside.clock()))
        self._outside.announcer.announce("commands", agent_id)
        return pulled


async def _woken(event: asyncio.Event, timeout_s: float, gone: asyncio.Future[Any] | None) -> bool:
    """Wait for the event; returns False when the PC hung up first."""
    waiting = asyncio.ensure_future(event.wait())
    others: set[asyncio.Future[Any]] = {gone} if gone is not None else set()
    try:
        await asyncio.wait([waiting, *others], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
    return gone is None or not gone.done()


def _news(tx: Transaction, agent_id: str, journal: str | None, now: datetime) -> News:
    in_flight = deliverable(tx, agent_id)
    is_due = any(
        may_deliver(command, now, journal=journal)
        or must_hear_of_cancel(command, now, journal=journal)
        or lost_its_journal(command, journal=journal)
        for command in in_flight
    )
    if is_due:
        return News.NOW
    return News.LATER if in_flight else News.NONE


def _deliver(tx: Transaction, agent_id: str, journal: str | None, now: datetime) -> Pulled:
    in_flight = deliverable(tx, agent_id)
    for command in in_flight:
        if lost_its_journal(command, journal=journal):
            give_up(tx, command, now, why="the PC's journal, which knew this command, is gone")
    ready = [command for command in in_flight if may_deliver(command, now, journal=journal)]
    commands = [delivered(command, now, journal=journal) for command in ready[:MAX_COMMANDS_PER_PULL]]
    cancels = [command for command in in_flight if must_hear_of_cancel(command, now, journal=journal)]
    for changed in (*commands, *(replace(command, cancel_told_at=now) for command in cancels)):
        tx.commands.put(changed)
    tx.audit.add([_pull_event(command, now) for command in commands])
    return Pulled(tuple(commands), tuple(command.id for command in cancels))


def _pull_event(command: Command, now: datetime) -> AuditEvent:
    detail = {"command_ids": [command.id], "type": command.type, "delivery": command.delivery_count}
    return command_event("agent_pull", command, now, agent_actor(command.agent_id), detail)
