"""An authenticator in software: it makes passkeys and signs with them, as a phone or a security key would.

Each flag, origin and counter is an argument, so that a test can also be a broken or a malicious one.
It speaks what browsers send (`PublicKeyCredential.toJSON()`) and what a signed approval carries.
"""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from webauthn.helpers import encode_cbor

ES256 = -7
EDDSA = -8
USER_PRESENT = 0x01
USER_VERIFIED = 0x04
HAS_CREDENTIAL = 0x40
PERSON = USER_PRESENT | USER_VERIFIED
ORIGIN = "http://localhost:5001"

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def b64url(raw: bytes) -> str:
    """Base64url without padding, as browsers write it."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def from_b64url(text: str) -> bytes:
    """The bytes of base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class SoftAuthenticator:
    """One passkey: `create` registers it, `get` logs in with it, `approve` signs a command."""

    algorithm: int = ES256
    rp_id: str = "localhost"
    origin: str = ORIGIN
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    sign_count: int = 0
    private_key: PrivateKey = field(init=False)

    def __post_init__(self) -> None:
        self.private_key = new_key(self.algorithm)

    @property
    def public_key(self) -> str:
        """The SubjectPublicKeyInfo in base64, as PCs pin it."""
        return spki(self.private_key)

    def create(
        self,
        challenge: str,
        *,
        flags: int = PERSON,
        origin: str | None = None,
        rp_id: str | None = None,
        client_type: str = "webauthn.create",
        **client_data: Any,
    ) -> dict[str, Any]:
        """The answer to `navigator.credentials.create` for a challenge in base64url."""
        client = self._client_data(client_type, challenge, origin, client_data)
        credential = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id
        data = self._authenticator_data(flags | HAS_CREDENTIAL, rp_id) + credential + encode_cbor(self.cose_key())
        attestation = encode_cbor({"fmt": "none", "attStmt": {}, "authData": data})
        response = {"clientDataJSON": b64url(client), "attestationObject": b64url(attestation)}
        return self._credential(response)

    def get(
        self,
        challenge: str,
        *,
        flags: int = PERSON,
        origin: str | None = None,
        rp_id: str | None = None,
        client_type: str = "webauthn.get",
        **client_data: Any,
    ) -> dict[str, Any]:
        """The answer to `navigator.credentials.get` for a challenge in base64url."""
        client = self._client_data(client_type, challenge, origin, client_data)
        data = self._authenticator_data(flags, rp_id)
        signature = self._sign(data + hashlib.sha256(client).digest())
        return self._credential(
            {
                "clientDataJSON": b64url(client),
                "authenticatorData": b64url(data),
                "signature": b64url(signature),
                "userHandle": None,
            }
        )

    def approve(self, signed_bytes: bytes, *, key_id: str = "", **options: Any) -> dict[str, str]:
        """A signature of kind `webauthn` over a pre-authentication encoding, as an approval carries it."""
        answer = self.get(b64url(hashlib.sha256(signed_bytes).digest()), **options)["response"]
        return {
            "kind": "webauthn",
            "key_id": key_id,
            "sig": answer["signature"],
            "client_data_json": answer["clientDataJSON"],
            "authenticator_data": answer["authenticatorData"],
        }

    def cose_key(self) -> dict[int, Any]:
        """The public key as an authenticator writes it (RFC 9052)."""
        public = self.private_key.public_key()
        if isinstance(public, ed25519.Ed25519PublicKey):
            return {1: 1, 3: EDDSA, -1: 6, -2: public.public_bytes_raw()}
        numbers = public.public_numbers()
        size = (public.curve.key_size + 7) // 8
        return {1: 2, 3: ES256, -1: 1, -2: numbers.x.to_bytes(size, "big"), -3: numbers.y.to_bytes(size, "big")}

    def _client_data(self, client_type: str, challenge: str, origin: str | None, more: dict[str, Any]) -> bytes:
        fields = {"type": client_type, "challenge": challenge, "origin": origin or self.origin, "crossOrigin": False}
        return json.dumps({**fields, **more}, separators=(",", ":")).encode()

    def _authenticator_data(self, flags: int, rp_id: str | None) -> bytes:
        rp_hash = hashlib.sha256((rp_id or self.rp_id).encode()).digest()
        return rp_hash + bytes([flags]) + self.sign_count.to_bytes(4, "big")

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        name = b64url(self.credential_id)
        return {"id": name, "rawId": name, "type": "public-key", "response": response, "clientExtensionResults": {}}

    def _sign(self, data: bytes) -> bytes:
        if isinstance(self.private_key, ed25519.Ed25519PrivateKey):
            return self.private_key.sign(data)
        return self.private_key.sign(data, ec.ECDSA(SHA256()))


def new_key(algorithm: int = ES256) -> PrivateKey:
    """A fresh private key of P-256 or Ed25519."""
    return ed25519.Ed25519PrivateKey.generate() if algorithm == EDDSA else ec.generate_private_key(ec.SECP256R1())


def spki(private_key: PrivateKey) -> str:
    """The public half's SubjectPublicKeyInfo in base64."""
    raw = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(raw).decode()
