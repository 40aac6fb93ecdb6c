"""The bytes that approvers sign and that PCs verify: built once, relayed untouched, parsed after verification.

It refuses every second way to write the same envelope, and knows no key: whose signature counts is decided elsewhere.
Source: https://github.com/secure-systems-lab/dsse (protocol.md) for what is signed.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reco3.protocol.limits import AGENT_ID_PATTERN, JOURNAL_PATTERN, MAX_COMMAND_ID_CHARS
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
    shown,
    write_strictly,
)

PAYLOAD_TYPE = "application/vnd.reco3.command.v1+json"
MAX_ENVELOPE_BYTES = 8192
MAX_VALIDITY_S = 900
MAX_BREAK_GLASS_VALIDITY_S = 90 * 24 * 3600
MAX_SIGNATURES = 16
MAX_SIGNATURE_BYTES = 512
MAX_CLIENT_DATA_BYTES = 4_096
MAX_AUTHENTICATOR_DATA_BYTES = 1_024
VERSION = 1
_TYPE_PATTERN = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_KEY_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PAYLOAD_KEY_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}")


class KeyKind(StrEnum):
    """What an approver signs with: a key file, a passkey, or a key that a browser keeps."""

    ED25519 = "ed25519"
    WEBAUTHN = "webauthn"
    WEBCRYPTO = "webcrypto"


class EnvelopePolicy(StrEnum):
    """What an envelope is good for: one approved command soon, or an emergency while the server is away."""

    APPROVAL = "approval"
    BREAK_GLASS = "break-glass"


@dataclass(frozen=True, slots=True)
class Expected:
    """The oldest process that the approver saw; None for both when it was not running."""

    pid: int | None
    create_time_ms: int | None


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is approved: one command on one PC, within a time; times are whole Unix seconds."""

    fleet_id: str
    command_id: str
    agent_id: str
    agent_epoch: str | None
    type: str
    payload: Mapping[str, object]
    expect: Expected | None
    requested_by: str
    reason: str | None
    created_at: int
    expires_at: int
    nonce: str
    policy: EnvelopePolicy = EnvelopePolicy.APPROVAL


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature; `key_id` is a hint and never decides, the last two are a passkey's and None for other kinds."""

    kind: KeyKind
    key_id: str
    sig: bytes
    client_data_json: bytes | None = None
    authenticator_data: bytes | None = None


@dataclass(frozen=True, slots=True)
class SignedEnvelope:
    """The body as it was built, and the signatures over it; nothing of it has been verified."""

    payload_type: str
    body: bytes
    signatures: tuple[Signature, ...] = ()


def pre_authentication_encoding(payload_type: str, body: bytes) -> bytes:
    """The bytes that are signed: DSSE's encoding, which ties the body to its type and its length."""
    type_bytes = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(type_bytes), type_bytes, len(body), body)


def build_envelope(envelope: Envelope) -> bytes:
    """Write an envelope's bytes. Raises: BadEnvelope for what `parse_envelope` would refuse."""
    body = _encode(envelope)
    if len(body) > MAX_ENVELOPE_BYTES:
        raise BadEnvelope("body", f"at most {MAX_ENVELOPE_BYTES} bytes, got {len(body)}")
    parse_envelope(body)
    return body


def parse_envelope(body: bytes) -> Envelope:
    """Read an envelope's bytes, which must be exactly as `build_envelope` writes them. Raises: BadEnvelope."""
    fields = read_fields(body, MAX_ENVELOPE_BYTES, _CHECKS)
    _check_payload(fields["payload"])
    envelope = _envelope(fields)
    if envelope.expires_at <= envelope.created_at:
        raise BadEnvelope("expires_at", "a time after created_at")
    if _encode(envelope) != body:
        raise BadEnvelope("body", "keys in their order, no spaces and no needless escapes")
    return envelope


def envelope_fields(envelope: Envelope) -> dict[str, Any]:
    """Everything that an envelope says, in the order of its bytes, as plain JSON values."""
    expect = envelope.expect
    return {
        "v": VERSION,
        "fleet_id": envelope.fleet_id,
        "command_id": envelope.command_id,
        "agent_id": envelope.agent_id,
        "agent_epoch": envelope.agent_epoch,
        "type": envelope.type,
        "payload": dict(envelope.payload),
        "expect": None if expect is None else {"pid": expect.pid, "create_time_ms": expect.create_time_ms},
        "requested_by": envelope.requested_by,
        "reason": envelope.reason,
        "created_at": envelope.created_at,
        "expires_at": envelope.expires_at,
        "nonce": envelope.nonce,
        "policy": str(envelope.policy),
    }


def read_signed_envelope(raw: object) -> SignedEnvelope:
    """Read what travels: `{"payload_type","body","signatures"}`. Raises: BadEnvelope."""
    return read_signed(raw, PAYLOAD_TYPE, MAX_ENVELOPE_BYTES)


def read_signed(raw: object, payload_type: str, max_body_bytes: int) -> SignedEnvelope:
    """Read signed bytes of one type as they travel. Raises: BadEnvelope."""
    fields = object_of("envelope", raw)
    check_keys("envelope", fields, ("payload_type", "body", "signatures"))
    if fields["payload_type"] != payload_type:
        raise BadEnvelope("payload_type", f"{payload_type}, got {shown(fields['payload_type'])}")
    signatures = fields["signatures"]
    if not isinstance(signatures, list) or len(signatures) > MAX_SIGNATURES:
        raise BadEnvelope("signatures", f"a list of at most {MAX_SIGNATURES}")
    body = _bytes("body", fields["body"], max_body_bytes)
    return SignedEnvelope(payload_type, body, tuple(read_signature(one) for one in signatures))


def read_signature(raw: object) -> Signature:
    """Read one signature as it travels. Raises: BadEnvelope."""
    fields = object_of("signatures", raw)
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in set(KeyKind):
        raise BadEnvelope("kind", f"one of {', '.join(KeyKind)}, got {shown(kind)}")
    is_passkey = kind == KeyKind.WEBAUTHN
    extra = ("client_data_json", "authenticator_data") if is_passkey else ()
    check_keys("signatures", fields, ("kind", "key_id", "sig", *extra))
    key_id = fields["key_id"]
    if not isinstance(key_id, str) or _KEY_ID_PATTERN.fullmatch(key_id) is None:
        raise BadEnvelope("key_id", f"1 to 128 letters, digits, _ and -, got {shown(key_id)}")
    return Signature(
        KeyKind(kind),
        key_id,
        _bytes("sig", fields["sig"], MAX_SIGNATURE_BYTES),
        _bytes("client_data_json", fields["client_data_json"], MAX_CLIENT_DATA_BYTES) if is_passkey else None,
        _bytes("authenticator_data", fields["authenticator_data"], MAX_AUTHENTICATOR_DATA_BYTES)
        if is_passkey
        else None,
    )


def signed_envelope_shape(signed: SignedEnvelope) -> dict[str, Any]:
    """What `read_signed_envelope` reads, ready for JSON."""
    return {
        "payload_type": signed.payload_type,
        "body": encode_base64url(signed.body),
        "signatures": [signature_shape(one) for one in signed.signatures],
    }


def signature_shape(signature: Signature) -> dict[str, Any]:
    """What `read_signature` reads, ready for JSON."""
    shape = {"kind": str(signature.kind), "key_id": signature.key_id, "sig": encode_base64url(signature.sig)}
    if signature.client_data_json is not None:
        shape["client_data_json"] = encode_base64url(signature.client_data_json)
    if signature.authenticator_data is not None:
        shape["authenticator_data"] = encode_base64url(signature.authenticator_data)
    return shape


def encode_base64url(content: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Read base64url without padding, of which there is one way to write anything. Raises: ValueError."""
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("expected base64url without padding") from error
    if encode_base64url(content) != text:
        raise ValueError("expected base64url without padding")
    return content


def _encode(envelope: Envelope) -> bytes:
    return write_strictly(envelope_fields(envelope))


def _bytes(field: str, raw: object, max_bytes: int) -> bytes:
    if not isinstance(raw, str) or not 1 <= len(raw) <= max_bytes * 4 // 3 + 2:
        raise BadEnvelope(field, f"1 to {max_bytes} bytes in base64url")
    try:
        content = decode_base64url(raw)
    except ValueError as error:
        raise BadEnvelope(field, "base64url without padding") from error
    if len(content) > max_bytes:
        raise BadEnvelope(field, f"at most {max_bytes} bytes")
    return content


def _envelope(fields: Mapping[str, Any]) -> Envelope:
    expect = fields["expect"]
    return Envelope(
        fleet_id=fields["fleet_id"],
        command_id=fields["command_id"],
        agent_id=fields["agent_id"],
        agent_epoch=fields["agent_epoch"],
        type=fields["type"],
        payload=fields["payload"],
        expect=None if expect is None else Expected(expect["pid"], expect["create_time_ms"]),
        requested_by=fields["requested_by"],
        reason=fields["reason"],
        created_at=fields["created_at"],
        expires_at=fields["expires_at"],
        nonce=fields["nonce"],
        policy=EnvelopePolicy(fields["policy"]),
    )


def _check_payload(payload: Mapping[str, object]) -> None:
    for name, value in payload.items():
        if _PAYLOAD_KEY_PATTERN.fullmatch(name) is None:
            raise BadEnvelope("payload", f"keys of lower-case letters, digits and _, got {shown(name)}")
        if not (isinstance(value, str | bool) or is_whole(value)):
            raise BadEnvelope(f"payload.{name}", f"text, a whole number, true or false, got {shown(value)}")


def _is_count(value: object) -> bool:
    return value is None or (is_whole(value) and isinstance(value, int) and value >= 0)


def _is_command_id(value: object) -> bool:
    return (
        isinstance(value, str)
        and 1 <= len(value) <= MAX_COMMAND_ID_CHARS
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def _is_expect(value: object) -> bool:
    return value is None or (
        isinstance(value, dict) and tuple(value) == ("pid", "create_time_ms") and all(map(_is_count, value.values()))
    )


_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "v": (lambda value: is_whole(value) and value == VERSION, f"the version {VERSION}"),
    "fleet_id": (like(TOKEN_PATTERN), SIXTEEN_BYTES),
    "command_id": (_is_command_id, f"1 to {MAX_COMMAND_ID_CHARS} printable ASCII characters without spaces"),
    "agent_id": (like(AGENT_ID_PATTERN), "1 to 64 letters, digits and . _ -"),
    "agent_epoch": (lambda value: value is None or like(JOURNAL_PATTERN)(value), "the id of a journal, or null"),
    "type": (like(_TYPE_PATTERN), "a command type such as RESTART_PROCESS"),
    "payload": (lambda value: isinstance(value, dict), "an object"),
    "expect": (_is_expect, "null, or an object of pid and create_time_ms, each a whole number or null"),
    "requested_by": (is_name, NAME),
    "reason": (is_reason, f"null, or 1 to {MAX_REASON_CHARS} printable characters"),
    "created_at": (is_second, SECOND),
    "expires_at": (is_second, SECOND),
    "nonce": (like(TOKEN_PATTERN), SIXTEEN_BYTES),
    "policy": (lambda value: isinstance(value, str) and value in set(EnvelopePolicy), "approval or break-glass"),
}
