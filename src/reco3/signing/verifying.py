"""Says whether one signature over an envelope is by one pinned key.

It refuses whatever it cannot make out and never raises: what is checked here comes from whoever controls the server.
Sources: RFC 8032; FIPS 186-5; https://www.w3.org/TR/webauthn-3/#sctn-verifying-assertion.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from reco3.protocol.envelope import KeyKind, Signature, encode_base64url
from reco3.signing.pins import ED25519_KEY_BYTES, Pin, host_of, is_p256, key_id

P256_COORDINATE_BYTES = 32
P256_INFO_HEAD_BYTES = 26
AUTHENTICATOR_DATA_BYTES = 37
_RP_ID_HASH_BYTES = 32
_USER_PRESENT = 0x01
_USER_VERIFIED = 0x04


@dataclass(frozen=True, slots=True)
class Verified:
    """The pinned key signed these bytes; `sign_count` is what a passkey's device counts, 0 where it does not."""

    owner: str
    key_id: str
    sign_count: int | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """It did not, or not in a way that counts.

    `code` is one of bad_signature, bad_key, wrong_challenge, wrong_origin and user_not_verified.
    """

    code: str
    reason: str


def verify_signature(pin: Pin, signature: Signature, pae: bytes) -> Verified | Rejected:
    """Verify one signature over the pre-authentication encoding `pae`."""
    if signature.kind is not pin.kind:
        return Rejected("bad_signature", f"it says it is by a {signature.kind} key, the key is {pin.kind}")
    if pin.kind is KeyKind.WEBAUTHN:
        return _verify_assertion(pin, signature, pae)
    return _verify_bytes(pin, signature.sig, pae) or Verified(pin.owner, key_id(pin.key))


def check_key(pin: Pin) -> Rejected | None:
    """Say whether a pinned key is one at all: bytes of the right form need not be a point of the curve."""
    try:
        _p256_key(pin.key) if is_p256(pin.key) else _ed25519_key(pin.key)
    except ValueError:
        return Rejected("bad_key", f"the key of {pin.owner} is no point of its curve")
    return None


def challenge_of(pae: bytes) -> bytes:
    """What a passkey is asked to sign."""
    return hashlib.sha256(pae).digest()


def _verify_assertion(pin: Pin, signature: Signature, pae: bytes) -> Verified | Rejected:
    client, device = signature.client_data_json, signature.authenticator_data
    if client is None or device is None or pin.origin is None:
        return Rejected("bad_signature", "client_data_json and authenticator_data: expected with a passkey's signature")
    wrong = _wrong_client_data(client, pin.origin, pae) or _wrong_device_data(device, pin.origin)
    if wrong is None:
        wrong = _verify_bytes(pin, signature.sig, device + hashlib.sha256(client).digest())
    return wrong or Verified(pin.owner, key_id(pin.key), int.from_bytes(device[33:AUTHENTICATOR_DATA_BYTES], "big"))


def _wrong_client_data(client: bytes, origin: str, pae: bytes) -> Rejected | None:
    try:
        said = json.loads(client.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        return Rejected("bad_signature", "client_data_json: expected a JSON object in UTF-8, each key once")
    if not isinstance(said, dict) or said.get("type") != "webauthn.get":
        return Rejected("bad_signature", "client_data_json: expected an object whose type is webauthn.get")
    challenge = said.get("challenge")
    expected = encode_base64url(challenge_of(pae))
    if not isinstance(challenge, str) or not hmac.compare_digest(
        challenge.encode("utf-8", "replace"), expected.encode()
    ):
        return Rejected("wrong_challenge", "the passkey signed something else than this command")
    if said.get("origin") != origin:
        return Rejected("wrong_origin", f"the passkey was used at {ascii(said.get('origin'))[:80]}, expected {origin}")
    if said.get("crossOrigin", False) is not False or "topOrigin" in said:
        return Rejected("wrong_origin", "the passkey was used within the page of somebody else")
    return None


def _wrong_device_data(device: bytes, origin: str) -> Rejected | None:
    if len(device) < AUTHENTICATOR_DATA_BYTES:
        return Rejected("bad_signature", f"authenticator_data: expected at least {AUTHENTICATOR_DATA_BYTES} bytes")
    expected = hashlib.sha256(host_of(origin).encode("ascii")).digest()
    if not hmac.compare_digest(device[:_RP_ID_HASH_BYTES], expected):
        return Rejected("wrong_origin", f"the passkey is one for another address than {host_of(origin)}")
    flags = device[_RP_ID_HASH_BYTES]
    if not flags & _USER_PRESENT or not flags & _USER_VERIFIED:
        return Rejected("user_not_verified", "the passkey did not check who used it (fingerprint, face or PIN)")
    return None


def _verify_bytes(pin: Pin, sig: bytes, message: bytes) -> Rejected | None:
    """Verify the bare signature; P-256 is DER from a passkey, and r‖s from a browser's own key."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an idle agent must not carry this
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415 - likewise
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - likewise

    try:
        if is_p256(pin.key):
            der = sig if pin.kind is KeyKind.WEBAUTHN else _as_der(sig)
            _p256_key(pin.key).verify(der, message, ECDSA(SHA256()))
        else:
            _ed25519_key(pin.key).verify(sig, message)
    except InvalidSignature:
        return Rejected("bad_signature", f"the signature is not by the key of {pin.owner} over this command")
    except (ValueError, TypeError, OverflowError) as error:
        return Rejected("bad_signature", f"the signature cannot be read: {ascii(str(error))[:120]}")
    return None


def _as_der(sig: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415 - as above

    if len(sig) != 2 * P256_COORDINATE_BYTES:
        raise ValueError(f"expected {2 * P256_COORDINATE_BYTES} bytes, got {len(sig)}")
    r, s = (int.from_bytes(half, "big") for half in (sig[:P256_COORDINATE_BYTES], sig[P256_COORDINATE_BYTES:]))
    return encode_dss_signature(r, s)


def _p256_key(key: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ec import (  # noqa: PLC0415 - as above
        SECP256R1,
        EllipticCurvePublicKey,
    )

    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), key[P256_INFO_HEAD_BYTES:])


def _ed25519_key(key: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above

    return Ed25519PublicKey.from_public_bytes(key[-ED25519_KEY_BYTES:])


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is there twice")
    return fields
