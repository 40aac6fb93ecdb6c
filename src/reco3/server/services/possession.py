"""Possession: a signature that shows that who registers a public key holds its private half.

Signed is not the bare challenge but the DSSE encoding of it under a type of its own, so that no answer to a challenge
can ever be the signature of a command, whatever bytes a hacked server calls a challenge.
"""

import base64
import binascii
from typing import TYPE_CHECKING

from reco3.server.domain.errors import BadInput
from reco3.server.domain.keys import KeyKind

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PROOF_TYPE = "application/vnd.reco3.key-proof.v1"
_ED25519_BYTES = 32
_SIGNATURE_BYTES = 64
_MAX_KEY_CHARS = 1024


def signed_bytes(challenge: bytes) -> bytes:
    """What a key signs to prove that it is held: `DSSEv1 SP len(type) SP type SP len(body) SP body`."""
    kind = PROOF_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(challenge), challenge)


def canonical_key(kind: KeyKind, public_key: str) -> str:
    """The public key in base64 as PCs pin it.

    Raises:
        BadInput: `bad_key`, it is none of this kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - rarely needed, and large

    try:
        raw = base64.b64decode(public_key[:_MAX_KEY_CHARS], validate=True)
        fresh = _public_bytes(kind, raw)
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as err:
        raise _bad_key(kind) from err
    if fresh != raw:
        raise _bad_key(kind)
    return base64.b64encode(raw).decode()


def check_possession(kind: KeyKind, public_key: str, *, proof: bytes, challenge: bytes) -> None:
    """Refuse a public key whose private half did not sign this challenge.

    Raises:
        BadInput: `bad_proof`.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - rarely needed, and large

    try:
        _verify(kind, base64.b64decode(public_key), proof, signed_bytes(challenge))
    except (InvalidSignature, ValueError) as err:
        raise BadInput(
            "proof", f"expected 64 bytes by this key over the challenge encoded as {PROOF_TYPE}", code="bad_proof"
        ) from err


def _public_bytes(kind: KeyKind, raw: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    if kind is KeyKind.ED25519:
        return Ed25519PublicKey.from_public_bytes(raw).public_bytes_raw()
    return _browser_key(raw).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _verify(kind: KeyKind, raw: bytes, proof: bytes, message: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    if len(proof) != _SIGNATURE_BYTES:
        raise ValueError("not the length of a signature")
    key = Ed25519PublicKey.from_public_bytes(raw) if kind is KeyKind.ED25519 else _browser_key(raw)
    if isinstance(key, EllipticCurvePublicKey):
        r, s = int.from_bytes(proof[:32], "big"), int.from_bytes(proof[32:], "big")
        key.verify(encode_dss_signature(r, s), message, ECDSA(SHA256()))
    else:
        key.verify(proof, message)


def _browser_key(raw: bytes) -> "EllipticCurvePublicKey | Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415

    key = load_der_public_key(raw)
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key
    raise ValueError("neither P-256 nor Ed25519")


def _bad_key(kind: KeyKind) -> BadInput:
    expected = "32 bytes" if kind is KeyKind.ED25519 else "a SubjectPublicKeyInfo of P-256 or Ed25519"
    return BadInput("public_key", f"expected {expected} in base64", code="bad_key")
