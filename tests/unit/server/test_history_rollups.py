"""Roll-ups: sums, extremes, rates, restarts and gaps, and that merging loses none of them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import PC, cases, history_sample
from fakes import START
from reco3.server.domain.history import bucketed, regrouped
from reco3.server.domain.metrics import Sample
from reco3.server.domain.points import Points, point_text, read_points
from reco3.server.domain.rollups import Rollup, Spread, Traffic, merged, pack_rollups, rollup_of, unpack_rollups

START_MS = int(START.timestamp()) * 1000

numbers = st.none() | st.floats(0, 100)
totals = st.none() | st.integers(0, 2**40)
samples = st.lists(
    st.builds(
        Sample,
        st.just(PC),
        st.integers(0, 7_200).map(lambda seconds: START + timedelta(seconds=seconds)),
        numbers, numbers, numbers, totals, totals,
    ),
    min_size=1,
)  # fmt: skip


def points(*given_samples: Sample) -> Points:
    return read_points("".join(point_text(sample, is_restart=False) for sample in given_samples))


def whole(given_points: Points, at_ms: int = 0) -> Rollup:
    """The roll-up of all points together."""
    return rollup_of(given_points, 0, len(given_points.at_ms), at_ms=at_ms)


def test_a_rollup_knows_sum_lowest_highest_and_how_many_were_missing() -> None:
    beats = [history_sample(n * 10, cpu_percent=cpu) for n, cpu in enumerate([10.0, None, 12.5, 90.01])]

    rollup = whole(points(*beats), START_MS)

    assert rollup.cpu == Spread(count=3, total=11_251, lowest=1_000, highest=9_001)
    assert (rollup.count, rollup.at_ms, rollup.mem.count) == (4, START_MS, 4)


def test_a_share_that_never_came_has_no_spread() -> None:
    assert whole(points(history_sample(0, disk_percent=None))).disk == Spread()


@pytest.mark.parametrize("case", cases("history_traffic"), ids=lambda case: case["name"])
def test_traffic_is_counted_only_where_it_is_known(case: dict[str, list[list[int | None]] | list[int]]) -> None:
    beats = [
        history_sample(at_s or 0, net_bytes_sent=sent, net_bytes_recv=recv)
        for at_s, sent, recv in case["points"]  # type: ignore[misc]
    ]

    rollup = whole(points(*beats))

    assert rollup.traffic == Traffic(*case["traffic"])  # type: ignore[arg-type]
    assert rollup.restarts == case["restarts"]


def test_a_restart_that_the_agent_tells_of_is_counted_once() -> None:
    told = point_text(history_sample(10, net_bytes_sent=5), is_restart=True)
    before = point_text(history_sample(0, net_bytes_sent=99), is_restart=False)

    assert whole(read_points(before + told)).restarts == 1


@given(samples)
def test_merging_the_minutes_is_the_same_as_rolling_up_the_points(given_samples: list[Sample]) -> None:
    given_points = points(*given_samples)

    assert regrouped(bucketed(given_points, 60), 900) == bucketed(given_points, 900)
    assert merged(bucketed(given_points, 60), at_ms=0) == whole(given_points)


@given(samples)
def test_every_rollup_survives_in_a_pack(given_samples: list[Sample]) -> None:
    rollups = bucketed(points(*given_samples), 60)

    assert unpack_rollups(pack_rollups(rollups)) == rollups
    assert unpack_rollups(pack_rollups(rollups) + pack_rollups(rollups)) == rollups * 2


@given(st.binary(max_size=100))
def test_a_damaged_pack_of_rollups_is_read_as_far_as_it_is_whole(damage: bytes) -> None:
    rollups = [Rollup(START_MS, 6)]

    unpack_rollups(damage)
    assert unpack_rollups(pack_rollups(rollups) + damage)[:1] == rollups
