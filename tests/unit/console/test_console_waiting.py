from collections.abc import Callable

import pytest

from reco3.console.api import Json, Unreachable
from reco3.console.waiting import LONGEST_LOOK_S, PATIENCE_S, Waiting, end_text


def script(*answers: Json | Unreachable) -> Callable[[], Json]:
    """Answers with one prepared state after the other, the last for ever."""
    left = list(answers)

    def look() -> Json:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Unreachable):
            raise answer
        return {"id": "c-1"} | answer

    return look


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []

    def pause(self, duration_s: float) -> None:
        self.pauses.append(duration_s)
        self.now_s += duration_s

    def monotonic(self) -> float:
        return self.now_s


def waiting(clock: Clock, told: list[object]) -> Waiting:
    return Waiting(lambda command: told.append(command["status"]), clock.pause, clock.monotonic)


def test_every_change_is_told_once_and_the_end_is_returned() -> None:
    states: list[Json | Unreachable] = [{"status": status} for status in ("pending", "pending", "delivered", "running")]
    told: list[object] = []

    command = waiting(Clock(), told).for_end(script(*states, {"status": "completed"}))

    assert command["status"] == "completed"
    assert told == ["pending", "delivered", "running"]


@pytest.mark.parametrize("status", ["completed", "failed", "rejected", "expired", "cancelled", "unknown", "brand-new"])
def test_every_status_that_is_not_on_its_way_ends_the_wait(status: str) -> None:
    assert waiting(Clock(), []).for_end(script({"status": status}))["status"] == status


def test_the_looks_become_rarer_up_to_a_second() -> None:
    clock = Clock()
    states: list[Json | Unreachable] = [{"status": "pending"}] * 20

    waiting(clock, []).for_end(script(*states, {"status": "completed"}))

    assert clock.pauses == sorted(clock.pauses)
    assert clock.pauses[-1] == LONGEST_LOOK_S


def test_a_short_silence_of_the_server_is_waited_out() -> None:
    silence = [Unreachable("gone")] * 5

    command = waiting(Clock(), []).for_end(script({"status": "running"}, *silence, {"status": "failed"}))

    assert command["status"] == "failed"


def test_a_long_silence_ends_the_wait_as_unreachable() -> None:
    clock = Clock()

    with pytest.raises(Unreachable):
        waiting(clock, []).for_end(script({"status": "running"}, Unreachable("gone")))

    assert PATIENCE_S <= clock.now_s < PATIENCE_S + 2


def test_the_end_says_how_long_it_took_by_the_servers_stamps() -> None:
    command = {"status": "completed", "ts": "2026-11-23T14:00:00Z", "finished_at": "2026-11-23T14:03:22.840Z"}

    approved = command | {"approval": {"approved_at": "2026-11-23T14:03:22.000Z"}}

    assert end_text(approved) == "completed 840 ms after approval"
    assert end_text(command) == "completed 3 min 23 s after asking"
    assert end_text({"status": "unknown"}) == "unknown: we do not know whether it ran"
