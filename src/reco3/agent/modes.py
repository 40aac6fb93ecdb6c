"""Knows what the agent lets happen now: what an operator chose, and whether the server is out of reach.

It refuses to widen by itself: being cut off turns NORMAL into SAFE, and only three good contacts turn it back.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from reco3.agent.journal import Journal, JournalError
from reco3.agent.log_file import log_event
from reco3.protocol.commands import Mode

FAILURES_UNTIL_SAFE = 5
SUCCESSES_UNTIL_BACK = 3
# Two threads that fail side by side make five failures in a second or two, which is a restart and no outage.
SHORTEST_OUTAGE_S = 15.0


@dataclass(frozen=True, slots=True)
class ContactCounter:
    """Counts contacts with the server in a row and says when the agent is cut off.

    `failing_since_s` is when the first of the failures in a row was noted, on a clock that only goes forward.
    """

    failures_in_row: int = 0
    successes_in_row: int = 0
    is_cut_off: bool = False
    failing_since_s: float = 0.0

    def after_success(self) -> "ContactCounter":
        """One more contact went well."""
        successes = self.successes_in_row + 1
        return ContactCounter(0, successes, self.is_cut_off and successes < SUCCESSES_UNTIL_BACK)

    def after_failure(self, now_s: float) -> "ContactCounter":
        """One more contact failed; many in a row are an outage only when they also span some time."""
        failures = self.failures_in_row + 1
        since_s = now_s if failures == 1 else self.failing_since_s
        is_outage = failures >= FAILURES_UNTIL_SAFE and now_s - since_s >= SHORTEST_OUTAGE_S
        return ContactCounter(failures, 0, self.is_cut_off or is_outage, since_s)


def effective_mode(chosen: Mode, *, is_cut_off: bool) -> Mode:
    """What holds now, given what was chosen; being cut off never loosens a stricter choice."""
    return Mode.SAFE if is_cut_off and chosen is Mode.NORMAL else chosen


class Modes:
    """The mode as both threads of the agent see it."""

    def __init__(self, journal: Journal, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._now_s = now_s
        self._on_change: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._counter = ContactCounter()
        self._chosen = self._read_chosen()

    def when_changed(self, call: Callable[[], None]) -> None:
        """Have `call` called, from either thread, whenever what the agent lets happen has changed."""
        self._on_change = call

    @property
    def current(self) -> Mode:
        """What the agent lets happen now."""
        with self._lock:
            return effective_mode(self._chosen, is_cut_off=self._counter.is_cut_off)

    @property
    def chosen(self) -> Mode:
        """What was chosen, whether or not the server is out of reach."""
        with self._lock:
            return self._chosen

    def refresh(self) -> None:
        """Read what was chosen, perhaps by `reco3 agent mode` a moment ago; unreadable counts as SAFE."""
        chosen = self._read_chosen()
        self._update(lambda: self._choose(chosen), cause="chosen on this PC")

    def adopt(self, mode: Mode) -> None:
        """Take over what an operator chose; it holds at once, even while contact is only just coming back."""

        def change() -> None:
            self._choose(mode)
            self._counter = replace(self._counter, is_cut_off=False)

        self._update(change, cause="chosen by an operator")

    def note_success(self) -> None:
        """Count a good contact."""
        self._update(lambda: self._count(self._counter.after_success()), cause="contact is back")

    def note_failure(self) -> None:
        """Count a failed contact."""
        self._update(
            lambda: self._count(self._counter.after_failure(self._now_s())),
            cause=f"at least {FAILURES_UNTIL_SAFE} failed contacts in a row, for {SHORTEST_OUTAGE_S:g} s or longer",
        )

    def _read_chosen(self) -> Mode:
        try:
            return self._journal.mode().mode
        except JournalError:
            return Mode.SAFE

    def _choose(self, mode: Mode) -> None:
        self._chosen = mode

    def _count(self, contacts: ContactCounter) -> None:
        self._counter = contacts

    def _update(self, change: Callable[[], None], *, cause: str) -> None:
        with self._lock:
            before = effective_mode(self._chosen, is_cut_off=self._counter.is_cut_off)
            change()
            after = effective_mode(self._chosen, is_cut_off=self._counter.is_cut_off)
        if after is not before:
            log_event("mode_changed", before=before, after=after, cause=cause)
            self._on_change()
