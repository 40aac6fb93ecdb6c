"""The half of the page's small server that is about signing, people and log-ins.

It refuses to judge a signature: tests look at what was sent, with the very code that PCs use.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reco3.protocol.envelope import Envelope, Expected, build_envelope, encode_base64url
from reco3.protocol.strict_json import BadEnvelope
from reco3.protocol.trust_changes import TRUST_PAYLOAD_TYPE, TrustChange, TrustSet, build_trust_change
from reco3.signing.pins import fingerprint, key_id, make_pin, parse_pin, pin_text, trust_version

Json = dict[str, Any]
Route = Callable[[Any, list[str], Json], None]

STAMP = "2026-11-23T14:00:00.000Z"
LATER = "2026-11-24T14:00:00.000Z"
FLEET_ID = "AAAAAAAAAAAAAAAAAAAAAA"
NONCE = "BBBBBBBBBBBBBBBBBBBBBA"
DEFAULT_TERMS = {"approvals_required": 1, "four_eyes": True, "reason_required": False, "lifetime_s": None}
CHALLENGE = b"\x07" * 32


@dataclass
class AccessRows:
    """Keys, people and the rest, and what the server demands."""

    pc: Json = field(default_factory=lambda: {"approvers_pinned": 0, "approvals_required": 1, "trust_version": None})
    bodies: dict[str, bytes] = field(default_factory=dict)
    keys: list[Json] = field(default_factory=list)
    people: list[Json] = field(default_factory=list)
    invitations: list[Json] = field(default_factory=list)
    tokens: list[Json] = field(default_factory=list)
    enrolments: list[Json] = field(default_factory=list)
    policies: list[Json] = field(default_factory=list)
    uses: list[Json] = field(default_factory=list)
    trust_changes: list[Json] = field(default_factory=list)
    # What each signature makes of a trust change.
    after_signing: Json = field(default_factory=dict)
    sessions: list[Json] = field(default_factory=list)
    needs_proof: bool = False
    comments: dict[str, list[Json]] = field(default_factory=dict)


def envelope_of(row: Json, **changes: Any) -> bytes:
    """The bytes to sign for a command as the page's list has it.

    Raises:
        BadEnvelope: the command has a name that no PC can have.
    """
    asked_at = datetime.fromisoformat(row["ts"])
    expires_at = datetime.fromisoformat(row["expires_at"])
    usual: Json = {
        "fleet_id": FLEET_ID,
        "command_id": row["id"],
        "agent_id": row["agent_id"],
        "agent_epoch": "epoch-1",
        "type": row["type"],
        "payload": row["payload"],
        "expect": Expected(4711, 1_795_439_002_000),
        "requested_by": row["created_by"].removeprefix("user:"),
        "reason": row["reason"],
        "created_at": int(asked_at.timestamp()),
        "expires_at": int(expires_at.timestamp()),
        "nonce": NONCE,
    }
    return build_envelope(Envelope(**usual | changes))


def own_key(label: str = "my laptop", **changes: Any) -> Json:
    """One of the operator's keys, which is in another browser."""
    key = base64.b64encode(b"\x05" * 32).decode()
    row: Json = {"key_id": key_id(b"\x05" * 32), "kind": "ed25519", "label": label, "created_at": STAMP}
    shown = {"pin": f"admin:ed25519:{key}", "fingerprint": fingerprint(b"\x05" * 32)}
    return row | shown | {"credential_id": None, "origin": None} | changes


def person(name: str, role: str = "approver", **changes: Any) -> Json:
    """One account."""
    row: Json = {"name": name, "role": role, "created_at": STAMP, "created_by": "admin", "disabled_at": None}
    return row | {"disabled": False, "has_password": True, "keys": 1} | changes


def policy(**changes: Any) -> Json:
    """One approval policy."""
    row: Json = {"id": "p-1", "command_type": "RESTART_PROCESS", "agent_pattern": "db-*", "approvals_required": 2}
    row |= {"four_eyes": True, "reason_required": True, "lifetime_s": 600}
    return row | changes


def break_glass_use(**changes: Any) -> Json:
    """One use that nobody has reviewed."""
    row: Json = {"id": "bg-1", "agent_id": "pc-001", "command_type": "RESTART_PROCESS", "payload": {"process": "nginx"}}
    row |= {"owners": ["alice", "bob"], "used_at": STAMP, "reported_at": STAMP}
    row |= {"result": {"success": True, "output": "restarted"}, "reviewed_by": None, "reviewed_at": None}
    return row | {"review": None} | changes


def trust_set(*pins: str, required: int = 1) -> Json:
    """One side of a trust change as the page's list has it."""
    read = [parse_pin(text) for text in sorted(pins)]
    owners = sorted({pin.owner for pin in read})
    named = {"trust_version": trust_version(read), "owners": owners}
    return {"approvers": sorted(pins), "approvals_required": required, **named}


def trust_change(old: Json, new: Json, *, signed_by: Sequence[str] = (), **changes: Any) -> Json:
    """One open trust change, with `bytes_of` it unless other `body` bytes are given; `signed_by` are ids of keys."""
    row: Json = {"id": NONCE, "status": "open", "old": old, "new": new, "old_signed": [], "old_needed": 1}
    row |= {"new_signed": [], "new_needed": 1, "reason": "alice lost her laptop", "requested_by": "root"}
    row |= {"created_at": STAMP, "expires_at": LATER, "published_at": None}
    row |= {"withdrawn_by": None, "withdrawn_reason": None} | changes
    body = row.pop("body", None) or bytes_of(row)
    signatures = [{"kind": "ed25519", "key_id": one, "sig": "AA"} for one in signed_by]
    envelope = {"payload_type": TRUST_PAYLOAD_TYPE, "body": encode_base64url(body), "signatures": signatures}
    return row | {"envelope": envelope}


def bytes_of(row: Json) -> bytes:
    """The bytes to sign for a trust change as the page's list has it."""
    sides = [TrustSet(tuple(row[side]["approvers"]), row[side]["approvals_required"]) for side in ("old", "new")]
    created_at, expires_at = (
        int(datetime.fromisoformat(row[name]).timestamp()) for name in ("created_at", "expires_at")
    )
    says = TrustChange(FLEET_ID, *sides, row["requested_by"], row["reason"], created_at, expires_at, row["id"])
    return build_trust_change(says)


def _is_proved(handler: Any) -> bool:
    if handler.server_rows.access.needs_proof:
        handler._json(403, {"error": "proof_needed", "message": "This needs a fresh proof that it is you."})
        return False
    return True


def _command_of(handler: Any, command_id: str) -> Json | None:
    row: Json | None = handler._command(command_id)
    return row


def _seen(agents: list[Json], row: Json) -> Expected | None:
    """The process as its PC reports it, None when it does not."""
    for agent in agents:
        for process in agent["metrics"]["processes"] if agent["agent_id"] == row["agent_id"] else ():
            if process["name"] == row["payload"].get("process"):
                is_running = process["running"]
                return Expected(process["pid"], process["create_time_ms"]) if is_running else Expected(None, None)
    return None


def envelope(handler: Any, parts: list[str], _body: Json) -> None:
    if (row := _command_of(handler, parts[0])) is None:
        return
    access = handler.server_rows.access
    try:
        body = access.bodies.get(row["id"]) or envelope_of(row, expect=_seen(handler.server_rows.agents, row))
    except BadEnvelope:
        handler._json(404, {"error": "envelope_not_found", "message": "This command has none."})
        return
    content = {"payload_type": "application/vnd.reco3.command.v1+json", "body": encode_base64url(body)}
    handler._json(200, content | {"signatures": [], "approvals_required": 1, "pc": access.pc})


def approve(handler: Any, parts: list[str], body: Json) -> None:
    if (row := _command_of(handler, parts[0])) is None or not _is_proved(handler):
        return
    if row["approved"]:
        handler._json(409, {"error": "already_approved", "message": "Somebody approved this command already."})
        return
    me = (handler.server_rows.operator or {"name": "admin"})["name"]
    kind = body.get("signature", {}).get("kind")
    approval = {"id": f"a-{len(row['approvals']) + 1}", "approved_by": f"user:{me}", "approved_at": handler.stamp()}
    row["approvals"].append(approval | {"kind": kind, "comment": body.get("comment")})
    given, required = len(row["approvals"]), row["approvals_required"]
    row.update(approval=row["approvals"][0], approved=given >= required)
    if row["approved"]:
        handler._json(200, {"approval_id": approval["id"], "status": "approved"})
    else:
        handler._json(200, {"status": "pending", "approvals": given, "required": required})


def deny(handler: Any, parts: list[str], body: Json) -> None:
    if (row := _command_of(handler, parts[0])) is not None and _is_proved(handler):
        row.update(status="rejected", rejected_by="user:admin", rejection_reason=body["reason"])
        handler._json(200, {"status": "rejected"})


def comment(handler: Any, parts: list[str], body: Json) -> None:
    said = handler.server_rows.access.comments.setdefault(parts[0], [])
    said.append({"id": f"k-{len(said)}", "author": "user:admin", "text": body["text"], "created_at": STAMP})
    handler._json(200, {"id": said[-1]["id"]})


def prove(handler: Any, _parts: list[str], body: Json) -> None:
    if body.get("api_key", "right-key") != "right-key" or body.get("password", "right-password") != "right-password":
        handler._json(403, {"error": "proof_refused", "message": "That is not right."})
        return
    handler.server_rows.access.needs_proof = False
    handler._json(200, {"proved_until": LATER})


def accept_invitation(handler: Any, _parts: list[str], body: Json) -> None:
    if body["token"] != "one-time":
        handler._json(403, {"error": "invitation_refused", "message": "This invitation was used already."})
        return
    handler.server_rows.operator = {"name": "bob", "role": "approver", "how": "session"}
    handler._json(200, handler.server_rows.operator)


def key_options(handler: Any, _parts: list[str], _body: Json) -> None:
    handler._json(200, {"challenge": encode_base64url(CHALLENGE)})


def register_key(handler: Any, _parts: list[str], body: Json) -> None:
    if not _is_proved(handler):
        return
    raw = base64.b64decode(body["public_key"])
    pin = make_pin("admin", body["kind"], body["public_key"], handler.headers["Origin"])
    row = own_key(body["label"], key_id=key_id(raw), kind=body["kind"], origin=pin.origin)
    row |= {"pin": pin_text(pin), "fingerprint": fingerprint(raw)}
    handler.server_rows.access.keys.append(row)
    handler._json(200, row)


def remove_key(handler: Any, parts: list[str], _body: Json) -> None:
    access = handler.server_rows.access
    access.keys = [key for key in access.keys if key["key_id"] != parts[0]]
    handler._json(200, {"status": "ok"})


def people(handler: Any, _parts: list[str], _body: Json) -> None:
    access = handler.server_rows.access
    handler._json(200, {"operators": access.people, "invitations": access.invitations})


def invite(handler: Any, _parts: list[str], body: Json) -> None:
    if not _is_proved(handler):
        return
    invitation = body | {"expires_at": LATER}
    handler.server_rows.access.invitations.append(invitation)
    handler._json(200, invitation | {"link": f"{handler.server_rows.url}/r3#invitation=one-time"})


def change_person(handler: Any, parts: list[str], body: Json) -> None:
    for row in handler.server_rows.access.people:
        if row["name"] == parts[0]:
            row.update(role=body["role"], disabled_at=STAMP if body["disabled"] else None)
    handler._json(200, {"name": parts[0]})


def make_token(handler: Any, _parts: list[str], body: Json) -> None:
    row = {"id": "t-1", "name": body["name"], "role": body["role"], "expires_at": LATER, "last_used_at": None}
    handler.server_rows.access.tokens.append(row)
    handler._json(200, row | {"token": "r3t_shown-once"})


def enrolment_tokens(handler: Any, _parts: list[str], _body: Json) -> None:
    handler._json(200, {"tokens": handler.server_rows.access.enrolments})


def make_enrolment_token(handler: Any, _parts: list[str], body: Json) -> None:
    if not _is_proved(handler):
        return
    rows = handler.server_rows.access.enrolments
    made = {"id": f"e-{len(rows)}", "status": "open", "created_by": "user:admin", "expires_at": LATER}
    rows.insert(0, body | made)
    handler._json(200, rows[0] | {"token": "r3e_shown-once"})


def revoke_enrolment_token(handler: Any, parts: list[str], _body: Json) -> None:
    access = handler.server_rows.access
    access.enrolments = [row for row in access.enrolments if row["id"] != parts[0]]
    handler._json(200, {"status": "revoked"})


def put_policy(handler: Any, _parts: list[str], body: Json) -> None:
    handler.server_rows.access.policies.append(body)
    handler._json(200, body)


def review(handler: Any, parts: list[str], body: Json) -> None:
    for use in handler.server_rows.access.uses:
        if use["id"] == parts[0]:
            use.update(reviewed_by="user:admin", reviewed_at=STAMP, review=body["review"])
    handler._json(200, {"status": "reviewed"})


def trust_changes(handler: Any, _parts: list[str], _body: Json) -> None:
    if handler.is_known():
        rows = [{**row, "envelope": None} for row in handler.server_rows.access.trust_changes]
        handler._json(200, {"trust_changes": rows, "count": len(rows), "next_cursor": None, "now": STAMP})


def one_trust_change(handler: Any, parts: list[str], _body: Json) -> None:
    handler._json(200, _trust_change_of(handler, parts[0]))


def sign_trust_change(handler: Any, parts: list[str], _body: Json) -> None:
    if _is_proved(handler):
        row = _trust_change_of(handler, parts[0])
        row.update(handler.server_rows.access.after_signing)
        handler._json(200, row)


def withdraw_trust_change(handler: Any, parts: list[str], body: Json) -> None:
    if _is_proved(handler):
        row = _trust_change_of(handler, parts[0])
        row.update(status="withdrawn", withdrawn_by="admin", withdrawn_reason=body["reason"])
        handler._json(200, row)


def _trust_change_of(handler: Any, change_id: str) -> Json:
    return next(row for row in handler.server_rows.access.trust_changes if row["id"] == change_id)


def _listing(name: str) -> Route:
    def answer(handler: Any, _parts: list[str], _body: Json) -> None:
        if handler.is_known():
            attribute = "uses" if name == "break_glass" else name
            content = {name: getattr(handler.server_rows.access, attribute)}
            handler._json(200, content | ({"default": DEFAULT_TERMS} if name == "policies" else {}))

    return answer


routes: dict[str, Route] = {
    "GET /api/agent-commands/([^/]+)/envelope": envelope,
    "POST /api/agent-commands/([^/]+)/approve": approve,
    "POST /api/agent-commands/([^/]+)/deny": deny,
    "POST /api/agent-commands/([^/]+)/comments": comment,
    "POST /api/session/proof": prove,
    "POST /api/invitations/accept": accept_invitation,
    "GET /api/sessions": _listing("sessions"),
    "GET /api/me/keys": _listing("keys"),
    "POST /api/me/keys/options": key_options,
    "POST /api/me/keys": register_key,
    "DELETE /api/me/keys/([^/]+)": remove_key,
    "GET /api/operators": people,
    "POST /api/operators": invite,
    "PATCH /api/operators/([^/]+)": change_person,
    "GET /api/tokens": _listing("tokens"),
    "POST /api/tokens": make_token,
    "GET /api/enrolment-tokens": enrolment_tokens,
    "POST /api/enrolment-tokens": make_enrolment_token,
    "DELETE /api/enrolment-tokens/([^/]+)": revoke_enrolment_token,
    "GET /api/policies": _listing("policies"),
    "PUT /api/policies": put_policy,
    "GET /api/break-glass": _listing("break_glass"),
    "POST /api/break-glass/([^/]+)/review": review,
    "GET /api/trust-changes": trust_changes,
    "GET /api/trust-changes/([^/]+)": one_trust_change,
    "POST /api/trust-changes/([^/]+)/sign": sign_trust_change,
    "POST /api/trust-changes/([^/]+)/withdraw": withdraw_trust_change,
}
