"""One signature, one key: what counts, what does not, and that nothing at all makes it raise."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approvers import EVERY_KIND, Approver, browser_key, envelope, key_file, passkey
from builders import DATA
from reco3.protocol.envelope import (
    PAYLOAD_TYPE,
    KeyKind,
    Signature,
    build_envelope,
    pre_authentication_encoding,
    read_signed_envelope,
)
from reco3.signing.pins import Pin, parse_pin
from reco3.signing.verifying import Rejected, Verified, check_key, verify_signature

VECTORS = json.loads((DATA / "envelope_vectors.json").read_text(encoding="utf-8"))
BODY = build_envelope(envelope())
PAE = pre_authentication_encoding(PAYLOAD_TYPE, BODY)
BOB = passkey("bob")


def code_of(outcome: Verified | Rejected) -> str:
    return "" if isinstance(outcome, Verified) else outcome.code


@pytest.mark.parametrize("vector", VECTORS["envelopes"], ids=lambda vector: vector["name"])
def test_every_golden_signature_is_verified_as_ever(vector: dict[str, Any]) -> None:
    signatures = read_signed_envelope(vector["envelope"]).signatures
    pae = bytes.fromhex(vector["pae_hex"])
    pins = [parse_pin(each["pin"]) for each in VECTORS["pins"]]

    outcomes = [verify_signature(pin, one, pae) for pin, one in zip(pins, signatures, strict=True)]

    assert [outcome.owner for outcome in outcomes if isinstance(outcome, Verified)] == [pin.owner for pin in pins]


@pytest.mark.parametrize("make", EVERY_KIND)
def test_a_signature_counts_for_its_key_and_its_bytes_alone(make: Any) -> None:
    approver, other = make("alice"), make("alice")
    signature = approver.sign(BODY)

    assert isinstance(verify_signature(approver.pin, signature, PAE), Verified)
    assert code_of(verify_signature(other.pin, signature, PAE)) == "bad_signature"
    assert code_of(verify_signature(approver.pin, signature, PAE + b" ")) in {"bad_signature", "wrong_challenge"}
    assert code_of(verify_signature(approver.pin, replace(signature, sig=signature.sig[:-1]), PAE)) == "bad_signature"
    assert code_of(verify_signature(approver.pin, replace(signature, sig=b""), PAE)) == "bad_signature"


def test_a_signature_of_another_kind_does_not_count() -> None:
    pin = browser_key("alice").pin
    assert code_of(verify_signature(pin, key_file("alice").sign(BODY), PAE)) == "bad_signature"


@pytest.mark.parametrize(
    ("oddities", "code"),
    [
        ({}, ""),
        ({"flags": 0x1D}, ""),
        ({"flags": 0x01}, "user_not_verified"),
        ({"flags": 0x04}, "user_not_verified"),
        ({"rp_id": "example.com"}, "wrong_origin"),
        ({"client_data": {"type": "webauthn.create"}}, "bad_signature"),
        ({"client_data": {"type": None}}, "bad_signature"),
        ({"client_data": {"challenge": "AAAA"}}, "wrong_challenge"),
        ({"client_data": {"challenge": "é"}}, "wrong_challenge"),
        ({"client_data": {"challenge": None}}, "wrong_challenge"),
        ({"client_data": {"origin": "http://localhost:5002"}}, "wrong_origin"),
        ({"client_data": {"origin": "http://localhost:5001/"}}, "wrong_origin"),
        ({"client_data": {"origin": None}}, "wrong_origin"),
        ({"client_data": {"crossOrigin": True}}, "wrong_origin"),
        ({"client_data": {"crossOrigin": 1}}, "wrong_origin"),
        ({"client_data": {"topOrigin": "https://evil.example"}}, "wrong_origin"),
        ({"client_data": {"other_keys_can_be_added_here": "as browsers do"}}, ""),
        ({"client_data": b"not json"}, "bad_signature"),
        ({"client_data": b"[]"}, "bad_signature"),
        ({"client_data": b"\xff"}, "bad_signature"),
        ({"client_data": b"[" * 4000}, "bad_signature"),
        ({"client_data": b'{"type":"webauthn.get","type":"webauthn.get"}'}, "bad_signature"),
    ],
)
def test_a_passkey_counts_only_when_it_says_the_right_things(oddities: dict[str, Any], code: str) -> None:
    assert code_of(verify_signature(BOB.pin, BOB.sign(BODY, **oddities), PAE)) == code


@pytest.mark.parametrize(
    "changes",
    [
        {"client_data_json": None},
        {"authenticator_data": None},
        {"authenticator_data": b""},
        {"authenticator_data": b"\0" * 36},
        {"sig": b"\x30\x00"},
        {"sig": b"\xff" * 512},
    ],
)
def test_a_passkeys_signature_that_is_incomplete_is_rejected(changes: dict[str, Any]) -> None:
    assert isinstance(verify_signature(BOB.pin, replace(BOB.sign(BODY), **changes), PAE), Rejected)


def test_a_key_that_is_no_point_of_its_curve_verifies_nothing() -> None:
    pin = Pin("bob", KeyKind.WEBAUTHN, BOB.public_key[:-1] + bytes([BOB.public_key[-1] ^ 1]), BOB.origin)

    assert code_of(verify_signature(pin, BOB.sign(BODY), PAE)) == "bad_signature"
    assert check_key(pin) is not None
    assert check_key(BOB.pin) is None


ANY_SIGNATURE = st.builds(
    Signature,
    st.sampled_from(KeyKind),
    st.just("x"),
    st.binary(max_size=80),
    st.none() | st.binary(max_size=80) | st.just(BOB.sign(BODY).client_data_json),
    st.none() | st.binary(max_size=80) | st.just(BOB.sign(BODY).authenticator_data),
)


@given(st.sampled_from([make("alice") for make in EVERY_KIND]), ANY_SIGNATURE)
@settings(deadline=None)
def test_whatever_comes_is_rejected_and_never_raises(approver: Approver, signature: Signature) -> None:
    assert isinstance(verify_signature(approver.pin, signature, PAE), Rejected)
