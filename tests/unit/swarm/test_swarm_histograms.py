"""A histogram tells percentiles within two per cent, whatever the order of size, and adds up."""

import random
import statistics

import pytest

from reco3.swarm.histograms import Histogram


def histogram(spans_s: list[float]) -> Histogram:
    counted = Histogram()
    for span_s in spans_s:
        counted.record(span_s)
    return counted


@pytest.mark.parametrize("scale_s", [0.00005, 0.004, 0.7, 90.0, 20_000.0])
@pytest.mark.parametrize("percent", [50, 90, 99])
def test_a_percentile_is_right_within_two_per_cent(scale_s: float, percent: int) -> None:
    chance = random.Random(7)  # noqa: S311 - repeats with its seed, guards nothing
    spans_s = [scale_s * (1 + chance.random()) for _ in range(5_000)]

    found_s = histogram(spans_s).percentile_s(percent)

    exact_s = statistics.quantiles(spans_s, n=100)[percent - 1]
    assert found_s == pytest.approx(exact_s, rel=0.025, abs=0.000002)


def test_no_percentile_exceeds_the_largest_span() -> None:
    counted = histogram([0.0010001])

    assert counted.percentile_s(99.9) == counted.max_s == 0.0010001


def test_nothing_has_no_percentile() -> None:
    assert Histogram().percentile_s(50) is None


@pytest.mark.parametrize("span_s", [-1.0, 0.0, 1e12])
def test_a_span_out_of_range_is_counted_at_the_end_of_the_range(span_s: float) -> None:
    assert histogram([span_s]).count == 1


def test_two_workers_histograms_add_up_to_that_of_both() -> None:
    quick, slow = [0.001] * 90, [0.5] * 10

    added = histogram(quick)
    added.add(histogram(slow))

    both = histogram(quick + slow)
    assert (added.count, added.max_s) == (both.count, both.max_s)
    assert [added.percentile_s(p) for p in (50, 90, 95)] == [both.percentile_s(p) for p in (50, 90, 95)]
