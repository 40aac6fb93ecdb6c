"""Operators' keys: register, list, revoke one's own; administrators see everybody's."""

import json
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.protocol.envelope import KeyKind, decode_base64url, encode_base64url
from reco3.server.domain.errors import BadInput
from reco3.server.domain.keys import MAX_LABEL_CHARS, OperatorKey
from reco3.server.domain.operators import Role
from reco3.server.services.keys import HeldKey, KeyService
from reco3.server.web.audiences import operators, serves
from reco3.server.web.auth import site_of
from reco3.server.web.errors import json_answer
from reco3.server.web.operator_api.credentials import AttestationBody
from reco3.server.web.shapes import time_text
from reco3.signing.pins import fingerprint, pin_text
from reco3.signing.proofs import KEY_PROOF_TYPE

_OWN_CHANGES = operators(Role.VIEWER, needs_proof=True, needs_person=True)
Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL_CHARS, pattern=r"\S")]


class KeyWish(BaseModel):
    """What `POST /api/me/keys/options` may carry; a passkey when nothing is said."""

    kind: KeyKind = KeyKind.WEBAUTHN


class NewPasskey(BaseModel):
    """A passkey that the browser made."""

    model_config = ConfigDict(strict=True)

    kind: Literal["webauthn"]
    attestation: AttestationBody
    label: Label


class NewHeldKey(BaseModel):
    """A key of another kind, with its signature over the challenge."""

    model_config = ConfigDict(strict=True)

    kind: Literal["webcrypto", "ed25519"]
    public_key: str = Field(max_length=1024)
    proof: str = Field(max_length=200)
    label: Label


def key_routes(keys: KeyService) -> APIRouter:
    """`/api/me/keys` and `/api/operators/{name}/keys`."""
    router = APIRouter(tags=["keys"])
    _add_reading(router, keys)
    _add_registering(router, keys)
    return router


def key_shape(key: OperatorKey) -> dict[str, object]:
    """A key as people compare and pin it."""
    return {
        "key_id": key.key_id,
        "owner": key.owner,
        "kind": key.kind,
        "public_key": key.public_key,
        "label": key.label,
        "origin": key.origin,
        "rp_id": key.rp_id,
        "credential_id": key.credential_id,
        "created_at": time_text(key.created_at),
        "fingerprint": fingerprint(key.pin.key),
        "pin": pin_text(key.pin),
    }


def _add_reading(router: APIRouter, keys: KeyService) -> None:
    @router.get("/api/me/keys")
    @serves(operators(Role.VIEWER))
    async def own_keys(request: Request) -> Response:
        """The caller's keys, oldest first."""
        return _list(await keys.of(request.state.caller.name))

    @router.get("/api/operators/{name}/keys")
    @serves(operators(Role.ADMIN))
    async def keys_of_operator(name: str) -> Response:
        """Somebody's keys, oldest first."""
        return _list(await keys.of(name))


def _add_registering(router: APIRouter, keys: KeyService) -> None:
    @router.post("/api/me/keys/options")
    @serves(operators(Role.VIEWER, needs_person=True))
    async def key_options(request: Request, wish: KeyWish | None = None) -> Response:
        """What a new key must answer: the browser's options for a passkey, or a challenge to sign."""
        caller, site = request.state.caller, site_of(request.scope)
        if wish is None or wish.kind is KeyKind.WEBAUTHN:
            return json_answer(json.loads(await keys.passkey_options(caller, site)))
        challenge = keys.challenge(wish.kind, caller, site)
        return json_answer({"challenge": encode_base64url(challenge), "proof_type": KEY_PROOF_TYPE})

    @router.post("/api/me/keys")
    @serves(_OWN_CHANGES)
    async def register_key(
        request: Request, new: Annotated[NewPasskey | NewHeldKey, Field(discriminator="kind")]
    ) -> Response:
        """Register a key of one's own; PCs trust it only once their administrators have pinned it."""
        if isinstance(new, NewPasskey):
            key = await keys.register_passkey(new.attestation.parsed(), new.label, request.state.caller)
        else:
            held = HeldKey(KeyKind(new.kind), new.public_key, _proof(new.proof), new.label)
            key = await keys.register(held, request.state.caller)
        return json_answer(key_shape(key))

    @router.delete("/api/me/keys/{key_id}")
    @serves(_OWN_CHANGES)
    async def revoke_key(request: Request, key_id: str) -> Response:
        """Make a key of one's own void on the server; PCs that pin it are told by their administrators."""
        await keys.revoke(key_id, request.state.caller)
        return json_answer({"status": "ok"})


def _list(found: Sequence[OperatorKey]) -> Response:
    return json_answer({"keys": [key_shape(key) for key in found], "count": len(found)})


def _proof(text: str) -> bytes:
    try:
        return decode_base64url(text)
    except ValueError as err:
        raise BadInput("proof", "expected base64url without padding") from err
