import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reco3.agent.budget import Begun, is_within, tripped_breaker, untouchable
from reco3.agent.clocks import Clock, as_text, parse_time, read_clock
from reco3.agent.config import LimitsConfig, QuietHours

TABLE = json.loads((Path(__file__).parents[2] / "data" / "agent_budget.json").read_text(encoding="utf-8"))
NOW = datetime(2030, 1, 15, 12, 0, tzinfo=UTC)


def minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def hours(text: str) -> QuietHours:
    begins, ends = text.split("-")
    return QuietHours(minute(begins), minute(ends))


@pytest.fixture
def central_europe() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize("case", TABLE["quiet_hours"], ids=lambda case: case["name"])
def test_quiet_hours_are_read_off_the_clock_on_the_wall(case: dict[str, Any]) -> None:
    assert is_within(hours(case["hours"]), minute(case["at"])) is case["is_quiet"]


@pytest.mark.parametrize("case", TABLE["daylight_saving"], ids=lambda case: case["name"])
def test_quiet_hours_follow_the_wall_clock_when_it_is_changed(central_europe: None, case: dict[str, Any]) -> None:  # noqa: ARG001 - sets the zone
    moment = parse_time(case["utc"])
    assert moment is not None

    clock = read_clock(moment, None)

    assert clock.local_minute == minute(case["local"])
    assert is_within(hours("02:00-03:00"), clock.local_minute) is case["is_quiet"]


@pytest.mark.parametrize("case", TABLE["breakers"], ids=lambda case: case["name"])
def test_a_budget_lets_through_what_it_has_room_for(case: dict[str, Any]) -> None:
    limits = LimitsConfig(strong_per_hour=case.get("strong_per_hour", 3), cooldown_s=5)
    begun = [
        Begun(target, *(NOW + timedelta(seconds=seconds) for seconds in times)) for target, *times in case["begun"]
    ]

    refusal = tripped_breaker(limits, "web", begun=begun, clock=Clock(NOW, NOW, 720), config_path="/c.yaml")

    assert (refusal.code if refusal else None) == case["expect"]
    assert refusal is None or ("control.limits." in refusal.reason and "/c.yaml" in refusal.reason)


def test_within_quiet_hours_no_strong_command_begins() -> None:
    limits = LimitsConfig(quiet_hours=(hours("22:00-06:00"), hours("11:00-13:00")))

    refusal = tripped_breaker(limits, "web", begun=(), clock=Clock(NOW, NOW, minute("12:30")), config_path="/c.yaml")

    assert refusal is not None
    assert refusal.code == "quiet_hours"
    assert "12:30" in refusal.reason
    assert "11:00-13:00" in refusal.reason


@pytest.mark.parametrize("case", TABLE["untouchable"], ids=lambda case: case["name"])
def test_what_is_never_to_be_touched_is_recognised(case: dict[str, Any]) -> None:
    limits = LimitsConfig() if "never_touch" not in case else LimitsConfig(never_touch=tuple(case["never_touch"]))

    refusal = untouchable(limits, case["names"], config_path="/c.yaml", is_agent=case.get("is_agent", False))

    assert (refusal.code if refusal else None) == case["expect"]


@pytest.mark.parametrize(
    ("seconds_back", "is_regressed"), [(-5, False), (0, False), (120, False), (121, True), (90_000, True)]
)
def test_a_clock_set_back_more_than_two_minutes_is_not_believed(seconds_back: int, is_regressed: bool) -> None:
    clock = read_clock(NOW - timedelta(seconds=seconds_back), NOW)

    assert clock.is_regressed is is_regressed
    assert clock.latest >= NOW


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-01-15T12:00:00Z", NOW),
        ("2030-01-15T12:00:00.000Z", NOW),
        ("2030-01-15T13:00:00+01:00", NOW),
        ("2030-01-15T12:00:00", None),
        ("2030-01-15", None),
        ("noon", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("1969-12-31T23:59:59Z", None),
        ("2030-01-15T12:00:00Z" + " " * 40, None),
        (1_900_000_000, None),
        (None, None),
    ],
)
def test_a_time_is_read_only_with_its_zone(text: object, expected: datetime | None) -> None:
    assert parse_time(text) == expected


def test_times_as_texts_sort_as_times_do() -> None:
    moments = [NOW + timedelta(milliseconds=n) for n in (0, 1, 10, 100, 1000, 60_000)]

    texts = [as_text(moment) for moment in moments]

    assert texts == sorted(texts)
    assert len({len(text) for text in texts}) == 1
