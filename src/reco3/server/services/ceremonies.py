"""The registration of a passkey, as the `webauthn` package checks it; everything that comes in is hostile.

The package is imported where it is used: it takes 25 MB, and many servers never meet a new passkey.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reco3.protocol.envelope import decode_base64url, encode_base64url
from reco3.server.domain.keys import Attestation, Site
from reco3.signing.pins import key_text

ALGORITHMS = (-7, -8)
TIMEOUT_MS = 5 * 60 * 1000
_MAX_BYTES = 16 * 1024


class AttestationRefused(Exception):
    """An attestation that does not hold; the message says why."""


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """A new passkey: its public key as PCs pin it, and how often it says that it has signed."""

    credential_id: str
    public_key: str
    sign_count: int


def creation_options(owner: str, challenge: bytes, rp_id: str, *, known: Sequence[str]) -> str:
    """What the page hands to `navigator.credentials.create`, as JSON; `known` are passkeys not to be made twice."""
    from webauthn import generate_registration_options, options_to_json  # noqa: PLC0415 - 25 MB
    from webauthn.helpers.cose import COSEAlgorithmIdentifier  # noqa: PLC0415 - as above
    from webauthn.helpers.structs import (  # noqa: PLC0415 - as above
        AuthenticatorSelectionCriteria,
        PublicKeyCredentialDescriptor,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    options = generate_registration_options(
        rp_id=rp_id,
        rp_name="RECO3",
        user_name=owner,
        # Opaque, and always the same for one person, as authenticators expect it.
        user_id=hashlib.sha256(f"reco3 operator {owner}".encode()).digest(),
        challenge=challenge,
        timeout=TIMEOUT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=decode_base64url(one)) for one in known],
        supported_pub_key_algs=[COSEAlgorithmIdentifier(number) for number in ALGORITHMS],
    )
    return options_to_json(options)


def attested(attestation: Attestation, challenge: bytes, site: Site) -> NewPasskey:
    """The passkey that an attestation brings, when a person was verified under this very address.

    Raises:
        AttestationRefused: it does not hold.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from webauthn.helpers.exceptions import WebAuthnException  # noqa: PLC0415 - as above

    _refuse_foreign_frame(attestation.client_data_json)
    try:
        _refuse_other_formats(attestation.attestation_object)
        verified = _verified(attestation, challenge, site)
        public_key = _public_key_info(verified.credential_public_key)
    except (WebAuthnException, InvalidSignature, UnsupportedAlgorithm, *_HOSTILE) as err:
        raise AttestationRefused(ascii(str(err))[1:-1][:200] or type(err).__name__) from err
    if verified.credential_id != attestation.credential_id:
        raise AttestationRefused("its two ids differ")
    return NewPasskey(encode_base64url(verified.credential_id), public_key, verified.sign_count)


def _verified(attestation: Attestation, challenge: bytes, site: Site) -> Any:
    from webauthn import verify_registration_response  # noqa: PLC0415 - 25 MB
    from webauthn.helpers.cose import COSEAlgorithmIdentifier  # noqa: PLC0415 - as above
    from webauthn.helpers.structs import (  # noqa: PLC0415 - as above
        AuthenticatorAttestationResponse,
        RegistrationCredential,
    )

    return verify_registration_response(
        credential=RegistrationCredential(
            id=encode_base64url(attestation.credential_id),
            raw_id=attestation.credential_id,
            response=AuthenticatorAttestationResponse(
                client_data_json=attestation.client_data_json, attestation_object=attestation.attestation_object
            ),
        ),
        expected_challenge=challenge,
        expected_rp_id=site.require_rp_id(),
        expected_origin=site.origin,
        require_user_verification=True,
        supported_pub_key_algs=[COSEAlgorithmIdentifier(number) for number in ALGORITHMS],
    )


def _refuse_foreign_frame(client_data_json: bytes) -> None:
    # The package does not look at it: https://www.w3.org/TR/webauthn-3/#dom-collectedclientdata-crossorigin
    try:
        said = json.loads(client_data_json)
    except (ValueError, RecursionError) as err:
        raise AttestationRefused("its client data are no JSON") from err
    if not isinstance(said, dict) or said.get("crossOrigin", False) is not False or "topOrigin" in said:
        raise AttestationRefused("it was made within the page of somebody else")


def _refuse_other_formats(attestation_object: bytes) -> None:
    # We ask for no attestation, so the parsers of the formats with certificates need not meet strangers.
    from webauthn.helpers import parse_attestation_object  # noqa: PLC0415 - 25 MB

    if len(attestation_object) > _MAX_BYTES:
        raise AttestationRefused(f"expected at most {_MAX_BYTES} bytes")
    parsed = parse_attestation_object(attestation_object)
    if parsed.fmt not in ("none", "packed") or parsed.att_stmt.x5c:
        raise AttestationRefused(f"expected no certificates, got the format {ascii(parsed.fmt)[:40]}")


def _public_key_info(cose_key: bytes) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - as above
    from webauthn.helpers import (  # noqa: PLC0415 - as above
        decode_credential_public_key,
        decoded_public_key_to_cryptography,
    )

    key = decoded_public_key_to_cryptography(decode_credential_public_key(cose_key))
    return key_text(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


# What parsers raise on bytes that are none of theirs.
_HOSTILE = (ValueError, LookupError, TypeError, AttributeError, EOFError, OverflowError, RecursionError)
