"""Agents: ONLINE and OFFLINE, what a heartbeat changes, and how often it is audited."""

from datetime import timedelta

import pytest

from builders import PC, agent, taken_heartbeat
from fakes import START
from reco3.server.domain.agents import OFFLINE_AFTER_S, AgentStatus, go_offline, status_at, take_heartbeat
from reco3.server.domain.audit import HeartbeatAudit, Stream, writes_every_heartbeat

MILLISECOND = timedelta(milliseconds=1)


def event_types(previous: object, taken: object, *, every_audited: bool = False) -> list[str]:
    change = take_heartbeat(previous, taken, every_audited=every_audited)  # type: ignore[arg-type]
    return [event.event_type for event in change.events]


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
    change = take_heartbeat(None, taken_heartbeat(), every_audited=True)

    assert change.agent.agent_id == PC
    assert change.agent.is_online
    assert change.agent.created_at == START
    assert [event.event_type for event in change.events] == ["agent_online", "agent_heartbeat"]
    assert change.events[0].payload == {"first_contact": True}


def test_a_pc_that_was_announced_offline_is_announced_online_again() -> None:
    offline = agent(is_online=False)

    change = take_heartbeat(offline, taken_heartbeat(at=START + timedelta(hours=1)), every_audited=False)

    assert [event.event_type for event in change.events] == ["agent_online", "agent_heartbeat"]
    assert change.events[0].payload == {"first_contact": False}
    assert change.agent.created_at == offline.created_at


def test_a_heartbeat_like_the_last_one_deserves_no_row_of_its_own_in_a_large_fleet() -> None:
    assert event_types(agent(), taken_heartbeat()) == []


def test_a_heartbeat_like_the_last_one_deserves_one_row_in_a_small_fleet() -> None:
    assert event_types(agent(), taken_heartbeat(), every_audited=True) == ["agent_heartbeat"]


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
    change = take_heartbeat(agent(), taken_heartbeat(**changes), every_audited=False)  # type: ignore[arg-type]

    assert [event.event_type for event in change.events] == [event_type, "agent_heartbeat"]
    assert change.events[0].payload == payload
    assert change.events[0].stream is Stream.SECURITY


def test_a_mode_that_nobody_knows_is_not_believed() -> None:
    change = take_heartbeat(agent(), taken_heartbeat(mode="<script>"), every_audited=False)

    assert change.agent.mode is None


def test_five_minutes_of_heartbeats_become_one_row_that_counts_them() -> None:
    known = take_heartbeat(None, taken_heartbeat(), every_audited=False).agent
    rows = []
    for beat in range(1, 31):
        taken = taken_heartbeat(at=START + timedelta(seconds=10 * beat))
        change = take_heartbeat(known, taken, every_audited=False)
        known = change.agent
        rows.extend(change.events)

    assert [row.payload["count"] for row in rows] == [30]
    assert rows[0].stream is Stream.TELEMETRY
    assert known.rollup_count == 0


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

    change = take_heartbeat(None, taken, every_audited=False)

    assert "\0" not in change.agent.version
    assert len(change.agent.version) <= 64
