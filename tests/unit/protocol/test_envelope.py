"""The bytes that are signed: one way to write each envelope, and every other one refused."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from approvers import envelope, key_file, passkey, signed
from builders import DATA
from reco3.protocol.envelope import (
    MAX_ENVELOPE_BYTES,
    MAX_SIGNATURES,
    PAYLOAD_TYPE,
    Envelope,
    EnvelopePolicy,
    Expected,
    build_envelope,
    encode_base64url,
    parse_envelope,
    pre_authentication_encoding,
    read_signed_envelope,
    signed_envelope_shape,
)
from reco3.protocol.strict_json import LAST_SECOND, MAX_WHOLE, BadEnvelope

VECTORS_SHA256 = "c18a55d15a573d0be103e39a74e8faab5a0772aa059c92b02353409a46d231df"
VECTORS = json.loads((DATA / "envelope_vectors.json").read_text(encoding="utf-8"))


def made_of(fields: dict[str, Any]) -> Envelope:
    expect = fields["expect"]
    values = fields | {
        "expect": None if expect is None else Expected(**expect),
        "policy": EnvelopePolicy(fields["policy"]),
    }
    return Envelope(**values)


def test_the_golden_vectors_are_never_changed() -> None:
    """Signatures out in the world, and sheets in safes, are over such bytes: add a new file rather than edit this."""
    assert hashlib.sha256((DATA / "envelope_vectors.json").read_bytes()).hexdigest() == VECTORS_SHA256


def test_the_published_dsse_vector_holds() -> None:
    vector = VECTORS["dsse"]

    assert pre_authentication_encoding(vector["payload_type"], vector["body"].encode()) == vector["pae"].encode()


@pytest.mark.parametrize("vector", VECTORS["envelopes"], ids=lambda vector: vector["name"])
def test_an_envelope_is_built_byte_for_byte_as_ever(vector: dict[str, Any]) -> None:
    body = build_envelope(made_of(vector["fields"]))

    assert body == vector["body"].encode()
    assert parse_envelope(body) == made_of(vector["fields"])
    assert pre_authentication_encoding(PAYLOAD_TYPE, body).hex() == vector["pae_hex"]
    assert signed_envelope_shape(read_signed_envelope(vector["envelope"])) == vector["envelope"]


def body_with(changes: dict[str, Any]) -> bytes:
    fields = json.loads(build_envelope(envelope()))
    return json.dumps(fields | changes, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


RIGHT = build_envelope(envelope()).decode()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"null", "body"),
        (b"[]", "body"),
        (b"\xff" + RIGHT.encode(), "body"),
        (b"\xef\xbb\xbf" + RIGHT.encode(), "body"),
        (RIGHT.encode() + b"\n", "body"),
        (b" " + RIGHT.encode(), "body"),
        (RIGHT.encode() + b"{}", "body"),
        (RIGHT.replace('"v":1,', '"v":1,"v":1,').encode(), "body"),
        (RIGHT.replace('{"process":"nginx"}', '{"process":"nginx","process":"ssh"}').encode(), "body"),
        (RIGHT.replace('"v":1', '"v": 1').encode(), "body"),
        (RIGHT.replace("nginx", "\\u006eginx").encode(), "body"),
        (RIGHT.replace("4242", "4242.0").encode(), "body"),
        (RIGHT.replace("4242", "4242e0").encode(), "body"),
        (RIGHT.replace("4242", "NaN").encode(), "body"),
        (RIGHT.replace("4242", "-0").encode(), "body"),
        (RIGHT.replace("4242", "9" * 5000).encode(), "body"),
        (("[" * 8000).encode(), "body"),
        (b"{" * (MAX_ENVELOPE_BYTES + 1), "body"),
        (RIGHT.replace('"v":1,', "").encode(), "v"),
        (RIGHT.replace('"v":1,', '"v":1,"w":2,').encode(), "body"),
        (json.dumps(dict(reversed(json.loads(RIGHT).items())), separators=(",", ":")).encode(), "body"),
        (body_with({"v": 2}), "v"),
        (body_with({"v": True}), "v"),
        (body_with({"fleet_id": "short"}), "fleet_id"),
        (body_with({"fleet_id": "A" * 21 + "B"}), "fleet_id"),
        (body_with({"command_id": "two words"}), "command_id"),
        (body_with({"command_id": 7}), "command_id"),
        (body_with({"agent_id": "../pc"}), "agent_id"),
        (body_with({"agent_epoch": ""}), "agent_epoch"),
        (body_with({"type": "restart"}), "type"),
        (body_with({"payload": []}), "payload"),
        (body_with({"payload": {"process": ["nginx"]}}), "payload.process"),
        (body_with({"payload": {"process": None}}), "payload.process"),
        (body_with({"payload": {"Process": "nginx"}}), "payload"),
        (body_with({"payload": {"n": MAX_WHOLE + 1}}), "payload.n"),
        (body_with({"payload": {"process": "\ud800"}}), "body"),
        (body_with({"expect": {"pid": 1}}), "expect"),
        (body_with({"expect": {"pid": True, "create_time_ms": 1}}), "expect"),
        (body_with({"expect": {"pid": -1, "create_time_ms": 1}}), "expect"),
        (body_with({"expect": {"create_time_ms": 1, "pid": 1}}), "expect"),
        (body_with({"requested_by": "rita\u202e"}), "requested_by"),
        (body_with({"requested_by": ""}), "requested_by"),
        (body_with({"reason": ""}), "reason"),
        (body_with({"reason": "\u001b[31m"}), "reason"),
        (body_with({"created_at": "2026-01-01"}), "created_at"),
        (body_with({"created_at": 0}), "created_at"),
        (body_with({"expires_at": LAST_SECOND + 1}), "expires_at"),
        (body_with({"expires_at": 1_760_000_000}), "expires_at"),
        (body_with({"nonce": "B" * 22}), "nonce"),
        (body_with({"policy": "none"}), "policy"),
    ],
)
def test_bytes_that_are_no_envelope_are_refused_naming_the_field(body: bytes, field: str) -> None:
    with pytest.raises(BadEnvelope) as refused:
        parse_envelope(body)

    assert refused.value.field == field
    assert refused.value.code == "bad_envelope"
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


def test_what_would_be_refused_is_not_built() -> None:
    with pytest.raises(BadEnvelope, match="whole numbers only"):
        build_envelope(envelope(payload={"share": 0.5}))
    with pytest.raises(BadEnvelope, match="at most 8192 bytes"):
        build_envelope(envelope(payload={"text": "x" * MAX_ENVELOPE_BYTES}))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
NAMES = TEXTS.filter(lambda text: 0 < len(text) <= 128 and text.isprintable())
WHOLES = st.integers(-MAX_WHOLE, MAX_WHOLE)
ENVELOPES = st.builds(
    envelope,
    command_id=st.from_regex(r"[!-~]{1,64}", fullmatch=True),
    agent_epoch=st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    payload=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True), TEXTS | WHOLES | st.booleans(), max_size=5
    ),
    expect=st.none() | st.builds(Expected, *[st.none() | st.integers(0, MAX_WHOLE)] * 2),
    requested_by=NAMES,
    reason=st.none() | NAMES,
    policy=st.sampled_from(EnvelopePolicy),
)


@given(ENVELOPES)
@settings(deadline=None)
def test_what_is_built_is_read_back_the_same(made: Envelope) -> None:
    assert parse_envelope(build_envelope(made)) == made


@given(ENVELOPES, st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_changed_bytes_are_refused_or_are_another_envelope_written_the_one_way(made: Envelope, data: Any) -> None:
    body = bytearray(build_envelope(made))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    try:
        read = parse_envelope(bytes(body))
    except BadEnvelope:
        return

    assert build_envelope(read) == bytes(body)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_read_or_refused_and_nothing_else(body: bytes) -> None:
    with pytest.raises(BadEnvelope):
        parse_envelope(body)


def test_a_signed_envelope_travels_unchanged() -> None:
    sealed = signed(envelope(), key_file("alice"), passkey("bob"))

    assert read_signed_envelope(json.loads(json.dumps(signed_envelope_shape(sealed)))) == sealed


SHAPE = signed_envelope_shape(signed(envelope(), key_file("alice")))
SIGNATURE = SHAPE["signatures"][0]


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (None, "envelope"),
        ("text", "envelope"),
        ([SHAPE], "envelope"),
        ({}, "payload_type"),
        (SHAPE | {"extra": 1}, "envelope"),
        (SHAPE | {"payload_type": "application/json"}, "payload_type"),
        (SHAPE | {"body": ""}, "body"),
        (SHAPE | {"body": 7}, "body"),
        (SHAPE | {"body": SHAPE["body"] + "="}, "body"),
        (SHAPE | {"body": "ab+/"}, "body"),
        (SHAPE | {"body": "QQ\n"}, "body"),
        (SHAPE | {"body": "QR"}, "body"),
        (SHAPE | {"body": "é"}, "body"),
        (SHAPE | {"body": "A" * 20_000}, "body"),
        (SHAPE | {"body": encode_base64url(b"x" * (MAX_ENVELOPE_BYTES + 1))}, "body"),
        (SHAPE | {"signatures": None}, "signatures"),
        (SHAPE | {"signatures": [SIGNATURE] * (MAX_SIGNATURES + 1)}, "signatures"),
        (SHAPE | {"signatures": ["x"]}, "signatures"),
        (SHAPE | {"signatures": [SIGNATURE | {"kind": "rsa"}]}, "kind"),
        (SHAPE | {"signatures": [SIGNATURE | {"kind": ["ed25519"]}]}, "kind"),
        (SHAPE | {"signatures": [SIGNATURE | {"kind": "webauthn"}]}, "client_data_json"),
        (SHAPE | {"signatures": [SIGNATURE | {"client_data_json": "e30"}]}, "signatures"),
        (SHAPE | {"signatures": [SIGNATURE | {"key_id": ""}]}, "key_id"),
        (SHAPE | {"signatures": [SIGNATURE | {"sig": "A" * 3_000}]}, "sig"),
        (SHAPE | {"signatures": [SIGNATURE | {"sig": None}]}, "sig"),
    ],
)
def test_what_travels_is_bounded_and_strict(raw: object, field: str) -> None:
    with pytest.raises(BadEnvelope) as refused:
        read_signed_envelope(raw)

    assert refused.value.field == field
