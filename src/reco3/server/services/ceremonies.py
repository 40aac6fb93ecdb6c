"""The ceremonies of passkeys, as the `webauthn` package checks them; everything that comes in is hostile.

The package is imported where it is used: it takes 25 MB, and many servers never meet a passkey.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reco3.server.domain.keys import Assertion, Attestation, OperatorKey, Site

ALGORITHMS = (-7, -8)
TIMEOUT_MS = 5 * 60 * 1000
_MAX_BYTES = 16 * 1024


class CeremonyRefused(Exception):
    """An attestation or assertion that does not hold; the message says why, for the log and the person."""


@dataclass(frozen=True, slots=True)
class RegisteredPasskey:
    """A new passkey: its public key as PCs pin it, and how often it says that it has signed."""

    credential_id: str
    public_key: str
    sign_count: int


def creation_options(owner: str, challenge: bytes, rp_id: str, *, known: Sequence[str]) -> str:
    """What the page hands to `navigator.credentials.create`, as JSON."""
    from webauthn import generate_registration_options, options_to_json  # noqa: PLC0415 - 25 MB
    from webauthn.helpers.cose import COSEAlgorithmIdentifier  # noqa: PLC0415
    from webauthn.helpers.structs import (  # noqa: PLC0415
        AuthenticatorSelectionCriteria,
        PublicKeyCredentialDescriptor,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    options = generate_registration_options(
        rp_id=rp_id,
        rp_name="RECO3",
        user_name=owner,
        # The same person's new passkey replaces the old one in an authenticator only under one opaque id.
        user_id=hashlib.sha256(f"reco3 operator {owner}".encode()).digest(),
        challenge=challenge,
        timeout=TIMEOUT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=from_base64url(one)) for one in known],
        supported_pub_key_algs=[COSEAlgorithmIdentifier(number) for number in ALGORITHMS],
    )
    return options_to_json(options)


def request_options(challenge: bytes, rp_id: str) -> str:
    """What the page hands to `navigator.credentials.get`, as JSON: any passkey of this site will do."""
    from webauthn import generate_authentication_options, options_to_json  # noqa: PLC0415 - 25 MB
    from webauthn.helpers.structs import UserVerificationRequirement  # noqa: PLC0415

    return options_to_json(
        generate_authentication_options(
            rp_id=rp_id,
            challenge=challenge,
            timeout=TIMEOUT_MS,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
    )


def registered(attestation: Attestation, challenge: bytes, site: Site) -> RegisteredPasskey:
    """The passkey that an attestation brings, when a person was verified under this very address.

    Raises:
        CeremonyRefused: it does not hold.
    """
    from webauthn import verify_registration_response  # noqa: PLC0415 - 25 MB
    from webauthn.helpers.cose import COSEAlgorithmIdentifier  # noqa: PLC0415
    from webauthn.helpers.structs import (  # noqa: PLC0415
        AuthenticatorAttestationResponse,
        RegistrationCredential,
    )

    _refuse_foreign_frame(attestation.client_data_json)
    _refuse_large(attestation.attestation_object)
    response = AuthenticatorAttestationResponse(attestation.client_data_json, attestation.attestation_object)
    try:
        _refuse_other_formats(attestation.attestation_object)
        verified = verify_registration_response(
            credential=RegistrationCredential(
                id=to_base64url(attestation.credential_id), raw_id=attestation.credential_id, response=response
            ),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            require_user_verification=True,
            supported_pub_key_algs=[COSEAlgorithmIdentifier(number) for number in ALGORITHMS],
        )
        if verified.credential_id != attestation.credential_id:
            raise CeremonyRefused("the credential's two ids differ")
        public_key = _spki_of(verified.credential_public_key)
    except _hostile() as err:
        raise CeremonyRefused(str(err) or type(err).__name__) from err
    return RegisteredPasskey(to_base64url(verified.credential_id), public_key, verified.sign_count)


def asserted(assertion: Assertion, key: OperatorKey, challenge: bytes) -> int:
    """How often the authenticator says that it has signed, when this passkey's person was verified.

    Raises:
        CeremonyRefused: it does not hold.
    """
    from webauthn import verify_authentication_response  # noqa: PLC0415 - 25 MB
    from webauthn.helpers.structs import (  # noqa: PLC0415
        AuthenticationCredential,
        AuthenticatorAssertionResponse,
    )

    _refuse_foreign_frame(assertion.client_data_json)
    response = AuthenticatorAssertionResponse(
        assertion.client_data_json, assertion.authenticator_data, assertion.signature
    )
    try:
        verified = verify_authentication_response(
            credential=AuthenticationCredential(
                id=to_base64url(assertion.credential_id), raw_id=assertion.credential_id, response=response
            ),
            expected_challenge=challenge,
            expected_rp_id=key.rp_id or "",
            expected_origin=key.origin or "",
            credential_public_key=_cose_of(key.public_key),
            # Counting backwards is noticed by who calls: synchronised passkeys do not count at all.
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except _hostile() as err:
        raise CeremonyRefused(str(err) or type(err).__name__) from err
    return verified.new_sign_count


def challenge_in(assertion: Assertion) -> bytes:
    """The challenge that an assertion says it answers.

    Raises:
        CeremonyRefused: it names none.
    """
    text = _client_data(assertion.client_data_json).get("challenge")
    if not isinstance(text, str):
        raise CeremonyRefused("the client data names no challenge")
    try:
        return from_base64url(text)
    except ValueError as err:
        raise CeremonyRefused("the client data's challenge is no base64url") from err


def to_base64url(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    """The bytes of base64url without padding.

    Raises:
        ValueError: it is none.
    """
    if not text.isascii():
        raise ValueError("not ASCII")
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if to_base64url(raw) != text:
        raise ValueError("not the one spelling of these bytes")
    return raw


def _client_data(raw: bytes) -> dict[str, Any]:
    _refuse_large(raw)
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as err:
        raise CeremonyRefused("the client data are no JSON") from err
    if not isinstance(found, dict):
        raise CeremonyRefused("the client data are no JSON object")
    return found


def _refuse_foreign_frame(client_data_json: bytes) -> None:
    # The package does not look at it: https://www.w3.org/TR/webauthn-3/#dom-collectedclientdata-crossorigin
    if _client_data(client_data_json).get("crossOrigin", False) is not False:
        raise CeremonyRefused("it was asked for inside a frame of another site")


def _refuse_large(raw: bytes) -> None:
    if len(raw) > _MAX_BYTES:
        raise CeremonyRefused(f"expected at most {_MAX_BYTES} bytes")


def _refuse_other_formats(attestation_object: bytes) -> None:
    # We ask for no attestation; the parsers of the formats with certificates need not meet strangers.
    from webauthn.helpers import parse_attestation_object  # noqa: PLC0415 - 25 MB

    parsed = parse_attestation_object(attestation_object)
    if parsed.fmt.value not in ("none", "packed") or parsed.att_stmt.x5c:
        raise CeremonyRefused(f"expected no attestation, got {parsed.fmt.value}")


def _spki_of(cose: bytes) -> str:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415
    from webauthn.helpers import decode_credential_public_key, decoded_public_key_to_cryptography  # noqa: PLC0415

    key = decoded_public_key_to_cryptography(decode_credential_public_key(cose))
    is_p256 = isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    if not is_p256 and not isinstance(key, Ed25519PublicKey):
        raise CeremonyRefused("expected a key of P-256 or Ed25519")
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def _cose_of(public_key: str) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415
    from webauthn.helpers import encode_cbor  # noqa: PLC0415

    key = load_der_public_key(base64.b64decode(public_key))
    if isinstance(key, Ed25519PublicKey):
        return encode_cbor({1: 1, 3: -8, -1: 6, -2: key.public_bytes_raw()})
    if not isinstance(key, EllipticCurvePublicKey):
        raise CeremonyRefused("the stored key is of no kind that a passkey has")
    numbers = key.public_numbers()
    return encode_cbor({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")})


def _hostile() -> tuple[type[Exception], ...]:
    """What the package and the parsers below it raise on bytes that are none of theirs."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415
    from webauthn.helpers.exceptions import WebAuthnException  # noqa: PLC0415

    of_bytes = (ValueError, LookupError, TypeError, AttributeError, EOFError, OverflowError, RecursionError)
    return (WebAuthnException, InvalidSignature, UnsupportedAlgorithm, binascii.Error, *of_bytes)
