"""A stopwatch that only a test moves, and that moves when somebody lets time pass."""

from collections.abc import Callable

from reco3.agent.waiting import Stopwatch


class FakeStopwatch:
    """Counts the seconds that were waited; `at` has something happen once so many are over."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, Callable[[], None]]] = []

    @property
    def stopwatch(self) -> Stopwatch:
        return Stopwatch(lambda: self.now_s, self._pause)

    def at(self, second: float, event: Callable[[], None]) -> None:
        self._events.append((second, event))

    def _pause(self, seconds: float) -> None:
        assert seconds > 0, "waiting for no time is a busy loop"
        self.now_s += seconds
        for event in [event for event in self._events if event[0] <= self.now_s]:
            self._events.remove(event)
            event[1]()
