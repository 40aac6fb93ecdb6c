"""The scenarios of TEST_SCENARIOS.md, run with real processes."""

import json
import subprocess
import time

import psutil
from world import AGENT_ID, World, wait_until


def test_normal_operation_shows_this_machine_online_with_real_metrics(world: World) -> None:
    agent = world.agent()

    assert agent is not None
    metrics = agent["metrics"]
    assert metrics["cpu_count"] == psutil.cpu_count()
    assert abs(metrics["mem_total_mb"] - psutil.virtual_memory().total / 2**20) < 1
    assert abs(metrics["disk_total_gb"] - psutil.disk_usage("/").total / 2**30) < 0.1
    assert metrics["processes"][0]["name"] == world.service_name
    assert metrics["processes"][0]["pids"] == [world.service_pid()]
    assert world.sql("SELECT agent_id FROM agent_status") == [(AGENT_ID,)]
    assert world.audit_of(AGENT_ID)[:3] == ["agent_key_set", "agent_online", "agent_heartbeat"]


def test_heartbeats_arrive_every_ten_seconds(world: World) -> None:
    def samples() -> list[str]:
        return [sample["ts"] for sample in world.get(f"/api/r3/agent/{AGENT_ID}/metrics")["samples"]]

    wait_until(lambda: len(samples()) >= 3, timeout_s=21.5, what="three heartbeats within twenty seconds")

    assert len(samples()) <= 4


def test_an_error_line_becomes_one_counted_incident(world: World) -> None:
    world.fail_service()
    first = wait_until(
        lambda: world.get("/api/incidents?status=open")["incidents"], timeout_s=16.5, what="an incident is open"
    )
    world.fail_service()

    def counted_twice() -> bool:
        return bool(world.get("/api/incidents?status=open")["incidents"][0]["count"] == 2)

    wait_until(counted_twice, timeout_s=16.5, what="the incident counts the second line")

    assert [incident["code"] for incident in first] == ["DEMO_FAILURE"]
    assert len(world.get("/api/incidents?status=all")["incidents"]) == 1
    assert world.sql("SELECT count(*) FROM agent_logs WHERE level = 'ERROR'") == [(2,)]
    assert world.sql("SELECT count(*) FROM incidents WHERE title LIKE '%Agent%'") == [(1,)]
    agent = world.agent()
    assert agent is not None
    assert agent["recent_error_count"] == 2


def test_a_notice_reaches_the_incidents_and_the_agents_log(world: World) -> None:
    command_id = world.request("NOTIFY_OPS", {"severity": "WARN", "message": "disk swap at noon"})

    ended = world.wait_ended(command_id)

    assert ended["status"] == "completed"
    incident = world.get("/api/incidents?status=open")["incidents"][0]
    assert (incident["severity"], incident["summary"]) == ("WARN", "disk swap at noon")
    assert "disk swap at noon" in world.output_of("agent")


def test_a_rate_limit_reaches_the_application(world: World) -> None:
    command_id = world.request("SET_RATE_LIMIT", {"endpoint": "/api", "limit_rps": 50})

    ended = world.wait_ended(command_id)

    assert ended["status"] == "completed"
    assert json.loads(world.rate_limit_path.read_text())["limits"]["/api"]["limit_rps"] == 50
    wait_until(lambda: "50" in _last_limit_line(world), timeout_s=10, what="the service says that it obeys")
    assert world.audit_of(command_id) == ["command_created", "agent_pull", "agent_report"]


def test_an_approved_rollback_removes_the_limit_again(world: World) -> None:
    world.wait_ended(world.request("SET_RATE_LIMIT", {"endpoint": "/api", "limit_rps": 50}))

    rollback_id = world.request("ROLLBACK", {})
    world.approve(rollback_id)
    ended = world.wait_ended(rollback_id)

    assert ended["status"] == "completed"
    limits = json.loads(world.rate_limit_path.read_text())["limits"] if world.rate_limit_path.exists() else {}
    assert limits == {}


def test_a_rollback_with_nothing_to_undo_says_so(world: World) -> None:
    rollback_id = world.request("ROLLBACK", {})
    world.approve(rollback_id)

    ended = world.wait_ended(rollback_id)

    assert (ended["status"], ended["result"]["code"]) == ("failed", "nothing_to_undo")


def test_an_unapproved_rollback_never_runs(world: World) -> None:
    world.wait_ended(world.request("SET_MODE", {"mode": "SAFE"}))
    world.wait_ended(world.request("SET_MODE", {"mode": "NORMAL"}))
    rollback_id = world.request("ROLLBACK", {})

    # Two whole poll periods pass, and a safe command overtakes it.
    still_at = time.monotonic() + 20
    wait_until(lambda: time.monotonic() > still_at, timeout_s=25, what="twenty seconds pass")
    world.wait_ended(world.request("NOTIFY_OPS", {"severity": "INFO", "message": "still here"}))

    assert world.command(rollback_id)["status"] == "pending"
    assert world.mode() == "NORMAL"
    assert world.audit_of(rollback_id) == ["command_created"]
    assert rollback_id not in world.output_of("agent")


def test_an_approved_stop_really_stops_the_service(world: World) -> None:
    pid = world.service_pid()
    command_id = world.request("STOP_PROCESS", {"process": world.service_name})
    world.approve(command_id)

    ended = world.wait_ended(command_id)

    assert ended["status"] == "completed"
    wait_until(lambda: not _runs(pid), timeout_s=2, what="the service is gone")


def test_a_strong_command_with_apply_disabled_fails_and_says_why(locked_world: World) -> None:
    pid = locked_world.service_pid()
    command_id = locked_world.request("RESTART_PROCESS", {"process": locked_world.service_name})
    locked_world.approve(command_id)

    ended = locked_world.wait_ended(command_id)

    assert (ended["status"], ended["result"]["code"]) == ("failed", "apply_disabled")
    assert "control.apply_enabled" in ended["result"]["error"]
    assert locked_world.service_pid() == pid


def test_a_rate_limit_with_apply_disabled_fails_too(locked_world: World) -> None:
    command_id = locked_world.request("SET_RATE_LIMIT", {"endpoint": "/api", "limit_rps": 50})

    ended = locked_world.wait_ended(command_id)

    assert (ended["status"], ended["result"]["code"]) == ("failed", "apply_disabled")
    assert not locked_world.rate_limit_path.exists()


def test_the_quick_verification_of_the_seed_prints_real_rows(world: World) -> None:
    world.fail_service()
    restart_id = world.request("RESTART_PROCESS", {"process": world.service_name})
    world.approve(restart_id)
    world.wait_ended(restart_id)
    wait_until(lambda: world.sql("SELECT id FROM agent_logs"), timeout_s=16.5, what="a log line is stored")

    for query in (
        "SELECT agent_id, last_seen FROM agent_status",
        "SELECT id, type, status FROM agent_commands ORDER BY ts DESC LIMIT 10",
        "SELECT * FROM approvals",
        "SELECT ts, actor, event_type FROM audit_log WHERE event_type LIKE 'agent%' ORDER BY ts DESC LIMIT 20",
        "SELECT ts, level, msg FROM agent_logs ORDER BY ts DESC LIMIT 20",
    ):
        done = subprocess.run(
            ["sqlite3", "instance/reco3.db", query], cwd=world.folder, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip(), query


def _last_limit_line(world: World) -> str:
    lines = [line for line in world.log_path.read_text().splitlines() if "limit" in line]
    return lines[-1] if lines else ""


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
