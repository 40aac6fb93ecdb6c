"""Agents: ONLINE and OFFLINE, what a heartbeat changes, and how often it is audited."""

from datetime import timedelta
from typing import Any

import pytest

from builders import PC, agent, taken_heartbeat
from fakes import START
from reco3.server.domain.agents import OFFLINE_AFTER_S, AgentStatus, Pulse, go_offline, status_at, take_heartbeat
from reco3.server.domain.audit import AuditEvent, HeartbeatAudit, Stream, writes_every_heartbeat
from reco3.server.domain.history import MAX_OPEN_CHARS, points_due_at
from reco3.server.domain.points import read_points

MILLISECOND = timedelta(milliseconds=1)


def event_types(previous: object, taken: object, *, every_audited: bool = False) -> list[str]:
    _, _, events = take_heartbeat(previous, taken, every_audited=every_audited)  # type: ignore[arg-type]
    return [event.event_type for event in events]


def pulse(**changes: Any) -> Pulse:
    """What a heartbeat of a PC that is online in NORMAL mode left."""
    defaults = Pulse(
        version="1.0", mode="NORMAL", apply_enabled=False, is_online=True, rollup_count=0, rollup_from=START
    )
    return defaults._replace(**changes)


def test_a_pc_is_online_until_the_last_millisecond_before_the_limit() -> None:
    limit = START + timedelta(seconds=OFFLINE_AFTER_S)

    assert status_at(START, limit - MILLISECOND) is AgentStatus.ONLINE
    assert status_at(START, limit) is AgentStatus.OFFLINE


def test_a_pc_is_shown_offline_within_thirty_seconds_and_not_before_twenty() -> None:
    assert status_at(START, START + timedelta(seconds=20)) is AgentStatus.ONLINE
    assert status_at(START, START + timedelta(seconds=30)) is AgentStatus.OFFLINE


def test_a_clock_that_went_back_leaves_the_pc_online() -> None:
    assert status_at(START, START - timedelta(hours=1)) is AgentStatus.ONLINE


def test_the_first_heartbeat_makes_the_pc_known_and_online() -> None:
    after, point, events = take_heartbeat(None, taken_heartbeat(), every_audited=True)

    assert after.is_online
    assert after.open_chars == len(point) > 0
    assert [(event.event_type, event.agent_id) for event in events] == [("agent_online", PC), ("agent_heartbeat", PC)]
    assert events[0].payload == {"first_contact": True}


def test_a_pc_that_was_announced_offline_is_announced_online_again() -> None:
    offline = pulse(is_online=False)

    _, _, events = take_heartbeat(offline, taken_heartbeat(at=START + timedelta(hours=1)), every_audited=False)

    assert [event.event_type for event in events] == ["agent_online", "agent_heartbeat"]
    assert events[0].payload == {"first_contact": False}


def test_a_heartbeat_like_the_last_one_deserves_no_row_of_its_own_in_a_large_fleet() -> None:
    assert event_types(pulse(), taken_heartbeat()) == []


def test_a_heartbeat_like_the_last_one_deserves_one_row_in_a_small_fleet() -> None:
    assert event_types(pulse(), taken_heartbeat(), every_audited=True) == ["agent_heartbeat"]


@pytest.mark.parametrize(
    ("changes", "event_type", "payload"),
    [
        ({"mode": "SAFE"}, "agent_mode_changed", {"from": "NORMAL", "to": "SAFE"}),
        ({"apply_enabled": True}, "agent_apply_enabled_changed", {"from": False, "to": True}),
        ({"version": "1.1"}, "agent_version_changed", {"from": "1.0", "to": "1.1"}),
    ],
)
def test_a_change_of_state_is_audited_whatever_the_policy(
    changes: dict[str, object], event_type: str, payload: dict[str, object]
) -> None:
    _, _, events = take_heartbeat(pulse(), taken_heartbeat(**changes), every_audited=False)  # type: ignore[arg-type]

    assert [event.event_type for event in events] == [event_type, "agent_heartbeat"]
    assert events[0].payload == payload
    assert events[0].stream is Stream.SECURITY


def test_a_mode_that_nobody_knows_is_not_believed() -> None:
    after, _, _ = take_heartbeat(pulse(), taken_heartbeat(mode="<script>"), every_audited=False)

    assert after.mode is None


def test_the_heartbeats_of_a_window_become_one_row_that_counts_them() -> None:
    known, _, _ = take_heartbeat(None, taken_heartbeat(), every_audited=False)
    rows: list[AuditEvent] = []
    for beat in range(1, 37):
        taken = taken_heartbeat(at=START + timedelta(seconds=10 * beat))
        known, _, events = take_heartbeat(known, taken, every_audited=False)
        rows.extend(events)

    # The window of this PC ends after five minutes, and its turn comes 57 s later.
    assert [(row.payload["count"], row.ts - START) for row in rows] == [(36, timedelta(seconds=360))]
    assert rows[0].stream is Stream.TELEMETRY
    assert known.rollup_count == 0


def test_a_fleet_that_came_at_once_is_not_counted_at_once() -> None:
    due_at = {points_due_at(f"pc-{number:03d}", START) for number in range(100)}

    assert len(due_at) > 50


@pytest.mark.parametrize(
    ("policy", "fleet_size", "expected"),
    [
        (HeartbeatAudit.AUTO, 0, True),
        (HeartbeatAudit.AUTO, 50, True),
        (HeartbeatAudit.AUTO, 51, False),
        (HeartbeatAudit.EVERY, 100_000, True),
        (HeartbeatAudit.ROLLUP, 1, False),
    ],
)
def test_the_policy_decides_by_the_size_of_the_fleet(policy: HeartbeatAudit, fleet_size: int, expected: bool) -> None:
    assert writes_every_heartbeat(policy, fleet_size=fleet_size) is expected


def test_going_offline_is_said_by_the_system_and_keeps_when_the_pc_was_last_heard_of() -> None:
    known = agent(rollup_count=4)
    now = START + timedelta(seconds=31)

    change = go_offline(known, now)

    assert not change.agent.is_online
    assert change.agent.last_seen == known.last_seen
    assert [(event.event_type, event.actor) for event in change.events] == [("agent_offline", "system:offline-sweep")]
    assert change.events[0].payload["heartbeats_since_last_row"] == 4


def test_long_names_are_cut_and_nul_is_dropped() -> None:
    taken = taken_heartbeat(version="v\0" + "1" * 500)

    after, _, _ = take_heartbeat(None, taken, every_audited=False)

    assert "\0" not in after.version
    assert len(after.version) <= 64
    assert after.version == taken.version


def test_an_agent_that_was_started_anew_marks_its_point() -> None:
    known = pulse(agent_started_ms=1_000)

    _, same, _ = take_heartbeat(known, taken_heartbeat(agent_started_ms=1_000), every_audited=False)
    after, anew, _ = take_heartbeat(known, taken_heartbeat(agent_started_ms=2_000), every_audited=False)

    assert [row[1] for row in read_points(same + anew).rows()] == [0, 1]
    assert after.agent_started_ms == 2_000


def test_an_older_agent_that_does_not_say_when_it_started_is_never_seen_restarting() -> None:
    after, point, _ = take_heartbeat(pulse(agent_started_ms=1_000), taken_heartbeat(), every_audited=False)

    assert read_points(point).restarts == (0,)
    assert after.agent_started_ms == 1_000


def test_a_pc_that_reports_too_often_adds_no_more_points() -> None:
    full = pulse(open_chars=MAX_OPEN_CHARS)

    after, point, _ = take_heartbeat(full, taken_heartbeat(), every_audited=False)

    assert point == ""
    assert after.open_chars == MAX_OPEN_CHARS
