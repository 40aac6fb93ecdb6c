"""Possession: signatures that show that who brings a public key, or logs in with one, holds its private half."""

from reco3.protocol.envelope import KeyKind, Signature
from reco3.server.domain.errors import BadInput
from reco3.server.domain.keys import Assertion
from reco3.signing.pins import BadPin, Pin, make_pin
from reco3.signing.proofs import KEY_PROOF_TYPE, key_proof_bytes, log_in_bytes
from reco3.signing.verifying import Rejected, Verified, check_key, verify_signature


def own_pin(owner: str, kind: KeyKind, public_key: str, origin: str | None) -> Pin:
    """The pin of a key that somebody brings.

    Raises:
        BadInput: `bad_key`, it is none of this kind, or the page's address cannot be pinned.
    """
    try:
        pin = make_pin(owner, kind, public_key, origin)
    except BadPin as err:
        raise BadInput(
            "public_key" if err.field == "key" else err.field, f"expected {err.expected}", code="bad_key"
        ) from err
    if (wrong := check_key(pin)) is not None:
        raise BadInput("public_key", wrong.reason, code="bad_key")
    return pin


def check_proof(pin: Pin, proof: bytes, *, challenge: bytes) -> None:
    """Refuse a public key whose private half did not sign this challenge.

    Raises:
        BadInput: `bad_proof`.
    """
    verdict = verify_signature(pin, Signature(pin.kind, "", proof), key_proof_bytes(challenge))
    if isinstance(verdict, Rejected):
        raise BadInput(
            "proof", f"expected this key's signature over the challenge, encoded as {KEY_PROOF_TYPE}", code="bad_proof"
        )


def signed_count(pin: Pin, assertion: Assertion, *, random: bytes) -> int | None:
    """How often a passkey's device says that it has signed, or None when this is not its signature."""
    signature = Signature(
        KeyKind.WEBAUTHN, "", assertion.signature, assertion.client_data_json, assertion.authenticator_data
    )
    verdict = verify_signature(pin, signature, log_in_bytes(random))
    return verdict.sign_count or 0 if isinstance(verdict, Verified) else None
