"""Wake-ups: how a new order reaches the pull that a PC holds open, and which PCs have anything in flight at all.

A lost wake-up costs time and nothing else: a sweep asks the database again every few seconds, which also finds what
another process or a person wrote there.
"""

from collections.abc import Callable, Collection
from typing import Protocol

from reco3.server.domain.commands import Pulled

Wake = Callable[[], None]


class HeldPull(Protocol):
    """A pull that its PC holds open, with nothing on its way to it."""

    @property
    def held_by_journal(self) -> str | None:
        """The journal that the PC named; None for an agent without one."""

    @property
    def wake(self) -> Wake:
        """What `Wakeups.enter` was given for it."""

    def reserve(self) -> None:
        """Stay unanswered until `give` or `resume` is called, whatever time it is."""

    def give(self, pulled: Pulled) -> None:
        """Answer with this, if the PC still listens."""

    def resume(self) -> None:
        """Go on waiting; ask the database first when somebody woke it since it was reserved."""


class Wakeups:
    """Which PCs wait, which have news, and the means to wake them."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Wake, ...]] = {}
        self._with_news: set[str] = set()
        self._held: dict[str, HeldPull] = {}
        self._expelled: set[str] = set()
        self._is_complete = False
        self._is_closing = False

    @property
    def is_closing(self) -> bool:
        """Whether the server is stopping, so that nobody should wait any more."""
        return self._is_closing

    def has_news(self, agent_id: str) -> bool:
        """Whether something is known to be in flight for this PC."""
        return agent_id in self._with_news

    def may_have_news(self, agent_id: str) -> bool:
        """Whether the database must be asked: False only when nothing is in flight for this PC."""
        return agent_id in self._with_news or not self._is_complete or self._is_closing

    def is_awaited(self, agent_id: str) -> bool:
        """Whether a pull of this PC is held."""
        return agent_id in self._waiting

    def enter(self, agent_id: str, wake: Wake) -> None:
        """Call `wake` whenever something new is there for this PC, until `leave`."""
        self._waiting[agent_id] = (*self._waiting.get(agent_id, ()), wake)
        if self._is_closing:
            wake()

    def leave(self, agent_id: str, wake: Wake) -> None:
        """Forget what `enter` was given."""
        others = tuple(other for other in self._waiting.get(agent_id, ()) if other != wake)
        if others:
            self._waiting[agent_id] = others
        else:
            self._waiting.pop(agent_id, None)

    def offer(self, agent_id: str, held: HeldPull) -> None:
        """This pull may be answered by whoever has something for this PC, until `withdraw`."""
        self._held[agent_id] = held

    def withdraw(self, agent_id: str, held: HeldPull) -> None:
        """Forget what `offer` was given."""
        if self._held.get(agent_id) is held:
            del self._held[agent_id]

    def reserve(self, agent_id: str) -> HeldPull | None:
        """The pull of this PC, reserved for the caller, who must `give` or `resume` it; None when there is none.

        Only that of an agent with a journal: should it never hear the answer, asking that journal again is safe.
        """
        held = self._held.get(agent_id)
        if held is None or held.held_by_journal is None:
            return None
        del self._held[agent_id]
        held.reserve()
        return held

    def wake(self, agent_id: str, *, unless: Wake | None = None) -> None:
        """Something is in flight for this PC: remember it, and wake every pull that it holds, but for one."""
        self._with_news.add(agent_id)
        for wake in self._waiting.get(agent_id, ()):
            if wake != unless:
                wake()

    def note(self, agent_id: str) -> None:
        """Something is still in flight for this PC, though nothing for it to hear of now."""
        self._with_news.add(agent_id)

    def settle(self, agent_id: str) -> None:
        """Nothing is in flight for this PC: said before the database is asked; `note` takes it back."""
        if agent_id not in self._expelled:
            self._with_news.discard(agent_id)

    def expel(self, agent_id: str) -> None:
        """This PC's key opens nothing any more: every pull that it holds asks the database, and is refused there."""
        self._expelled.add(agent_id)
        self.wake(agent_id)

    def readmit(self, agent_id: str) -> None:
        """This PC has another key."""
        self._expelled.discard(agent_id)

    def load(self, agent_ids: Collection[str]) -> None:
        """Learn from the database which PCs have something in flight; wakes those that were not known."""
        for agent_id in set(agent_ids) - self._with_news:
            self.wake(agent_id)
        self._is_complete = True

    def close(self) -> None:
        """Wake everybody, for good: the server is stopping."""
        self._is_closing = True
        for wakes in list(self._waiting.values()):
            for wake in wakes:
                wake()
