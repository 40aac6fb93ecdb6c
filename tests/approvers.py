"""Approvers in software: what a key file, a passkey's device and a browser's key sign, right or wrong on purpose."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from reco3.protocol.envelope import (
    PAYLOAD_TYPE,
    Envelope,
    Expected,
    KeyKind,
    Signature,
    SignedEnvelope,
    build_envelope,
    encode_base64url,
    pre_authentication_encoding,
)
from reco3.signing.pins import Pin, host_of, key_id
from reco3.signing.verifying import challenge_of

ORIGIN = "http://localhost:5001"
PRESENT_AND_VERIFIED = 0x05
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Approver:
    """Somebody with one key; `origin` is where a key in a browser lives."""

    owner: str
    kind: KeyKind = KeyKind.ED25519
    private_key: PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    origin: str | None = None

    @property
    def pin(self) -> Pin:
        return Pin(self.owner, self.kind, self.public_key, self.origin)

    @property
    def public_key(self) -> bytes:
        public = self.private_key.public_key()
        if self.kind is KeyKind.ED25519:
            return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, body: bytes, payload_type: str = PAYLOAD_TYPE, **oddities: Any) -> Signature:
        """Sign an envelope's bytes; `oddities` are those of `assertion`."""
        pae = pre_authentication_encoding(payload_type, body)
        if self.kind is KeyKind.WEBAUTHN:
            return self.assertion(pae, **oddities)
        return Signature(self.kind, key_id(self.public_key), self._signed(pae, is_raw=True))

    def assertion(
        self,
        pae: bytes,
        *,
        flags: int = PRESENT_AND_VERIFIED,
        rp_id: str | None = None,
        client_data: Mapping[str, object] | bytes | None = None,
    ) -> Signature:
        """What a passkey's device answers; `client_data` is laid over what a browser would say, or replaces it."""
        assert self.origin is not None
        said: dict[str, object] = {
            "type": "webauthn.get",
            "challenge": encode_base64url(challenge_of(pae)),
            "origin": self.origin,
            "crossOrigin": False,
        }
        if isinstance(client_data, bytes):
            client = client_data
        else:
            client = json.dumps(said | dict(client_data or {}), separators=(",", ":")).encode()
        rp_hash = hashlib.sha256((rp_id or host_of(self.origin)).encode()).digest()
        device = rp_hash + bytes([flags]) + (7).to_bytes(4, "big")
        signature = self._signed(device + hashlib.sha256(client).digest(), is_raw=False)
        return Signature(self.kind, key_id(self.public_key), signature, client, device)

    def _signed(self, message: bytes, *, is_raw: bool) -> bytes:
        if isinstance(self.private_key, ed25519.Ed25519PrivateKey):
            return self.private_key.sign(message)
        der = self.private_key.sign(message, ec.ECDSA(SHA256()))
        if not is_raw:
            return der
        return b"".join(part.to_bytes(32, "big") for part in decode_dss_signature(der))


def key_file(owner: str) -> Approver:
    return Approver(owner)


def passkey(owner: str, origin: str = ORIGIN) -> Approver:
    return Approver(owner, KeyKind.WEBAUTHN, ec.generate_private_key(ec.SECP256R1()), origin)


def ed25519_passkey(owner: str, origin: str = ORIGIN) -> Approver:
    return Approver(owner, KeyKind.WEBAUTHN, ed25519.Ed25519PrivateKey.generate(), origin)


def browser_key(owner: str, origin: str = "http://127.0.0.1:5001") -> Approver:
    return Approver(owner, KeyKind.WEBCRYPTO, ec.generate_private_key(ec.SECP256R1()), origin)


def ed25519_browser_key(owner: str, origin: str = "http://127.0.0.1:5001") -> Approver:
    return Approver(owner, KeyKind.WEBCRYPTO, ed25519.Ed25519PrivateKey.generate(), origin)


EVERY_KIND = (key_file, passkey, ed25519_passkey, browser_key, ed25519_browser_key)


def envelope(**fields: Any) -> Envelope:
    """An envelope that is right; a test names only what matters."""
    usual: dict[str, Any] = {
        "fleet_id": "AAAAAAAAAAAAAAAAAAAAAA",
        "command_id": "c-1",
        "agent_id": "pc-001",
        "agent_epoch": None,
        "type": "RESTART_PROCESS",
        "payload": {"process": "nginx"},
        "expect": Expected(4242, 1_760_000_000_123),
        "requested_by": "rita",
        "reason": None,
        "created_at": 1_760_000_000,
        "expires_at": 1_760_000_900,
        "nonce": "BBBBBBBBBBBBBBBBBBBBBA",
    }
    return Envelope(**usual | fields)


def signed(made: Envelope, *approvers: Approver) -> SignedEnvelope:
    """An envelope with the signatures of all of them."""
    body = build_envelope(made)
    return SignedEnvelope(PAYLOAD_TYPE, body, tuple(one.sign(body) for one in approvers))
