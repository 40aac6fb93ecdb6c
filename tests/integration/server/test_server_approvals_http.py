"""Approvals over HTTP: every endpoint of them, on the real server, with people of every role."""

import base64
import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from approvers import Approver, key_file
from reco3.protocol.envelope import decode_base64url, encode_base64url, read_signed_envelope, signature_shape
from reco3.server.domain.break_glass import BREAK_GLASS_CODE
from reco3.signing.pins import key_text
from reco3.signing.verifying import Verified, challenge_of, verify_signature
from servers import Answer, ServerProcess

KEY = "the-operators-key"
SERVER_ENVIRONMENT = {"API_KEY": KEY}
ADMIN = {"X-API-Key": KEY}
PEOPLE = {"vic": "viewer", "rita": "operator", "ann": "approver", "bob": "approver", "cy": "approver", "una": "auditor"}
KEYS = {name: key_file(name) for name in ("ann", "bob", "cy")}
PC, UNPINNED = "pc-001", "pc-002"


def who(name: str) -> dict[str, str]:
    """The headers of one of these people."""
    return ADMIN if name == "admin" else {"X-API-Key": f"key-of-{name}"}


@pytest.fixture(scope="module", autouse=True)
def people(server: ServerProcess) -> None:
    """People with roles and keys, a PC that wants two of three signatures, and one that pins nobody."""
    now = "2030-01-15T12:00:00.000Z"
    with sqlite3.connect(server.db_path, timeout=30) as database:
        for name, role in PEOPLE.items():
            hashed = hashlib.sha256(f"key-of-{name}".encode()).hexdigest()
            database.execute(
                "INSERT INTO operators (name, role, api_key_hash, created_at) VALUES (?, ?, ?, ?)",
                (name, role, hashed, now),
            )
        for name, approver in KEYS.items():
            row = (key_id_of(approver), name, key_text(approver.public_key), now)
            database.execute(
                "INSERT INTO operator_keys (key_id, owner, kind, public_key, label, created_at)"
                " VALUES (?, ?, 'ed25519', ?, 'laptop', ?)",
                row,
            )
    beat(server, PC, approvers_pinned=3, approvals_required=2, trust_version="0123456789abcdef")
    beat(server, UNPINNED)


def key_id_of(approver: Approver) -> str:
    return hashlib.sha256(approver.public_key).hexdigest()[:32]


def beat(server: ServerProcess, agent_id: str, **said: Any) -> None:
    nginx = {"name": "nginx", "running": True, "pid": 77, "create_time_ms": 1_900_000_000_123}
    metrics = {"mode": "NORMAL", "journal": "j1", "processes": [nginx], **said}
    assert server.say("/agent/heartbeat", {"metrics": metrics}, agent_id=agent_id).status == 200


def asked(server: ServerProcess, name: str = "rita", agent_id: str = PC, **more: Any) -> str:
    wish = {"agent_id": agent_id, "type": "RESTART_PROCESS", "payload": {"process": "nginx"}, **more}
    answer = server.post("/api/agent-commands", wish, **who(name))
    assert answer.status == 200, answer
    command_id: str = answer.json["id"]
    return command_id


def envelope(server: ServerProcess, command_id: str, name: str = "ann") -> dict[str, Any]:
    answer = server.get(f"/api/agent-commands/{command_id}/envelope", **who(name))
    assert answer.status == 200, answer
    offered: dict[str, Any] = answer.json
    return offered


def signed(server: ServerProcess, command_id: str, name: str) -> dict[str, Any]:
    body = decode_base64url(envelope(server, command_id, name)["body"])
    return {"signature": signature_shape(KEYS[name].sign(body)), "body_sha256": hashlib.sha256(body).hexdigest()}


def approve(server: ServerProcess, command_id: str, name: str, body: Any = None) -> Answer:
    return server.post(f"/api/agent-commands/{command_id}/approve", body, **who(name))


def detail(server: ServerProcess, command_id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"/api/agent-commands/{command_id}", **who("vic")).json
    return found


def pulled(server: ServerProcess, command_id: str, agent_id: str = PC) -> dict[str, Any] | None:
    orders = server.pull("?journal=j1", agent_id=agent_id).json["commands"]
    return next((order for order in orders if order["id"] == command_id), None)


def test_the_bytes_are_offered_with_what_they_say_and_what_the_pc_wants(server: ServerProcess) -> None:
    command_id = asked(server, reason="it hangs")

    offered = envelope(server, command_id)

    body = decode_base64url(offered["body"])
    encoded = b"DSSEv1 %d %b %d %b" % (
        len(offered["payload_type"]),
        offered["payload_type"].encode(),
        len(body),
        body,
    )
    assert offered["challenge"] == encode_base64url(hashlib.sha256(encoded).digest())
    assert offered["challenge"] == encode_base64url(challenge_of(encoded))
    fields = offered["fields"]
    assert (fields["command_id"], fields["agent_id"], fields["reason"]) == (command_id, PC, "it hangs")
    assert fields["expect"] == {"pid": 77, "create_time_ms": 1_900_000_000_123}
    assert fields["fleet_id"] == server.get("/api/fleet", **who("vic")).json["fleet_id"]
    assert (fields["v"], fields["policy"], fields["agent_epoch"]) == (1, "approval", "j1")
    assert offered["pc"] == {"approvers_pinned": 3, "approvals_required": 2, "trust_version": "0123456789abcdef"}
    assert (offered["approvals_required"], offered["four_eyes"], offered["signatures"]) == (2, True, [])


def test_two_of_three_people_approve_and_the_pc_gets_the_very_bytes(server: ServerProcess) -> None:
    command_id = asked(server)
    body = decode_base64url(envelope(server, command_id)["body"])

    first = approve(server, command_id, "ann", {**signed(server, command_id, "ann"), "comment": "looked at it"})
    assert (first.status, first.json) == (
        200,
        {"approval_id": first.json["approval_id"], "status": "pending", "approvals": 1, "required": 2},
    )
    assert pulled(server, command_id) is None
    assert approve(server, command_id, "ann", signed(server, command_id, "ann")).json["error"] == "already_approved"
    shown = detail(server, command_id)
    assert (shown["approved"], shown["approvals_required"], shown["is_verified_by_pc"]) == (False, 2, True)
    assert shown["approvals"] == [
        {**shown["approval"], "approved_by": "ann", "kind": "ed25519", "comment": "looked at it"}
    ]
    second = approve(server, command_id, "bob", signed(server, command_id, "bob"))
    assert second.json == {"approval_id": second.json["approval_id"], "status": "approved"}

    order = pulled(server, command_id)
    assert order is not None
    sent = read_signed_envelope(order["envelope"])
    with sqlite3.connect(server.db_path, timeout=30) as database:
        query = "SELECT body FROM command_envelopes WHERE command_id = ?"
        assert sent.body == body == database.execute(query, (command_id,)).fetchone()[0]
    message = b"DSSEv1 %d %b %d %b" % (len(sent.payload_type), sent.payload_type.encode(), len(body), body)
    owners = {
        approver.owner
        for approver in KEYS.values()
        for signature in sent.signatures
        if isinstance(verify_signature(approver.pin, signature, message), Verified)
    }
    assert owners == {"ann", "bob"}
    assert [one["owner"] for one in envelope(server, command_id)["signatures"]] == ["ann", "bob"]


def test_who_asked_cannot_be_one_of_the_two(server: ServerProcess) -> None:
    command_id = asked(server, "ann")

    answer = approve(server, command_id, "ann", signed(server, command_id, "ann"))

    assert (answer.status, answer.json["error"]) == (403, "self_approval")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"signature": None}, 409, "signature_needed"),
        ({"body_sha256": "0" * 64}, 409, "changed_since_shown"),
        ({"body_sha256": "zz"}, 400, "bad_request"),
        ({"expect": {"pid": 1, "create_time_ms": 1}}, 409, "changed_since_shown"),
        ({"comment": " "}, 400, "bad_request"),
        ({"comment": "a\0b"}, 400, "bad_request"),
        ({"signature": {}}, 400, "bad_signature"),
        ({"signature": "x"}, 400, "bad_request"),
        ({"signature": {"kind": "ed25519", "key_id": "x", "sig": "!"}}, 400, "bad_signature"),
        ({"signature": {"kind": "ed25519", "key_id": "0" * 32, "sig": "AAAA"}}, 400, "unknown_key"),
        ({"signature": {"kind": "webcrypto", "key_id": key_id_of(KEYS["ann"]), "sig": "AAAA"}}, 400, "unknown_key"),
        ({"signature": {"kind": "ed25519", "key_id": key_id_of(KEYS["ann"]), "sig": "AAAA"}}, 400, "bad_signature"),
    ],
)
def test_a_yes_that_is_not_right_is_refused_and_leaves_nothing(
    server: ServerProcess, changes: dict[str, Any], status: int, code: str
) -> None:
    command_id = asked(server)
    right = signed(server, command_id, "ann")

    answer = approve(server, command_id, "ann", {**right, **changes})

    assert (answer.status, answer.json["error"]) == (status, code)
    assert detail(server, command_id)["approvals"] == []
    assert approve(server, command_id, "ann", right).json["status"] == "pending"


def test_a_yes_with_nothing_in_it_works_as_before_where_no_key_is_pinned(server: ServerProcess) -> None:
    command_id = asked(server, agent_id=UNPINNED)

    answer = approve(server, command_id, "ann")

    assert answer.json == {"approval_id": answer.json["approval_id"], "status": "approved"}
    shown = detail(server, command_id)
    assert (shown["approved"], shown["is_verified_by_pc"], shown["approval"]["key_id"]) == (True, False, None)
    events = server.get("/api/audit?event_type=command_approved&limit=1", **who("una")).json["events"]
    assert events[0]["payload"]["note"] == "approvals not verified by this PC"
    order = pulled(server, command_id, UNPINNED)
    assert order is not None
    assert (order["approved"], order["envelope"]["signatures"]) == (True, [])


def test_a_command_that_would_outlive_its_signatures_is_refused_where_keys_are_pinned(server: ServerProcess) -> None:
    wish = {"type": "RESTART_PROCESS", "payload": {"process": "nginx"}, "expires_in_s": 901}

    pinned = server.post("/api/agent-commands", {"agent_id": PC, **wish}, **who("rita"))
    unpinned = server.post("/api/agent-commands", {"agent_id": UNPINNED, **wish}, **who("rita"))

    assert (pinned.status, pinned.json["error"]) == (400, "bad_request")
    assert pinned.json["message"].startswith("expires_in_s: expected at most 900 s")
    assert unpinned.status == 200
    missing = server.get(f"/api/agent-commands/{unpinned.json['id']}/envelope", **who("ann"))
    assert (missing.status, missing.json["error"]) == (404, "no_envelope")


def test_a_denied_command_is_rejected_for_everybody_to_see(server: ServerProcess) -> None:
    command_id = asked(server)

    answer = server.post(f"/api/agent-commands/{command_id}/deny", {"reason": "not today"}, **who("bob"))

    assert (answer.status, answer.json) == (200, {"status": "rejected"})
    shown = detail(server, command_id)
    assert (shown["status"], shown["rejected_by"], shown["rejection_reason"]) == ("rejected", "bob", "not today")
    assert [step["event"] for step in shown["timeline"]] == ["requested", "rejected"]
    again = server.post(f"/api/agent-commands/{command_id}/deny", {"reason": "still not"}, **who("bob"))
    assert (again.status, again.json["error"]) == (409, "not_pending")
    assert approve(server, command_id, "ann", signed(server, command_id, "ann")).json["error"] == "not_pending"


@pytest.mark.parametrize("body", [None, {}, {"reason": ""}, {"reason": " \n"}, {"reason": "x" * 501}, {"reason": 7}])
def test_a_denial_needs_a_reason(server: ServerProcess, body: Any) -> None:
    answer = server.post(f"/api/agent-commands/{asked(server)}/deny", body, **who("bob"))

    assert (answer.status, answer.json["error"]) == (400, "bad_request")


def test_people_talk_about_a_command(server: ServerProcess) -> None:
    command_id = asked(server)
    path = f"/api/agent-commands/{command_id}/comments"

    why = server.post(path, {"text": "why now?"}, **who("ann"))
    server.post(path, {"text": "<b>it hangs</b>"}, **who("rita"))

    assert (why.status, why.json["author"], why.json["text"]) == (200, "ann", "why now?")
    comments = detail(server, command_id)["comments"]
    assert [(one["author"], one["text"]) for one in comments] == [("ann", "why now?"), ("rita", "<b>it hangs</b>")]
    assert server.post(path, {"text": ""}, **who("rita")).status == 400
    missing = server.post("/api/agent-commands/none/comments", {"text": "x"}, **who("rita"))
    assert (missing.status, missing.json["error"]) == (404, "command_not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/agent-commands/none/envelope", {"ann", "admin"}),
        ("POST", "/api/agent-commands/none/approve", {"ann", "admin"}),
        ("POST", "/api/agent-commands/none/deny", {"ann", "admin"}),
        ("POST", "/api/agent-commands/none/comments", {"rita", "ann", "admin"}),
        ("GET", "/api/policies", {"vic", "rita", "ann", "una", "admin"}),
        ("PUT", "/api/policies", {"admin"}),
        ("DELETE", "/api/policies/none", {"admin"}),
        ("GET", "/api/break-glass", {"vic", "rita", "ann", "una", "admin"}),
        ("POST", "/api/break-glass/none/review", {"ann", "admin"}),
        ("GET", "/api/fleet", {"vic", "rita", "ann", "una", "admin"}),
    ],
)
def test_each_endpoint_serves_its_roles_and_nobody_else(
    server: ServerProcess, method: str, path: str, allowed: set[str]
) -> None:
    for name in ("vic", "rita", "ann", "una", "admin"):
        answer = server.request(method, path, body={} if method in ("POST", "PUT") else None, headers=who(name))
        assert (answer.status != 403) is (name in allowed), (name, answer)


def test_an_administrator_sets_and_removes_policies(server: ServerProcess) -> None:
    policy = {"command_type": "ROLLBACK", "agent_pattern": "pc-*", "approvals_required": 2, "reason_required": True}

    saved = server.request("PUT", "/api/policies", body=policy, headers=ADMIN)
    listed = server.get("/api/policies", **who("vic")).json

    assert saved.status == 200
    assert {**policy, "four_eyes": True, "lifetime_s": None}.items() <= saved.json.items()
    assert listed["policies"] == [saved.json]
    assert listed["default"]["four_eyes"] is True, "there are people with keys"
    refused = server.post("/api/agent-commands", {"agent_id": PC, "type": "ROLLBACK"}, **who("rita"))
    assert (refused.status, refused.json["error"]) == (400, "reason_required")
    assert server.request("DELETE", f"/api/policies/{saved.json['id']}", headers=ADMIN).json == {"status": "removed"}
    gone = server.request("DELETE", f"/api/policies/{saved.json['id']}", headers=ADMIN)
    assert (gone.status, gone.json["error"]) == (404, "policy_not_found")


@pytest.mark.parametrize(
    "wrong",
    [
        {"command_type": "SET_MODE"},
        {"agent_pattern": "[a-z]"},
        {"approvals_required": 0},
        {"approvals_required": "2"},
        {"lifetime_s": 5},
        {"four_eyes": None},
        {"four_eye": False},
    ],
)
def test_a_policy_with_a_mistake_is_refused_by_its_field(server: ServerProcess, wrong: dict[str, Any]) -> None:
    policy = {"command_type": "*", "agent_pattern": "*", **wrong}

    answer = server.request("PUT", "/api/policies", body=policy, headers=ADMIN)

    assert (answer.status, answer.json["error"]) == (400, "bad_request")
    assert answer.json["message"].startswith(next(iter(wrong)))
    assert server.get("/api/policies", **ADMIN).json["policies"] == []


def test_a_use_of_break_glass_is_listed_alarms_and_is_reviewed_by_another_person(server: ServerProcess) -> None:
    meta = {"break_glass_id": "sheet-7", "type": "STOP_PROCESS", "payload": {"process": "nginx"}, "owners": ["ann"]}
    line = {"msg": "used", "level": "CRITICAL", "code": BREAK_GLASS_CODE, "meta": {**meta, "result": {"success": True}}}
    assert server.say("/agent/logs", {"logs": [line]}).json["incidents_created"] == 1

    listed = server.get("/api/break-glass", **who("vic")).json
    own = server.post("/api/break-glass/sheet-7/review", {"review": "fine"}, **who("ann"))
    reviewed = server.post("/api/break-glass/sheet-7/review", {"review": "disk was full"}, **who("bob"))

    use = listed["break_glass"][0]
    assert (use["id"], use["owners"], use["payload"]) == ("sheet-7", ["ann"], {"process": "nginx"})
    assert (use["result"], use["reviewed_by"], listed["count"]) == ({"success": True}, None, 1)
    assert (own.status, own.json["error"]) == (403, "self_approval")
    assert (reviewed.json["reviewed_by"], reviewed.json["review"]) == ("bob", "disk was full")
    incidents = server.get("/api/incidents?status=open", **who("vic")).json["incidents"]
    assert (BREAK_GLASS_CODE, "CRITICAL") in {(one["code"], one["severity"]) for one in incidents}


def test_two_people_who_say_yes_at_the_same_moment_make_two_approvals_or_one_looks_again(
    server: ServerProcess,
) -> None:
    command_id = asked(server)
    bodies = {name: signed(server, command_id, name) for name in KEYS}

    with ThreadPoolExecutor(len(bodies)) as threads:
        answers = list(threads.map(lambda name: approve(server, command_id, name, bodies[name]), bodies))

    assert sorted(answer.json.get("status", answer.json.get("error")) for answer in answers) == [
        "already_approved",
        "approved",
        "pending",
    ]
    assert len(detail(server, command_id)["approvals"]) == 2


def test_a_pages_session_cannot_be_made_to_approve_by_another_site(server: ServerProcess) -> None:
    command_id = asked(server)
    cookie = server.post("/api/session", {"api_key": "key-of-ann"}).headers["set-cookie"].partition(";")[0]
    evil = {"Cookie": cookie, "Origin": "https://evil.example"}

    for what in ("approve", "deny", "comments"):
        answer = server.post(f"/api/agent-commands/{command_id}/{what}", {"reason": "x", "text": "x"}, **evil)
        assert (answer.status, answer.json["error"]) == (403, "cross_site")


def test_the_fleets_id_outlives_a_restart(server: ServerProcess) -> None:
    before = server.get("/api/fleet", **ADMIN).json["fleet_id"]

    server.stop()
    server.start()

    assert server.get("/api/fleet", **ADMIN).json["fleet_id"] == before
    assert len(base64.urlsafe_b64decode(before + "==")) == 16
