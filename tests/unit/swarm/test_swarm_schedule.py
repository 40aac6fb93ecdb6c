"""Nothing is due before its time, nothing is forgotten, and a fleet does not move in step."""

from itertools import pairwise

import pytest

from reco3.swarm.schedule import TimerWheel, jittered_s, pause_s, start_offset_s


def wheel(*, now: float = 1000.0) -> tuple[TimerWheel[str], list[str]]:
    done: list[str] = []
    return TimerWheel(done.append, now=now), done


def test_an_item_is_due_at_its_moment_and_not_before() -> None:
    timers, done = wheel()
    timers.at(1000.5, "beat")

    timers.advance(1000.499)
    assert done == []

    timers.advance(1000.505)
    assert done == ["beat"]

    timers.advance(1002.0)
    assert done == ["beat"]


def test_after_a_stall_everything_that_was_due_comes_in_order() -> None:
    timers, done = wheel()
    for moment, item in ((1003.0, "third"), (1001.0, "first"), (1002.0, "second"), (1500.0, "later")):
        timers.at(moment, item)

    timers.advance(1010.0)

    assert done == ["first", "second", "third"]


def test_what_is_asked_for_in_the_past_is_due_at_the_next_tick() -> None:
    timers, done = wheel()
    timers.advance(1005.0)
    timers.at(1001.0, "late")

    timers.advance(1005.02)

    assert done == ["late"]


def test_an_item_may_ask_for_itself_again() -> None:
    done: list[float] = []

    def act(due_at: float) -> None:
        done.append(due_at)
        timers.at(due_at + 1.0, due_at + 1.0)

    timers = TimerWheel(act, now=1000.0)
    timers.at(1001.0, 1001.0)

    timers.advance(1003.5)

    assert done == [1001.0, 1002.0, 1003.0]


@pytest.mark.parametrize("pcs", [1, 2, 3, 10, 997, 1000])
def test_the_pcs_begin_evenly_within_the_spread(pcs: int) -> None:
    offsets_s = sorted(start_offset_s(number, pcs=pcs, spread_s=10.0) for number in range(pcs))

    assert offsets_s == pytest.approx([place / pcs * 10.0 for place in range(pcs)])


def test_neighbours_do_not_begin_together() -> None:
    offsets_s = [start_offset_s(number, pcs=1000, spread_s=10.0) for number in range(1000)]

    assert min(abs(a - b) for a, b in pairwise(offsets_s)) > 1.0


def test_pauses_grow_and_end_at_ten_seconds() -> None:
    assert [pause_s(failures, 1.0) for failures in range(1, 8)] == [1, 2, 4, 8, 10, 10, 10]
    assert pause_s(3, 0.0) == 2.0


@pytest.mark.parametrize(("chance", "least_s", "most_s"), [(0.0, 24, 24), (1.0, 35.9, 36.1), (0.5, 29, 31)])
def test_a_delay_that_the_server_names_is_kept_within_a_fifth(chance: float, least_s: float, most_s: float) -> None:
    assert least_s <= pause_s(1, chance, retry_after_s=30) <= most_s
    assert least_s <= jittered_s(30, chance) <= most_s


def test_a_server_cannot_silence_a_pc_for_ever() -> None:
    assert pause_s(1, 1.0, retry_after_s=10**9) <= 721
