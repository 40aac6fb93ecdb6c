"""A report says what was measured, and says plainly when the swarm itself was the limit."""

import pytest

from reco3.swarm.connections import Kind
from reco3.swarm.ledger import Arrival, Asked, Ledger
from reco3.swarm.reporting import BOTTLENECK, load_report, load_text, run_report, run_text
from reco3.swarm.tallies import Mark, Tally


def tally(*, lag_s: float = 0.001, cpu_s: float = 2.0) -> Tally:
    """Ten seconds with a hundred heartbeats."""
    counted = Tally(measured_s=10.0, wall_s=10.0, cpu_s=cpu_s)
    for _ in range(100):
        counted.lags.record(lag_s)
        counted.latencies[Kind.HEARTBEAT].record(0.004)
        counted.answered[Kind.HEARTBEAT] += 1
    return counted


def test_rates_and_latencies_are_told() -> None:
    report = run_report(tally(), Ledger("e"), None, pcs=100, workers=1)

    assert report["rates_per_s"]["heartbeat"] == 10.0
    assert report["latency_ms"]["heartbeat"]["p50"] == pytest.approx(4.0, rel=0.02)
    assert "ledger: not verified" in run_text(report)
    assert BOTTLENECK not in run_text(report)


@pytest.mark.parametrize("limited", [{"lag_s": 0.06}, {"cpu_s": 9.9}])
def test_a_generator_that_was_the_bottleneck_says_so(limited: dict[str, float]) -> None:
    assert BOTTLENECK in run_text(run_report(tally(**limited), Ledger("e"), None, pcs=100, workers=1))
    assert BOTTLENECK in load_text(load_report(tally(**limited), connections=4, rate=None, workers=1))


def test_two_workers_at_half_a_core_each_are_no_bottleneck() -> None:
    report = run_report(tally(cpu_s=9.9), Ledger("e"), None, pcs=100, workers=2)

    assert not report["was_generator_the_bottleneck"]


def test_requests_that_were_never_sent_are_told() -> None:
    late = tally()
    late.backlog = 17

    assert "17 requests that were due had not even been sent" in load_text(
        load_report(late, connections=4, rate=100.0, workers=1)
    )


def test_a_commands_way_is_measured_from_the_operators_request() -> None:
    ledger = Ledger("e", asked={"a": Asked(1, 100.0), "b": Asked(2, 100.0)}, arrivals={"a": Arrival(1, 100.02)})

    commands = run_report(tally(), ledger, None, pcs=100, workers=1)["commands"]

    assert (commands["asked"], commands["arrived"]) == (2, 1)
    assert commands["arrival_ms"]["p50"] == pytest.approx(20.0, rel=0.02)


def test_the_tallies_of_workers_add_up() -> None:
    one, other = tally(), tally()
    other.errors["heartbeat 503"] += 2
    other.note(3, "heartbeats")
    marked = Mark(5.0)
    marked.back.record(1.0)
    other.marks.append(marked)

    total = Tally()
    total.add(one)
    total.add(other)

    assert total.answered[Kind.HEARTBEAT] == total.latencies[Kind.HEARTBEAT].count == 200
    assert (total.measured_s, total.cpu_s, total.errors["heartbeat 503"]) == (10.0, 4.0, 2)
    assert total.timeline == {3: {"heartbeats": 1}}
    assert [mark.back.count for mark in total.marks] == [1]
