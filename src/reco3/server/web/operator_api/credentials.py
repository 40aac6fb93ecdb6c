"""What browsers' credentials look like on the wire, and the cookie of a session."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.protocol.envelope import decode_base64url
from reco3.server.domain.errors import BadInput
from reco3.server.domain.keys import Assertion, Attestation
from reco3.server.domain.operators import PROOF_LIFETIME, LoginMethod, Operator
from reco3.server.services.operators import SESSION_LIFETIME
from reco3.server.services.sessions import OpenedSession
from reco3.server.web.auth import SESSION_COOKIE
from reco3.server.web.shapes import optional_time_text

MAX_CREDENTIAL_CHARS = 24 * 1024


class _AttestationResponse(BaseModel):
    model_config = ConfigDict(strict=True)

    clientDataJSON: str = Field(max_length=MAX_CREDENTIAL_CHARS)  # noqa: N815 - the name that WebAuthn gave it
    attestationObject: str = Field(max_length=MAX_CREDENTIAL_CHARS)  # noqa: N815


class AttestationBody(BaseModel):
    """`PublicKeyCredential.toJSON()` of a new passkey."""

    model_config = ConfigDict(strict=True)

    rawId: str = Field(max_length=MAX_CREDENTIAL_CHARS)  # noqa: N815
    type: Literal["public-key"]
    response: _AttestationResponse

    def parsed(self) -> Attestation:
        """Its bytes.

        Raises:
            BadInput: something is no base64url.
        """
        return Attestation(
            _bytes("attestation.rawId", self.rawId),
            _bytes("attestation.response.clientDataJSON", self.response.clientDataJSON),
            _bytes("attestation.response.attestationObject", self.response.attestationObject),
        )


class _AssertionResponse(BaseModel):
    model_config = ConfigDict(strict=True)

    clientDataJSON: str = Field(max_length=MAX_CREDENTIAL_CHARS)  # noqa: N815
    authenticatorData: str = Field(max_length=MAX_CREDENTIAL_CHARS)  # noqa: N815
    signature: str = Field(max_length=MAX_CREDENTIAL_CHARS)


class AssertionBody(BaseModel):
    """`PublicKeyCredential.toJSON()` of a passkey that signed."""

    model_config = ConfigDict(strict=True)

    rawId: str = Field(max_length=MAX_CREDENTIAL_CHARS)  # noqa: N815
    type: Literal["public-key"]
    response: _AssertionResponse

    def parsed(self) -> Assertion:
        """Its bytes.

        Raises:
            BadInput: something is no base64url.
        """
        return Assertion(
            _bytes("assertion.rawId", self.rawId),
            _bytes("assertion.response.clientDataJSON", self.response.clientDataJSON),
            _bytes("assertion.response.authenticatorData", self.response.authenticatorData),
            _bytes("assertion.response.signature", self.response.signature),
        )


def operator_shape(operator: Operator) -> dict[str, object]:
    """Who calls, and how he proved it."""
    return {"name": operator.name, "role": operator.role, "how": operator.method}


def proof_shape(operator: Operator) -> dict[str, object]:
    """Until when a session may do what needs a fresh proof; None means that it needs one first."""
    if operator.method is not LoginMethod.SESSION:
        return {}
    until = operator.proved_at + PROOF_LIFETIME if operator.proved_at is not None else None
    return {"proved_until": optional_time_text(until)}


def with_cookie(request: Request, answer: Response, opened: OpenedSession) -> Response:
    """The answer that hands a session to the browser alone: no script reads it, no other site sends it."""
    answer.set_cookie(
        SESSION_COOKIE,
        opened.token,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https",
    )
    return answer


def _bytes(field: str, text: str) -> bytes:
    try:
        return decode_base64url(text)
    except ValueError as err:
        raise BadInput(field, "expected base64url without padding") from err
