"""Trust changes over HTTP, on the real server: proposed, signed, relayed to PCs, told with each heartbeat."""

import contextlib
import http.client
import json
import re
import socket
import sqlite3
from collections.abc import Mapping
from typing import Any

import pytest

from approvers import Approver, key_file, passkey
from people import API_KEY, BY_KEY, join, log_in
from reco3.protocol.envelope import decode_base64url, encode_base64url, signature_shape
from reco3.protocol.trust_changes import (
    TRUST_PAYLOAD_TYPE,
    parse_trust_change,
    read_signed_trust_change,
)
from reco3.signing.pins import pin_text, trust_version
from reco3.signing.trust_changes import signers_among, trusted_keys
from servers import Answer, ServerProcess, agent_headers

SERVER_ENVIRONMENT = {"API_KEY": API_KEY}
ALICE, BOB, CAROL = (key_file(owner) for owner in ("alice", "bob", "carol"))
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
HEARTBEAT = json.dumps({"metrics": {"cpu_percent": 12.5}}).encode()


def keys(*approvers: Approver, required: int = 1) -> dict[str, Any]:
    return {"approvers": [pin_text(one.pin) for one in approvers], "approvals_required": required}


def proposal(*, old: Any = None, new: Any = None, **more: Any) -> dict[str, Any]:
    return {"old": old or keys(ALICE), "new": new or keys(BOB), "reason": "a lost laptop", **more}


def propose(server: ServerProcess, **wanted: Any) -> dict[str, Any]:
    answer = server.post("/api/trust-changes", proposal(**wanted), **BY_KEY)
    assert answer.status == 200, answer
    shape: dict[str, Any] = answer.json
    return shape


def envelope_of(server: ServerProcess, change_id: str) -> dict[str, Any]:
    envelope: dict[str, Any] = server.get(f"/api/trust-changes/{change_id}", **BY_KEY).json["envelope"]
    return envelope


def signature(server: ServerProcess, change_id: str, approver: Approver) -> dict[str, Any]:
    body = decode_base64url(envelope_of(server, change_id)["body"])
    return {"signature": signature_shape(approver.sign(body, TRUST_PAYLOAD_TYPE))}


def sign(server: ServerProcess, change_id: str, approver: Approver, **headers: str) -> Answer:
    signed = signature(server, change_id, approver)
    return server.post(f"/api/trust-changes/{change_id}/sign", signed, **(headers or BY_KEY))


def withdraw(server: ServerProcess, change_id: str) -> Answer:
    return server.post(f"/api/trust-changes/{change_id}/withdraw", {"reason": "a mistake"}, **BY_KEY)


def relayed(server: ServerProcess) -> dict[str, Any]:
    answer = server.request("GET", "/agent/trust-changes", headers=agent_headers())
    assert answer.status == 200, answer
    given: dict[str, Any] = answer.json
    return given


def heartbeats(server: ServerProcess) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What a PC hears by the express lane, and what by the ordinary way, which alone says the date."""
    whole = f"Content-Length: {len(HEARTBEAT)}\r\n\r\n".encode() + HEARTBEAT
    in_chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(HEARTBEAT), HEARTBEAT)
    return heartbeat(server, whole, is_express=True), heartbeat(server, in_chunks, is_express=False)


def heartbeat(server: ServerProcess, rest: bytes, *, is_express: bool) -> Mapping[str, Any]:
    """Send a heartbeat in one piece, as agents do, and read what the PC hears."""
    names = {"Host": "reco3", "Content-Type": "application/json", **agent_headers()}
    head = "".join(f"{name}: {value}\r\n" for name, value in names.items())
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"POST /agent/heartbeat HTTP/1.1\r\n" + head.encode() + rest)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200
        assert (response.getheader("date") is None) is is_express
        heard: Mapping[str, Any] = json.loads(response.read())
        return heard


def test_pcs_hear_nothing_of_a_change_that_too_few_have_signed(server: ServerProcess) -> None:
    before = relayed(server)
    change = propose(server)

    assert sign(server, change["id"], ALICE).json["status"] == "open"

    assert relayed(server) == before
    for heard in heartbeats(server):
        assert heard.get("trust_changes", 0) == before["revision"]
        assert ("trust_changes" in heard) is (before["revision"] > 0)


def test_a_proposal_is_answered_with_everything_that_it_says(server: ServerProcess) -> None:
    change = propose(server, old=keys(BOB, ALICE, required=2), new=keys(CAROL), expires_in_days=1)

    assert {**change, **dict.fromkeys(("id", "created_at", "expires_at"))} == {
        "id": None,
        "status": "open",
        "old": {
            "approvers": sorted([pin_text(ALICE.pin), pin_text(BOB.pin)]),
            "approvals_required": 2,
            "trust_version": trust_version([ALICE.pin, BOB.pin]),
            "owners": ["alice", "bob"],
        },
        "new": {**keys(CAROL), "trust_version": trust_version([CAROL.pin]), "owners": ["carol"]},
        "old_signed": [],
        "old_needed": 2,
        "new_signed": [],
        "new_needed": 1,
        "reason": "a lost laptop",
        "requested_by": "admin",
        "created_at": None,
        "expires_at": None,
        "published_at": None,
        "withdrawn_by": None,
        "withdrawn_reason": None,
    }
    assert all(TIME.fullmatch(change[name]) for name in ("created_at", "expires_at"))
    envelope = envelope_of(server, change["id"])
    says = parse_trust_change(decode_base64url(envelope["body"]))
    assert (envelope["payload_type"], envelope["signatures"]) == (TRUST_PAYLOAD_TYPE, [])
    assert (says.nonce, says.fleet_id) == (change["id"], server.get("/api/fleet", **BY_KEY).json["fleet_id"])
    assert says.expires_at - says.created_at == 24 * 3600


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"old": {"approvers": ["alice"], "approvals_required": 1}}, "old.approvers"),
        ({"new": {"approvers": [], "approvals_required": 1}}, "new.approvers"),
        ({"new": keys(BOB, required=2)}, "new.approvals_required"),
        ({"new": {**keys(BOB), "more": 1}}, "new.more"),
        ({"new": keys(ALICE)}, "new"),
        ({"reason": ""}, "reason"),
        ({"reason": "a\u202ereason"}, "reason"),
        ({"expires_in_days": 31}, "expires_in_days"),
        ({"expires_in_days": 0}, "expires_in_days"),
    ],
)
def test_what_no_pc_would_take_is_refused_by_its_field(
    server: ServerProcess, wanted: dict[str, Any], field: str
) -> None:
    answer = server.post("/api/trust-changes", {**proposal(), **wanted}, **BY_KEY)

    assert (answer.status, answer.json["error"]) == (400, "bad_request")
    assert answer.json["message"].startswith(f"{field}: ")


def test_a_published_change_reaches_pcs_as_it_was_built_and_the_pc_can_verify_it(server: ServerProcess) -> None:
    change = propose(server)
    before = relayed(server)["revision"]

    first = sign(server, change["id"], ALICE)
    last = sign(server, change["id"], BOB)

    assert (first.json["status"], first.json["old_signed"], first.json["new_signed"]) == ("open", ["alice"], [])
    assert (last.json["status"], last.json["new_signed"]) == ("published", ["bob"])
    assert TIME.fullmatch(last.json["published_at"])
    given = relayed(server)
    assert given["revision"] == before + 1
    assert given["trust_changes"][-1] == envelope_of(server, change["id"])
    signed = read_signed_trust_change(given["trust_changes"][-1])
    says = parse_trust_change(signed.body)
    assert signers_among(trusted_keys("old", says.old), signed) == ("alice",)
    assert signers_among(trusted_keys("new", says.new), signed) == ("bob",)


def test_each_heartbeat_tells_the_revision_on_the_express_lane_and_on_the_ordinary_way(server: ServerProcess) -> None:
    change = propose(server)
    for approver in (ALICE, BOB):
        sign(server, change["id"], approver)
    revision = relayed(server)["revision"]

    assert [heard["trust_changes"] for heard in heartbeats(server)] == [revision, revision]
    assert withdraw(server, change["id"]).json["status"] == "withdrawn"
    assert [heard["trust_changes"] for heard in heartbeats(server)] == [revision + 1, revision + 1]


def test_a_withdrawn_change_is_relayed_and_signed_no_more(server: ServerProcess) -> None:
    change = propose(server, new=keys(BOB, CAROL))
    for approver in (ALICE, BOB):
        sign(server, change["id"], approver)
    envelope = envelope_of(server, change["id"])
    assert envelope in relayed(server)["trust_changes"]

    answer = withdraw(server, change["id"])

    assert (answer.json["withdrawn_by"], answer.json["withdrawn_reason"]) == ("admin", "a mistake")
    assert answer.json["published_at"] is not None
    assert envelope not in relayed(server)["trust_changes"]
    for refused in (sign(server, change["id"], CAROL), withdraw(server, change["id"])):
        assert (refused.status, refused.json["error"]) == (409, "trust_change_over")


def test_wrong_repeated_and_unreadable_signatures_have_their_codes(server: ServerProcess) -> None:
    change, other = propose(server), propose(server, new=keys(CAROL))
    path = f"/api/trust-changes/{change['id']}/sign"
    right = signature(server, change["id"], ALICE)
    assert server.post(path, right, **BY_KEY).status == 200

    def refusal(body: object, to: str = path) -> tuple[int, str]:
        answer = server.post(to, body, **BY_KEY)
        return answer.status, answer.json["error"]

    assert refusal(right) == (409, "already_signed")
    assert refusal(signature(server, other["id"], BOB)) == (400, "bad_signature")
    assert refusal(signature(server, change["id"], CAROL)) == (400, "unknown_key")
    assert refusal({"signature": {"kind": "ed25519"}}) == (400, "bad_signature")
    assert refusal({"signature": {**right["signature"], "sig": encode_base64url(bytes(64))}}) == (400, "bad_signature")
    assert refusal({}) == (400, "bad_request")
    assert refusal(right, "/api/trust-changes/no-such-thing/sign") == (404, "trust_change_not_found")
    assert server.get("/api/trust-changes/no-such-thing", **BY_KEY).json["error"] == "trust_change_not_found"


def test_lists_are_newest_first_and_go_on_where_they_were_left(server: ServerProcess) -> None:
    ids = [propose(server)["id"] for _ in range(3)]

    first = server.get("/api/trust-changes?limit=2", **BY_KEY).json
    rest = server.get(f"/api/trust-changes?limit=2&cursor={first['next_cursor']}", **BY_KEY).json

    shown = [change["id"] for change in (*first["trust_changes"], *rest["trust_changes"])]
    assert shown[:3] == ids[::-1]
    assert (first["count"], "envelope" in first["trust_changes"][0]) == (2, False)
    assert TIME.fullmatch(first["now"])


def test_an_open_browser_signs_with_a_passkey_or_after_a_proof(server: ServerProcess) -> None:
    ann = passkey("ann", f"http://localhost:{server.port}")
    join(server, "ann", "approver")
    person = log_in(server, "ann")
    change = propose(server, old=keys(ALICE, ann))
    with contextlib.closing(sqlite3.connect(server.db_path, timeout=30)) as database, database:
        database.execute("UPDATE sessions SET proved_at = NULL WHERE name = 'ann'")

    refused = sign(server, change["id"], ALICE, **person.headers)
    taken = sign(server, change["id"], ann, **person.headers)

    assert (refused.status, refused.json["error"]) == (403, "proof_needed")
    assert (taken.status, taken.json["old_signed"]) == (200, ["ann"])
    assert sign(server, change["id"], ALICE, **log_in(server, "ann").headers).status == 200


def test_the_revision_outlives_a_restart(server: ServerProcess) -> None:
    change = propose(server)
    for approver in (ALICE, BOB):
        sign(server, change["id"], approver)
    revision = relayed(server)["revision"]

    server.stop()
    server.start()

    assert revision > 0
    assert [heard["trust_changes"] for heard in heartbeats(server)] == [revision, revision]
