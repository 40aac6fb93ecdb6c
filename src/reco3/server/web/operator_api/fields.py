"""Parts of bodies that several routes take."""

from typing import Annotated, Any

from pydantic import Field

from reco3.protocol.envelope import KeyKind, Signature, read_signature
from reco3.protocol.strict_json import BadEnvelope
from reco3.server.domain.commands import MAX_REASON_CHARS
from reco3.server.domain.errors import BadInput

# Something besides white space, and no NUL, which PostgreSQL does not take.
NOT_BLANK = r"^[^\x00]*[^\s\x00][^\x00]*$"

Reason = Annotated[str, Field(min_length=1, max_length=MAX_REASON_CHARS, pattern=NOT_BLANK)]


def read_given_signature(raw: dict[str, Any]) -> Signature:
    """A signature as its signer sends it.

    Raises:
        BadInput: `bad_signature`, it is none.
    """
    try:
        return read_signature(raw)
    except BadEnvelope as err:
        raise BadInput(f"signature.{err.field}", f"expected {err.expected}", code="bad_signature") from err


def proves_its_person(signature: Signature | None) -> bool:
    """Whether a signature that is found to be right shows that its person sits there: a passkey checked that."""
    return signature is not None and signature.kind is KeyKind.WEBAUTHN
