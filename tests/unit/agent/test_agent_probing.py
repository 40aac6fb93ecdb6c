import json
from pathlib import Path
from typing import Any

import pytest
from stopwatches import FakeStopwatch

from reco3.agent.lifecycle import Outcome
from reco3.agent.platform.service_states import Condition, ServiceState
from reco3.agent.probing import Finding, judge_limit, judge_restart, judge_stop, settled
from reco3.agent.targets import Seen, Sight

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "probes.json").read_text(encoding="utf-8")
)
OLD, NEW = Seen(10, 100.0, 1_000), Seen(20, 200.0, 2_000)


def make_sight(record: dict[str, Any]) -> Sight:
    service = record.get("service")
    state = ServiceState(Condition(service[0]), "", service[1]) if service else None
    seen = tuple(Seen(pid, float(started), started) for pid, started in record.get("seen", []))
    return Sight("web", seen, "boot", "web.service" if state else "", state)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['command']}: {case['name']}")
def test_two_looks_tell_what_became_of_a_command(case: dict[str, Any]) -> None:
    judge = judge_stop if case["command"] == "stop" else judge_restart

    finding = judge(make_sight(case["before"]), make_sight(case["now"]))

    assert (finding.outcome, finding.code) == (case["expect"], case.get("code", "interrupted"))


def test_a_look_survives_the_journal() -> None:
    sight = Sight("web", (OLD, NEW), "boot", "web.service", ServiceState(Condition.RUNNING, "active", 10, 2))

    assert Sight.from_record(json.loads(json.dumps(sight.record()))) == sight
    assert sight.record()["pid"] == 10
    assert sight.record()["pids"] == [10, 20]


@pytest.mark.parametrize("record", [{}, {"process": "web"}, {"process": "web", "processes": [{"pid": 1}]}])
def test_a_record_of_another_release_is_an_error_and_not_a_guess(record: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Sight.from_record(record)


@pytest.mark.parametrize(
    ("now", "is_loaded", "outcome"),
    [
        ("new", None, Outcome.COMPLETED),
        ("new", True, Outcome.COMPLETED),
        ("new", False, Outcome.UNKNOWN),
        ("old", None, Outcome.FAILED),
        ("old", False, Outcome.UNKNOWN),
        ("another", None, Outcome.UNKNOWN),
        (None, None, Outcome.UNKNOWN),
    ],
)
def test_digests_tell_what_became_of_a_limit(now: str | None, is_loaded: bool | None, outcome: Outcome) -> None:
    assert judge_limit(now, target="new", former="old", is_loaded=is_loaded).outcome is outcome


class Aftermath:
    """What a killed agent left behind: a child that takes effect after a while, and then ends."""

    def __init__(self, *, effect_at_s: float, ends_at_s: float) -> None:
        self.watch = FakeStopwatch()
        self.seen: tuple[Seen, ...] = (OLD,)
        self.children = [77]
        self.watch.at(effect_at_s, lambda: setattr(self, "seen", (NEW,)))
        self.watch.at(ends_at_s, self.children.clear)

    def settle(self, settle_s: float) -> Finding:
        before = Sight("web", (OLD,), "boot")
        finding, _, _ = settled(
            lambda now: judge_restart(before, now),
            look=lambda: Sight("web", self.seen, "boot"),
            leftovers=lambda: [*self.children, *(one.pid for one in self.seen)],
            watch=self.watch.stopwatch,
            settle_s=settle_s,
        )
        return finding


def test_what_the_dead_agent_had_started_is_waited_for() -> None:
    aftermath = Aftermath(effect_at_s=3, ends_at_s=4)

    finding = aftermath.settle(60)

    assert finding.outcome is Outcome.COMPLETED
    assert aftermath.watch.now_s < 4


def test_nothing_happened_is_only_said_when_nothing_can_happen_any_more() -> None:
    aftermath = Aftermath(effect_at_s=1_000, ends_at_s=5)

    finding = aftermath.settle(60)

    assert finding.outcome is Outcome.FAILED
    assert aftermath.watch.now_s >= 5


def test_what_still_runs_at_the_end_of_the_time_makes_it_unknown() -> None:
    finding = Aftermath(effect_at_s=1_000, ends_at_s=1_000).settle(10)

    assert finding.outcome is Outcome.UNKNOWN


def test_the_restarted_service_itself_is_not_waited_for() -> None:
    aftermath = Aftermath(effect_at_s=0.1, ends_at_s=0.1)

    aftermath.settle(60)

    assert aftermath.watch.now_s < 1
