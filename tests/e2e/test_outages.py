"""What happens when one side is gone for a while, with real processes and real seconds."""

import time

import pytest
from world import AGENT_ID, World, wait_until

pytestmark = pytest.mark.slow


def test_a_killed_agent_is_offline_after_twenty_to_thirty_seconds_and_back_within_ten(world: World) -> None:
    killed_at = time.monotonic()
    world.kill("agent")
    wait_until(lambda: not world.is_online(), timeout_s=30, what="the PC is OFFLINE")
    offline_after_s = time.monotonic() - killed_at
    wait_until(lambda: "agent_offline" in world.audit_of(AGENT_ID), timeout_s=2, what="the audit row is written")

    world.start_agent()
    started_at = time.monotonic()
    world.wait_online(timeout_s=10)
    online_after_s = time.monotonic() - started_at

    print(f"OFFLINE {offline_after_s:.1f} s after the kill, ONLINE {online_after_s:.1f} s after the start")
    assert 20 <= offline_after_s <= 30
    assert world.audit_of(AGENT_ID).count("agent_online") == 2


def test_a_minute_without_the_server_ends_in_safe_mode_and_loses_no_line(world: World) -> None:
    world.stop("server")
    stopped_at = time.monotonic()
    for number in range(40):
        with world.log_path.open("a", encoding="utf-8") as log:
            log.write(f"ERROR code=OUTAGE_{number % 4} line {number} of the outage\n")
        next_at = stopped_at + 1.5 * (number + 1)
        wait_until(lambda due=next_at: time.monotonic() >= due, timeout_s=5, what="the next line is due")
    assert time.monotonic() - stopped_at >= 60
    assert "after=SAFE" in world.output_of("agent")

    world.start_server()
    world.wait_online(timeout_s=15)
    wait_until(lambda: len(_outage_lines(world)) == 40, timeout_s=30, what="every line of the outage has arrived")
    wait_until(lambda: world.mode() == "NORMAL", timeout_s=60, what="three good contacts lead out of SAFE")

    assert _outage_lines(world) == [f"line {number} of the outage" for number in range(40)]
    assert "agent_mode_changed" in world.audit_of(AGENT_ID)


def test_safe_mode_chosen_by_an_operator_survives_an_outage_and_a_restart(world: World) -> None:
    world.wait_ended(world.request("SET_MODE", {"mode": "SAFE"}))

    world.stop("agent")
    world.start_agent()
    wait_until(lambda: "agent_stopped" in world.output_of("agent"), timeout_s=5, what="the first agent has ended")
    restart_id = world.request("RESTART_PROCESS", {"process": world.service_name})
    world.approve(restart_id)
    ended = world.wait_ended(restart_id)

    assert (ended["status"], ended["result"]["code"]) == ("failed", "mode_safe")


def test_a_stopped_agent_sends_the_last_lines_it_saw(world: World) -> None:
    with world.log_path.open("a", encoding="utf-8") as log:
        log.write("ERROR code=LAST the last line before the stop\n")

    world.stop("agent")

    assert world.sql("SELECT code FROM agent_logs") == [("LAST",)]


def _outage_lines(world: World) -> list[str]:
    rows = world.sql("SELECT msg FROM agent_logs WHERE code LIKE 'OUTAGE_%' ORDER BY id")
    return [msg[msg.index("line ") :] for (msg,) in rows]
