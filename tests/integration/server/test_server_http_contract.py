"""The HTTP contract, endpoint by endpoint, against the real server in test mode."""

import json
import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from servers import ServerProcess, agent_headers

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
FULL_METRICS: dict[str, Any] = {
    "cpu_percent": 12.5,
    "cpu_count": 8,
    "mem_percent": 40.1,
    "mem_used_mb": 3200.5,
    "mem_total_mb": 8000.0,
    "disk_percent": 71.0,
    "disk_used_gb": 120.0,
    "disk_total_gb": 250.0,
    "net_bytes_sent": 10_000_000_000,
    "net_bytes_recv": 20_000_000_000,
    "platform": "Linux",
    "hostname": "machine",
    "mode": "NORMAL",
    "apply_enabled": True,
    "journal": "j-1",
    "veto_s": 0,
    "processes": [
        {
            "name": "nginx",
            "running": True,
            "pid": 77,
            "status": "sleeping",
            "count": 2,
            "pids": [77, 78],
            "restarts": 1,
            "allow_restart": True,
            "create_time_ms": 1_900_000_000_123,
        }
    ],
    "interfaces": [{"name": "eth0", "bytes_sent": 1, "bytes_recv": 2}],
}


@pytest.fixture(scope="module")
def pc(server: ServerProcess) -> ServerProcess:
    """The server, once one PC has reported everything there is and one error line."""
    heartbeat = {"platform": "linux", "version": "1.0", "metrics": FULL_METRICS}
    assert server.say("/agent/heartbeat", heartbeat).status == 200
    line = {"ts": "2030-01-15T11:59:58Z", "level": "ERROR", "code": "DISK", "msg": "disk failure", "meta": {"n": 1}}
    assert server.say("/agent/logs", {"logs": [line]}).status == 200
    return server


def new_command(server: ServerProcess, command_type: str, payload: dict[str, Any]) -> str:
    answer = server.post("/api/agent-commands", {"agent_id": "pc-001", "type": command_type, "payload": payload})
    assert answer.status == 200, answer.body
    command_id: str = answer.json["id"]
    return command_id


def holds(whole: Any, part: Any) -> bool:
    """Whether everything in `part` is in `whole`, which may know more: adding fields is free."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and holds(whole[name], part[name]) for name in part)
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(holds, whole, part))
    return bool(whole == part)


def listed_command(server: ServerProcess, command_id: str) -> dict[str, Any]:
    commands: list[dict[str, Any]] = server.get("/api/agent-commands?agent_id=pc-001").json["commands"]
    return next(command for command in commands if command["id"] == command_id)


def test_a_heartbeat_is_answered_ok(pc: ServerProcess) -> None:
    answer = pc.say("/agent/heartbeat", {"platform": "linux", "version": "1.0", "metrics": FULL_METRICS})

    assert answer.status == 200
    assert answer.json["status"] == "ok"
    assert answer.headers["content-type"] == "application/json"


def test_an_agent_needs_no_content_type_and_its_unknown_fields_are_ignored(pc: ServerProcess) -> None:
    body = json.dumps({"metrics": {"cpu_percent": 1, "gpu_percent": 7}, "platform": "linux", "extra": [1]}).encode()

    answer = pc.request("POST", "/agent/heartbeat", raw=body, headers={"X-AGENT-ID": "pc-002", "X-API-Key": "otherkey"})

    assert answer.status == 200


def test_log_lines_are_counted_with_the_incidents_they_opened(pc: ServerProcess) -> None:
    lines = [{"level": "ERROR", "code": "CONTRACT", "msg": "one"}, {"level": "WARN", "msg": "two"}]

    answer = pc.say("/agent/logs", {"logs": lines})

    assert answer.json == {"status": "ok", "count": 2, "incidents_created": 1}


def test_numbered_log_lines_are_acknowledged(pc: ServerProcess) -> None:
    batch = {"logs": [{"msg": "a"}, {"msg": "b"}], "stream": "app.log", "epoch": "e1", "first_seq": 1}

    assert pc.say("/agent/logs", batch).json["acked_seq"] == 2
    assert pc.say("/agent/logs", batch).json == {"status": "ok", "count": 2, "incidents_created": 0, "acked_seq": 2}


def test_the_list_of_pcs_has_its_shape(pc: ServerProcess) -> None:
    answer = pc.get("/api/r3/agents").json
    agent = next(agent for agent in answer["agents"] if agent["agent_id"] == "pc-001")

    assert set(answer) == {"agents", "count", "total", "online", "offline", "next_cursor", "now"}
    assert set(agent) == {
        "agent_id",
        "status",
        "last_seen",
        "platform",
        "version",
        "mode",
        "apply_enabled",
        "recent_error_count",
        "last_error",
        "last_error_at",
        "payload_json",
        "org_id",
        "created_at",
        "updated_at",
        "metrics",
    }
    assert agent["status"] == "ONLINE"
    assert holds(agent["metrics"], FULL_METRICS)
    assert holds(json.loads(agent["payload_json"])["metrics"], FULL_METRICS)
    assert (agent["mode"], agent["apply_enabled"], agent["platform"]) == ("NORMAL", True, "linux")
    assert agent["recent_error_count"] >= 1
    assert all(TIME.fullmatch(agent[name]) for name in ("last_seen", "created_at", "updated_at", "last_error_at"))
    assert TIME.fullmatch(answer["now"])


def test_the_list_of_pcs_pages_with_a_cursor(pc: ServerProcess) -> None:
    pc.say("/agent/heartbeat", {"metrics": {}}, agent_id="pc-002")

    first = pc.get("/api/r3/agents?limit=1").json
    second = pc.get(f"/api/r3/agents?limit=1&cursor={first['next_cursor']}").json

    assert [page["agents"][0]["agent_id"] for page in (first, second)] == ["pc-001", "pc-002"]
    assert (first["count"], first["total"]) == (1, 2)


def test_the_samples_have_their_shape(pc: ServerProcess) -> None:
    answer = pc.get("/api/r3/agent/pc-001/metrics?minutes=15").json

    assert set(answer) == {"samples", "count", "now"}
    assert answer["count"] == len(answer["samples"]) >= 1
    assert set(answer["samples"][0]) == {
        "ts",
        "cpu_percent",
        "mem_percent",
        "disk_percent",
        "net_bytes_sent",
        "net_bytes_recv",
    }
    assert answer["samples"][0]["net_bytes_recv"] == FULL_METRICS["net_bytes_recv"]


def test_the_log_lines_have_their_shape_and_page_newest_first(pc: ServerProcess) -> None:
    pc.say("/agent/logs", {"logs": [{"msg": f"line {n}", "level": "WARN"} for n in range(3)]})

    first = pc.get("/api/r3/agent/pc-001/logs?limit=2").json
    rest = pc.get(f"/api/r3/agent/pc-001/logs?limit=1&cursor={first['next_cursor']}").json

    assert [line["msg"] for line in first["logs"] + rest["logs"]] == ["line 2", "line 1", "line 0"]
    assert set(first) == {"logs", "count", "next_cursor", "now"}
    assert set(first["logs"][0]) == {"id", "agent_id", "ts", "level", "code", "msg", "meta_json", "created_at"}
    assert json.loads(first["logs"][0]["meta_json"]) == {}


def test_a_safe_command_travels_to_the_pc_and_back(pc: ServerProcess) -> None:
    command_id = new_command(pc, "SET_MODE", {"mode": "SAFE"})
    orders = pc.pull().json["commands"]
    order = next(order for order in orders if order["id"] == command_id)
    result = {"success": True, "output": "mode is SAFE", "exit_code": 0, "duration_ms": 4}

    answer = pc.say("/agent/report", {"command_id": command_id, "status": "completed", "result": result})

    assert {"id", "agent_id", "ts", "type", "payload_json", "status"} <= set(order)
    assert (order["agent_id"], order["type"], order["status"]) == ("pc-001", "SET_MODE", "delivered")
    assert isinstance(order["payload_json"], str)
    assert json.loads(order["payload_json"]) == {"mode": "SAFE"}
    assert answer.json == {"status": "ok"}
    command = listed_command(pc, command_id)
    assert (command["status"], command["result"], json.loads(command["result_json"])) == ("completed", result, result)


def test_the_command_list_has_its_shape(pc: ServerProcess) -> None:
    command_id = new_command(pc, "RESTART_PROCESS", {"process": "nginx"})

    answer = pc.get("/api/agent-commands?agent_id=pc-001&limit=500").json
    command = listed_command(pc, command_id)

    assert set(answer) == {"commands", "count", "next_cursor", "now"}
    assert set(command) == {
        "id",
        "agent_id",
        "ts",
        "type",
        "strength",
        "payload",
        "payload_json",
        "status",
        "result_json",
        "result",
        "needs_approval",
        "approved",
        "approval",
        "approvals",
        "approvals_required",
        "four_eyes",
        "is_verified_by_pc",
        "rejected_by",
        "rejection_reason",
        "created_by",
        "reason",
        "expires_at",
        "delivery_count",
        "accepted_at",
        "cancel_requested_at",
        "expect",
        "resolution",
        "delivered_at",
        "started_at",
        "finished_at",
    }
    assert (command["strength"], command["status"], command["created_by"]) == ("strong", "pending", "admin")
    assert (command["needs_approval"], command["approved"], command["approval"]) == (True, False, None)
    assert command["payload"] == {"process": "nginx"}


def test_a_strong_command_is_pulled_only_after_its_approval_and_only_once(pc: ServerProcess) -> None:
    command_id = new_command(pc, "STOP_PROCESS", {"process": "nginx"})
    before = [order["id"] for order in pc.pull().json["commands"]]

    approved = pc.post(f"/api/agent-commands/{command_id}/approve", {})
    orders = [order for order in pc.pull().json["commands"] if order["id"] == command_id]
    again = [order["id"] for order in pc.pull().json["commands"]]

    assert command_id not in before
    assert approved.json == {"approval_id": approved.json["approval_id"], "status": "approved"}
    assert [order["approved"] for order in orders] == [True]
    assert command_id not in again
    approval = listed_command(pc, command_id)["approval"]
    assert set(approval) == {"id", "approved_by", "approved_at", "kind", "key_id", "comment"}
    assert (approval["id"], approval["approved_by"]) == (approved.json["approval_id"], "admin")


def test_the_implicit_admin_may_say_who_approved(pc: ServerProcess) -> None:
    command_id = new_command(pc, "ROLLBACK", {})

    pc.post(f"/api/agent-commands/{command_id}/approve", {"approved_by": "ann"})

    assert listed_command(pc, command_id)["approval"]["approved_by"] == "ann"


def test_an_approval_needs_no_body(pc: ServerProcess) -> None:
    command_id = new_command(pc, "ROLLBACK", {})

    assert pc.request("POST", f"/api/agent-commands/{command_id}/approve").status == 200


def test_refusals_of_approvals_have_their_codes(pc: ServerProcess) -> None:
    safe = new_command(pc, "SET_MODE", {"mode": "SAFE"})
    strong = new_command(pc, "ROLLBACK", {})
    pc.post(f"/api/agent-commands/{strong}/approve", {})

    answers = [pc.post(f"/api/agent-commands/{name}/approve", {}) for name in ("no-such-command", safe, strong)]

    assert [(answer.status, answer.json["error"]) for answer in answers] == [
        (404, "command_not_found"),
        (400, "approval_not_needed"),
        (409, "already_approved"),
    ]


def test_a_report_is_idempotent(pc: ServerProcess) -> None:
    command_id = new_command(pc, "SET_MODE", {"mode": "NORMAL"})
    pc.pull()
    body = {"command_id": command_id, "status": "failed", "result": {"success": False, "error": "first"}}

    answers = [pc.say("/agent/report", {**body, "status": status}) for status in ("failed", "failed", "completed")]

    assert [(answer.status, answer.json) for answer in answers[:2]] == [(200, {"status": "ok"})] * 2
    assert (answers[2].status, answers[2].json["error"]) == (409, "report_conflict")
    assert listed_command(pc, command_id)["status"] == "failed"


def test_another_pcs_report_is_not_found(pc: ServerProcess) -> None:
    command_id = new_command(pc, "SET_MODE", {"mode": "NORMAL"})
    pc.pull()

    answer = pc.say("/agent/report", {"command_id": command_id, "status": "completed"}, agent_id="pc-002")

    assert (answer.status, answer.json["error"]) == (404, "command_not_found")
    assert listed_command(pc, command_id)["status"] == "delivered"


def test_a_running_report_is_shown_before_the_end(pc: ServerProcess) -> None:
    command_id = new_command(pc, "SET_MODE", {"mode": "NORMAL"})
    pc.pull()

    pc.say("/agent/report", {"command_id": command_id, "status": "running"})

    command = listed_command(pc, command_id)
    assert (command["status"], command["finished_at"]) == ("running", None)
    assert TIME.fullmatch(command["started_at"])


def test_incidents_are_listed_and_closed(pc: ServerProcess) -> None:
    pc.say("/agent/logs", {"logs": [{"msg": "boom", "level": "CRITICAL", "code": "CLOSE_ME"}]})
    found = pc.get("/api/incidents?status=open&limit=500").json
    incident = next(incident for incident in found["incidents"] if incident["code"] == "CLOSE_ME")

    answers = [pc.post(f"/api/incidents/{incident['id']}/close", {}) for _ in range(2)]

    assert set(found) == {"incidents", "count", "next_cursor", "now"}
    assert {
        "id",
        "ts_open",
        "ts_close",
        "severity",
        "title",
        "summary",
        "status",
        "agent_id",
        "code",
        "count",
        "last_seen_at",
    } <= set(incident)
    assert (incident["title"], incident["severity"], incident["count"]) == (
        "Agent pc-001: CRITICAL CLOSE_ME",
        "CRITICAL",
        1,
    )
    assert answers[0].json == {"status": "closed"}
    assert (answers[1].status, answers[1].json["error"]) == (409, "already_closed")
    closed = pc.get("/api/incidents?status=closed").json["incidents"]
    assert incident["id"] in [one["id"] for one in closed]


def test_the_audit_log_tells_of_every_step(pc: ServerProcess) -> None:
    command_id = new_command(pc, "RESTART_PROCESS", {"process": "nginx"})
    pc.post(f"/api/agent-commands/{command_id}/approve", {})
    pc.pull()
    pc.say("/agent/report", {"command_id": command_id, "status": "completed", "result": {"success": True}})

    answer = pc.get("/api/audit?limit=500").json
    steps = [event for event in answer["events"] if event["ref_id"] == command_id]

    assert set(answer) == {"events", "count", "next_cursor", "now"}
    assert set(steps[0]) == {"id", "ts", "actor", "event_type", "ref_id", "agent_id", "payload"}
    assert [(step["event_type"], step["actor"]) for step in reversed(steps)] == [
        ("command_created", "user:admin"),
        ("command_approved", "user:admin"),
        ("agent_pull", "agent:pc-001"),
        ("agent_report", "agent:pc-001"),
    ]


def test_the_audit_log_can_be_chosen_from_and_pages(pc: ServerProcess) -> None:
    first = pc.get("/api/audit?event_type=agent_heartbeat&limit=1").json
    rest = pc.get(f"/api/audit?actor=agent:pc-001&limit=1&cursor={first['next_cursor']}").json

    assert [event["event_type"] for event in first["events"]] == ["agent_heartbeat"]
    assert rest["events"][0]["id"] < first["events"][0]["id"]
    assert rest["events"][0]["actor"] == "agent:pc-001"


def test_the_test_modes_switches_are_public(pc: ServerProcess) -> None:
    answer = pc.get("/api/config/test-mode").json

    assert set(answer) == {"test_mode", "require_approval", "version", "locked"}
    assert (answer["test_mode"], answer["require_approval"], answer["locked"]) == (True, True, False)


def test_the_session_says_how_the_caller_came_in(pc: ServerProcess) -> None:
    assert pc.get("/api/session").json == {"name": "admin", "role": "admin", "how": "test-mode"}


def test_the_root_leads_to_the_page_and_the_page_to_its_files(pc: ServerProcess) -> None:
    root, page = pc.get("/"), pc.get("/r3")
    named = re.findall(rb'(?:src|href)="(/[^"#]+)"', page.body)

    assert (root.status, root.headers["location"]) == (307, "/r3")
    assert page.headers["content-type"].startswith("text/html")
    assert named
    assert {path: pc.get(path.decode()).status for path in named} == dict.fromkeys(named, 200)


def test_the_favicon_leads_to_a_file_that_exists(pc: ServerProcess) -> None:
    answer = pc.get("/favicon.ico")

    assert pc.get(answer.headers["location"]).status == 200


def test_the_service_worker_may_serve_the_whole_site(pc: ServerProcess) -> None:
    answer = pc.get("/sw.js")

    assert (answer.status, answer.headers["service-worker-allowed"]) == (200, "/")
    assert answer.headers["content-type"].startswith("text/javascript")


def test_a_static_file_is_sent_once_and_then_confirmed(pc: ServerProcess) -> None:
    first = pc.get("/static/agent-ui.js")
    again = pc.get("/static/agent-ui.js", **{"If-None-Match": first.headers["etag"]})

    assert (first.status, first.headers["cache-control"]) == (200, "no-cache")
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fsettings.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/",
        "/static/ui",
        "/static/ui/..%5c..%5capp.py",
    ],
)
def test_no_static_path_leaves_the_folder(pc: ServerProcess, path: str) -> None:
    answer = pc.get(path)

    assert answer.status in (400, 404)
    assert set(answer.json) == {"error", "message"}


@pytest.mark.parametrize("path", ["/r3", "/api/config/test-mode", "/health", "/static/agent-ui.js", "/no/such/page"])
def test_every_answer_to_a_browser_carries_the_strict_policy(pc: ServerProcess, path: str) -> None:
    headers = pc.get(path).headers

    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "manifest-src 'self'; worker-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types reco3"
    )
    assert headers["x-content-type-options"] == "nosniff"


def test_answers_are_kept_by_no_cache(pc: ServerProcess) -> None:
    for path in ("/api/r3/agents", "/api/audit", "/health"):
        assert pc.get(path).headers["cache-control"] == "no-store"


def test_the_api_describes_itself_agents_routes_included(pc: ServerProcess) -> None:
    paths = pc.get("/api/openapi.json").json["paths"]

    assert {"/agent/heartbeat", "/agent/logs", "/agent/pull", "/agent/report"} <= set(paths)
    assert {"/api/r3/agents", "/api/agent-commands/{command_id}/approve", "/api/audit"} <= set(paths)


def test_the_list_shows_exactly_the_pcs_of_the_database(pc: ServerProcess) -> None:
    with closing(sqlite3.connect(pc.db_path)) as connection:
        found = connection.execute("SELECT COUNT(*) FROM agent_status").fetchone()

    assert found == (len(pc.get("/api/r3/agents").json["agents"]),)


def test_an_older_agents_nulls_are_taken(pc: ServerProcess) -> None:
    missing = {"name": "nginx", "running": False, "pid": None, "status": None}

    beat = pc.say("/agent/heartbeat", {"platform": None, "version": None, "metrics": {"processes": [missing]}})
    lines = pc.say("/agent/logs", {"logs": [{"ts": None, "level": None, "code": None, "msg": "boom", "meta": None}]})

    assert (beat.status, lines.status) == (200, 200)


def test_a_head_request_takes_no_command_away(pc: ServerProcess) -> None:
    command_id = new_command(pc, "SET_MODE", {"mode": "NORMAL"})

    answer = pc.request("HEAD", "/agent/pull", headers=agent_headers())

    assert answer.status == 405
    assert listed_command(pc, command_id)["status"] == "pending"
