"""Builders of envelopes as a server offers them, for tests of those who sign."""

import json
import time
from typing import Any

from reco3.protocol.envelope import (
    PAYLOAD_TYPE,
    Envelope,
    EnvelopePolicy,
    Expected,
    build_envelope,
    encode_base64url,
    pre_authentication_encoding,
)
from reco3.signing.verifying import challenge_of

FLEET = "ZmxlZXQtb2YtMTYtYnl0ZQ"
NONCE = "bm9uY2Utb2YtMTYtYnl0ZQ"


def envelope(*, now_s: float | None = None, **changes: Any) -> Envelope:
    """An approval of a restart of nginx on pc-001 that was asked for just now."""
    created_at = int(time.time() if now_s is None else now_s)
    defaults: dict[str, Any] = {
        "fleet_id": FLEET,
        "command_id": "c-1",
        "agent_id": "pc-001",
        "agent_epoch": "epoch-1",
        "type": "RESTART_PROCESS",
        "payload": {"process": "nginx"},
        "expect": Expected(4711, 1_795_438_000_000),
        "requested_by": "bob",
        "reason": "shop answers 502",
        "created_at": created_at,
        "expires_at": created_at + 900,
        "nonce": NONCE,
        "policy": EnvelopePolicy.APPROVAL,
    }
    return Envelope(**{**defaults, **changes})


def offer(body: bytes, **changes: Any) -> dict[str, Any]:
    """What an honest server answers to `GET /api/agent-commands/{id}/envelope`."""
    challenge = challenge_of(pre_authentication_encoding(PAYLOAD_TYPE, body))
    honest = {
        "payload_type": PAYLOAD_TYPE,
        "body": encode_base64url(body),
        "challenge": encode_base64url(challenge),
        "fields": json.loads(body),
        "signatures": [],
        "approvals_required": 1,
        "four_eyes": False,
        "pc": {"approvers_pinned": 1, "approvals_required": 1, "trust_version": "0123456789abcdef"},
    }
    return honest | changes


def honest_offer(**changes: Any) -> dict[str, Any]:
    """The same over `envelope(**changes)`."""
    return offer(build_envelope(envelope(**changes)))
