"""Tells the server what became of commands, again and again until it has taken the report or will never take it.

It refuses to let a report be lost: what the journal owes is sent by this run of the agent or by a later one.
"""

import logging
import math
import random
import time
from collections.abc import Callable
from datetime import datetime

from reco3.agent import failpoints
from reco3.agent.clocks import as_text
from reco3.agent.contacts import Contact, delay_after_s
from reco3.agent.http_client import Backoff, ContactError, HttpClient, RefusedError
from reco3.agent.journal import Delivery, Ending, Journal, JournalError
from reco3.agent.lifecycle import Entry, State
from reco3.agent.log_file import log_event
from reco3.protocol.limits import PULL_PERIOD_S
from reco3.protocol.messages import CommandReport

COURTESY_TIMEOUT_S = 2.0
MAX_UNRECORDED = 100
_TEMPORARY = (401, 408, 425, 429)
_NOT_UNDERSTOOD = (400, 422)
_STATUSES = {State.DONE: "completed", State.FAILED: "failed", State.UNKNOWN: "unknown"}


class Reports:
    """The reports of one agent, sent from one thread."""

    def __init__(
        self,
        client: HttpClient,
        *,
        contact: Contact,
        journal: Journal,
        when_unwritable: Callable[[JournalError], None],
        tell_of_break_glass: Callable[[Entry, Callable[[], None]], None],
    ) -> None:
        self._client = client
        self._contact = contact
        self._journal = journal
        self._when_unwritable = when_unwritable
        self._tell_of_break_glass = tell_of_break_glass
        self._told_of: set[str] = set()
        self._epoch: str | None = None
        self._backoff = Backoff(PULL_PERIOD_S, random=random.random)
        self._due_at: float | None = time.monotonic()
        self._unrecorded: dict[str, Ending] = {}

    @property
    def due_in_s(self) -> float:
        """In how many seconds the next report is due; infinite when none is owed."""
        return math.inf if self._due_at is None else max(0.0, self._due_at - time.monotonic())

    def speak_for(self, epoch: str | None) -> None:
        """Name the journal in every report from now on."""
        self._epoch = epoch

    def owe(self) -> None:
        """Something is owed that is worth sending at once."""
        self._backoff.reset()
        self._due_at = time.monotonic()

    def send_owed(self) -> None:
        """Send what the journal owes; what fails is due again later."""
        try:
            owed = self._journal.owed_reports()
            for entry in owed:
                if entry.is_break_glass:
                    self._tell(entry)
            for entry in owed:
                if not entry.is_break_glass:
                    self._send(entry)
        except ContactError as error:
            self._due_at = time.monotonic() + delay_after_s(error, self._backoff)
        except JournalError as error:
            self._when_unwritable(error)
            self._due_at = time.monotonic() + self._backoff.next_delay_s()
        else:
            self._due_at = None

    def answer_again(self, entry: Entry) -> None:
        """Somebody asks once more what became of a command that is over."""
        try:
            self._journal.set_delivery(entry.command_id, Delivery.OWED)
        except JournalError as error:
            self._when_unwritable(error)
            self._send_lossy(_report(entry))
            return
        self.owe()
        self.send_owed()

    def tell_running(self, command_id: str) -> None:
        """Say that a command runs."""
        self._send_courtesy(CommandReport(command_id, "running"))

    def tell_accepted(self, command_id: str, acts_at: datetime) -> None:
        """Say that a command waits, and until when."""
        self._send_courtesy(CommandReport(command_id, "accepted", {"acts_at": as_text(acts_at)}))

    def tell_unrecorded(self, command_id: str, ending: Ending) -> None:
        """Tell an ending that the journal cannot take; it is remembered while this run of the agent lasts."""
        if len(self._unrecorded) >= MAX_UNRECORDED:
            self._unrecorded.pop(next(iter(self._unrecorded)))
        self._unrecorded[command_id] = ending
        self._send_unrecorded(command_id, ending)

    def unrecorded_ending(self, command_id: str) -> Ending | None:
        """What was told of a command without the journal knowing it."""
        return self._unrecorded.get(command_id)

    def answer_unrecorded_again(self, command_id: str) -> bool:
        """Tell again what was told without the journal; False when nothing was."""
        known = self._unrecorded.get(command_id)
        if known is None:
            return False
        self._send_unrecorded(command_id, known)
        return True

    def _send(self, entry: Entry) -> None:
        delivery = Delivery.ACKNOWLEDGED
        failpoints.hit("before_report")
        try:
            self._ask(_report(entry))
        except RefusedError as error:
            if not _is_final(error):
                raise
            # The server knows no such command, or holds another end of it: asking again changes nothing.
            log_event("report_parked", logging.WARNING, command_id=entry.command_id, error=error)
            delivery = Delivery.PARKED
        failpoints.hit("after_report")
        self._journal.set_delivery(entry.command_id, delivery)
        failpoints.hit("after_acknowledge")

    def _tell(self, entry: Entry) -> None:
        """The server knows no such command: it learns of it as a log line, which counts once that is safely kept."""
        if entry.command_id in self._told_of:
            return
        self._told_of.add(entry.command_id)
        self._tell_of_break_glass(entry, lambda: self._journal.set_delivery(entry.command_id, Delivery.ACKNOWLEDGED))

    def _ask(self, report: CommandReport) -> None:
        try:
            self._contact.ask("report", lambda: self._client.report(report, journal=self._epoch))
        except RefusedError as error:
            if report.status != "unknown" or error.status not in _NOT_UNDERSTOOD:
                raise
            # A server of the first protocol knows two endings only; the result says what is true.
            failed = CommandReport(report.command_id, "failed", report.result)
            self._contact.ask("report", lambda: self._client.report(failed, journal=self._epoch))

    def _send_unrecorded(self, command_id: str, ending: Ending) -> None:
        self._send_lossy(CommandReport(command_id, _STATUSES[ending.state], ending.result))

    def _send_lossy(self, report: CommandReport) -> None:
        try:
            self._ask(report)
        except ContactError as error:
            log_event("report_lost", logging.WARNING, command_id=report.command_id, error=error)

    def _send_courtesy(self, report: CommandReport) -> None:
        """Whether or not this arrives, the command goes its way; servers of the first protocol refuse it."""
        try:
            self._client.report(report, journal=self._epoch, timeout_s=COURTESY_TIMEOUT_S)
        except ContactError as error:
            log_event(f"{report.status}_not_reported", logging.DEBUG, command_id=report.command_id, error=error)


def _is_final(error: RefusedError) -> bool:
    return 400 <= error.status < 500 and error.status not in _TEMPORARY  # noqa: PLR2004 - HTTP's client errors


def _report(entry: Entry) -> CommandReport:
    return CommandReport(entry.command_id, _STATUSES[entry.state], entry.result or {})
