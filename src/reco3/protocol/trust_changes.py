"""The bytes that hand a PC's trust from one set of keys to another: built once, relayed untouched.

It refuses every second way to write the same change, and knows no key: whose signature counts is decided elsewhere.
Like a root of The Update Framework, a change counts when enough owners of the old keys and of the new ones signed it.
Source: https://theupdateframework.github.io/specification/latest/#update-root.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reco3.protocol.envelope import SignedEnvelope, read_signed
from reco3.protocol.strict_json import (
    MAX_REASON_CHARS,
    NAME,
    SECOND,
    SIXTEEN_BYTES,
    TOKEN_PATTERN,
    BadEnvelope,
    check_keys,
    is_name,
    is_reason,
    is_second,
    is_whole,
    like,
    object_of,
    read_fields,
    write_strictly,
)

TRUST_PAYLOAD_TYPE = "application/vnd.reco3.trust.v1+json"
MAX_TRUST_BYTES = 32 * 1024
MAX_TRUST_VALIDITY_S = 30 * 24 * 3600
MAX_TRUSTED_KEYS = 64
MAX_PIN_CHARS = 1_024
VERSION = 1
_PINS = f"1 to {MAX_TRUSTED_KEYS} pins, sorted, each once"


@dataclass(frozen=True, slots=True)
class TrustSet:
    """What a PC trusts: pins as `signing.pins` writes them, sorted, and how many distinct owners must sign."""

    approvers: tuple[str, ...]
    approvals_required: int


@dataclass(frozen=True, slots=True)
class TrustChange:
    """From which keys to which, for every PC of a fleet that pins the old ones; times are whole Unix seconds."""

    fleet_id: str
    old: TrustSet
    new: TrustSet
    requested_by: str
    reason: str
    created_at: int
    expires_at: int
    nonce: str


def build_trust_change(change: TrustChange) -> bytes:
    """Write a change's bytes. Raises: BadEnvelope for what `parse_trust_change` would refuse."""
    body = write_strictly(trust_change_fields(change))
    parse_trust_change(body)
    return body


def parse_trust_change(body: bytes) -> TrustChange:
    """Read a change's bytes, which must be exactly as `build_trust_change` writes them. Raises: BadEnvelope."""
    fields = read_fields(body, MAX_TRUST_BYTES, _CHECKS)
    change = TrustChange(
        fleet_id=fields["fleet_id"],
        old=_trust_set("old", fields["old"]),
        new=_trust_set("new", fields["new"]),
        requested_by=fields["requested_by"],
        reason=fields["reason"],
        created_at=fields["created_at"],
        expires_at=fields["expires_at"],
        nonce=fields["nonce"],
    )
    _check_whole(change)
    if write_strictly(trust_change_fields(change)) != body:
        raise BadEnvelope("body", "keys in their order, no spaces and no needless escapes")
    return change


def trust_change_fields(change: TrustChange) -> dict[str, Any]:
    """Everything that a change says, in the order of its bytes, as plain JSON values."""
    return {
        "v": VERSION,
        "fleet_id": change.fleet_id,
        "old": trust_set_fields(change.old),
        "new": trust_set_fields(change.new),
        "requested_by": change.requested_by,
        "reason": change.reason,
        "created_at": change.created_at,
        "expires_at": change.expires_at,
        "nonce": change.nonce,
    }


def trust_set_fields(trust: TrustSet) -> dict[str, Any]:
    """One set as plain JSON values."""
    return {"approvers": list(trust.approvers), "approvals_required": trust.approvals_required}


def read_trust_set(field: str, raw: object) -> TrustSet:
    """Read one set as it travels; the pins themselves are read elsewhere. Raises: BadEnvelope."""
    return _trust_set(field, object_of(field, raw))


def read_signed_trust_change(raw: object) -> SignedEnvelope:
    """Read what travels: `{"payload_type","body","signatures"}`. Raises: BadEnvelope."""
    return read_signed(raw, TRUST_PAYLOAD_TYPE, MAX_TRUST_BYTES)


def _trust_set(field: str, fields: Mapping[str, object]) -> TrustSet:
    check_keys(field, fields, ("approvers", "approvals_required"))
    approvers, required = fields["approvers"], fields["approvals_required"]
    if not _are_pins(approvers):
        raise BadEnvelope(f"{field}.approvers", _PINS)
    if not (is_whole(required) and isinstance(required, int) and 1 <= required <= MAX_TRUSTED_KEYS):
        raise BadEnvelope(f"{field}.approvals_required", f"a whole number from 1 to {MAX_TRUSTED_KEYS}")
    return TrustSet(tuple(approvers), required)  # type: ignore[arg-type]


def _are_pins(raw: object) -> bool:
    return (
        isinstance(raw, list)
        and 1 <= len(raw) <= MAX_TRUSTED_KEYS
        and all(isinstance(pin, str) and 1 <= len(pin) <= MAX_PIN_CHARS and pin.isascii() for pin in raw)
        and raw == sorted(set(raw))
    )


def _check_whole(change: TrustChange) -> None:
    if change.old == change.new:
        raise BadEnvelope("new", "another set than the old one")
    if not 0 < change.expires_at - change.created_at <= MAX_TRUST_VALIDITY_S:
        raise BadEnvelope("expires_at", f"a time after created_at, at most {MAX_TRUST_VALIDITY_S} seconds")


_SET = "an object of approvers and approvals_required"
_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "v": (lambda value: is_whole(value) and value == VERSION, f"the version {VERSION}"),
    "fleet_id": (like(TOKEN_PATTERN), SIXTEEN_BYTES),
    "old": (lambda value: isinstance(value, dict), _SET),
    "new": (lambda value: isinstance(value, dict), _SET),
    "requested_by": (is_name, NAME),
    "reason": (lambda value: value is not None and is_reason(value), f"1 to {MAX_REASON_CHARS} printable characters"),
    "created_at": (is_second, SECOND),
    "expires_at": (is_second, SECOND),
    "nonce": (like(TOKEN_PATTERN), SIXTEEN_BYTES),
}
