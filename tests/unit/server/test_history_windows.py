"""Windows: what closes, what stays open, and that nothing is lost or counted twice between them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import PC, history_sample
from fakes import START
from reco3.server.domain.history import (
    MINUTE_S,
    QUARTER_S,
    RAW_S,
    TWO_HOURS_S,
    WINDOW_S,
    Closed,
    Keeping,
    Plan,
    close_windows,
    expected_count,
    plan_of,
    points_due_at,
)
from reco3.server.domain.metrics import Sample
from reco3.server.domain.points import point_text, read_points, unpack_points
from reco3.server.domain.rollups import Rollup, merged, unpack_rollups

START_S = int(START.timestamp())
PC_OF_THE_FIFTH_MINUTE = "pc-005"  # Its windows begin four minutes after the others'; those of `PC` at 0:00, 0:05 …


def text(samples: Sequence[Sample]) -> str:
    return "".join(point_text(sample, is_restart=False) for sample in samples)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def beats(first_s: int, last_s: int, *, step_s: int = 10) -> list[Sample]:
    """Heartbeats with totals that grow by 1000 bytes sent and 2000 received each second."""
    return [
        history_sample(seconds, net_bytes_sent=seconds * 1_000, net_bytes_recv=seconds * 2_000)
        for seconds in range(first_s, last_s, step_s)
    ]


def counts(closed: Closed) -> list[tuple[int, int]]:
    return [(window.start_s - START_S, sum(quarter.count for quarter in window.quarters)) for window in closed.windows]


def total(closed: Closed) -> Rollup:
    return merged([quarter for window in closed.windows for quarter in window.quarters], at_ms=0)


def test_a_window_that_is_not_over_stays_open() -> None:
    written = text(beats(0, 290))

    closed = close_windows(PC, written, at(299))

    assert closed == Closed((), written, points_due_at(PC, START))


def test_a_window_that_is_over_becomes_packs_and_a_rollup() -> None:
    closed = close_windows(PC, text(beats(0, 330)), at(330))

    (window,) = closed.windows
    minutes = unpack_rollups(window.minutes)
    assert (window.agent_id, window.start_s) == (PC, START_S)
    assert [row[0] // 1000 - START_S for row in unpack_points(window.raw)] == list(range(0, 300, 10))
    assert [(minute.at_ms // 1000 - START_S, minute.count) for minute in minutes] == [
        (0, 6),
        (60, 6),
        (120, 6),
        (180, 6),
        (240, 6),
    ]
    assert [(quarter.count, quarter.at_ms) for quarter in window.quarters] == [(30, START_S * 1000)]


def test_the_last_point_of_a_closed_window_stays_for_the_rate_across_the_border() -> None:
    first = close_windows(PC, text(beats(0, 330)), at(330))
    second = close_windows(PC, first.open_points + text(beats(330, 610)), at(610))

    assert read_points(first.open_points).first == 1
    assert len(read_points(first.open_points).at_ms) == 4
    assert total(first).traffic.covered_ms == 290_000
    assert total(second).traffic.covered_ms == 300_000
    assert total(second).traffic.sent_bytes == 300_000
    assert total(second).count == 30


def test_closing_again_with_nothing_new_keeps_the_carried_point() -> None:
    once = close_windows(PC, text(beats(0, 310)), at(310))
    again = close_windows(PC, once.open_points, at(320))

    assert again == replace(once, windows=())


def test_a_pc_that_was_away_closes_what_it_left_behind() -> None:
    closed = close_windows(PC, text([*beats(0, 60), *beats(7_200, 7_220)]), at(7_220))

    assert counts(closed) == [(0, 6)]
    assert len(read_points(closed.open_points).at_ms) == 3
    assert len(read_points(closed.open_points).rows()) == 2


def test_points_of_a_clock_that_was_set_back_are_kept_in_their_own_window() -> None:
    closed = close_windows(PC, text([*beats(900, 930), *beats(0, 30)]), at(30))

    assert counts(closed) == [(900, 3)]
    assert [row[0] // 1000 - START_S for row in read_points(closed.open_points).rows()] == [0, 10, 20]


@pytest.mark.parametrize("damage", [".garbage", "." + "A" * 40, ".", "." + "/" * 40])
def test_a_damaged_text_loses_only_what_is_damaged(damage: str) -> None:
    closed = close_windows(PC, damage + text(beats(0, 60)) + damage + text(beats(60, 330)), at(330))

    assert total(closed).count == 30


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 7))
def test_no_point_is_lost_or_counted_twice_however_often_windows_close(steps_s: list[int], every: int) -> None:
    seconds = [sum(steps_s[: n + 1]) for n in range(len(steps_s))]
    open_points, found = "", []
    for number, second in enumerate(seconds):
        open_points += text(beats(second, second + 1))
        if number % every == 0:
            closed = close_windows(PC, open_points, at(second))
            open_points = closed.open_points
            found += [row for window in closed.windows for row in unpack_points(window.raw)]

    assert [row[0] // 1000 - START_S for row in found + read_points(open_points).rows()] == seconds


def test_a_window_across_the_quarter_of_an_hour_adds_to_both() -> None:
    closed = close_windows(PC_OF_THE_FIFTH_MINUTE, text(beats(840, 1_140)), at(1_140))

    (window,) = closed.windows
    assert window.start_s - START_S == 840
    assert [(quarter.at_ms // 1000 - START_S, quarter.count) for quarter in window.quarters] == [(0, 6), (900, 24)]
    assert [minute.count for minute in unpack_rollups(window.minutes)] == [6] * 5


@given(st.text(min_size=1, max_size=20), st.integers(0, 2 * 7_200))
def test_every_pc_closes_within_a_minute_after_its_window_and_splits_no_minute(name: str, second: int) -> None:
    due_s = points_due_at(name, at(second))
    closed = close_windows(name, text(beats(second, second + 600)), at(second + 600))

    assert START_S + second < due_s < START_S + second + WINDOW_S + MINUTE_S
    assert {window.start_s % MINUTE_S for window in closed.windows} == {0}
    assert points_due_at(name, at(second + WINDOW_S)) == due_s + WINDOW_S


def test_a_fleet_closes_evenly_over_five_minutes() -> None:
    due_s = [points_due_at(f"pc-{n:05d}", at(17)) % WINDOW_S for n in range(3_000)]

    # Ten are to be expected in each second.
    assert max(due_s.count(second) for second in range(WINDOW_S)) < 40


NOW = datetime(2030, 1, 15, 12, 3, 25, tzinfo=UTC)


@pytest.mark.parametrize(
    ("back", "max_points", "base_s", "step_s"),
    [
        (timedelta(minutes=15), 300, RAW_S, 10),
        (timedelta(hours=1), 300, RAW_S, 30),
        (timedelta(hours=1), 400, RAW_S, 10),
        (timedelta(hours=24), 300, MINUTE_S, 300),
        (timedelta(hours=24), 2_000, MINUTE_S, 60),
        (timedelta(days=7), 300, QUARTER_S, 3_600),
        (timedelta(days=30), 300, TWO_HOURS_S, 14_400),
        (timedelta(days=365), 300, TWO_HOURS_S, 172_800),
        (timedelta(days=365), 10, TWO_HOURS_S, 41 * 86_400),
        (timedelta(days=5_000), 300, TWO_HOURS_S, 17 * 86_400),
    ],
)
def test_the_answer_is_the_finest_that_fits(back: timedelta, max_points: int, base_s: int, step_s: int) -> None:
    plan = plan_of(NOW - back, NOW, max_points=max_points, now=NOW, keeping=Keeping())

    assert (plan.base_s, plan.step_s) == (base_s, step_s)
    assert plan.start_s % step_s == 0
    assert (plan.end_s - plan.start_s) / step_s <= max_points


@pytest.mark.parametrize(
    ("ago", "step_s"),
    [
        (timedelta(hours=23), 10),
        (timedelta(days=2), 60),
        (timedelta(days=20), 900),
        (timedelta(days=100), 7_200),
        (timedelta(days=1_000), 7_200),
    ],
)
def test_what_is_no_longer_kept_finely_is_answered_coarsely(ago: timedelta, step_s: int) -> None:
    plan = plan_of(NOW - ago, NOW - ago + timedelta(minutes=10), max_points=300, now=NOW, keeping=Keeping())

    assert plan == Plan(step_s, step_s, plan.start_s, int((NOW - ago).timestamp()) + 600)


def test_a_stretch_that_is_not_over_expects_fewer_heartbeats() -> None:
    assert expected_count(START_S * 1000, 300, at(1_000)) == 30
    assert expected_count(START_S * 1000, 300, at(95)) == 9
    assert expected_count(START_S * 1000, 300, at(-5)) == 0
