"""People's accounts: invite, let in, list, change, disable; and one's own password."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.server.domain.errors import BadInput
from reco3.server.domain.operators import Invitation, Role
from reco3.server.services.accounts import AccountChange, AccountService, Invited, Listed
from reco3.server.web.audiences import PUBLIC, operators, serves
from reco3.server.web.auth import headers_of, session_token, site_of
from reco3.server.web.errors import json_answer
from reco3.server.web.operator_api.credentials import operator_shape, with_cookie
from reco3.server.web.shapes import optional_time_text, time_text

_ADMIN_CHANGES = operators(Role.ADMIN, needs_proof=True)
Password = Annotated[str, Field(max_length=500)]


class NewOperator(BaseModel):
    """What `POST /api/operators` takes."""

    name: str = Field(max_length=200)
    role: Role


class ChangedOperator(BaseModel):
    """What `PATCH /api/operators/{name}` takes: at least one of these."""

    role: Role | None = None
    disabled: Annotated[bool, Field(strict=True)] | None = None


class Acceptance(BaseModel):
    """What `POST /api/invitations/accept` takes."""

    model_config = ConfigDict(strict=True)

    token: str = Field(max_length=500)
    password: Password | None = None


class NewPassword(BaseModel):
    """What `POST /api/me/password` takes."""

    model_config = ConfigDict(strict=True)

    password: Password


def account_routes(accounts: AccountService) -> APIRouter:
    """`/api/operators`, `/api/invitations` and `/api/me/password`."""
    router = APIRouter(tags=["operators"])
    _add_roster(router, accounts)
    _add_inviting(router, accounts)
    _add_own(router, accounts)
    return router


def _add_roster(router: APIRouter, accounts: AccountService) -> None:
    @router.get("/api/operators")
    @serves(operators(Role.ADMIN))
    async def list_operators() -> Response:
        """Everybody who may log in, and everybody who was invited to."""
        roster = await accounts.roster()
        return json_answer(
            {
                "operators": [_account_shape(listed) for listed in roster.listed],
                "count": len(roster.listed),
                "invitations": [_invitation_shape(invitation) for invitation in roster.invitations],
            }
        )

    @router.patch("/api/operators/{name}")
    @serves(_ADMIN_CHANGES)
    async def change_operator(request: Request, name: str, new: ChangedOperator) -> Response:
        """Change a role, disable somebody or let him in again; his sessions end at once."""
        if new.role is None and new.disabled is None:
            raise BadInput("body", "expected role, disabled or both")
        account = await accounts.change(name, AccountChange(new.role, new.disabled), request.state.caller)
        return json_answer({"name": account.name, "role": account.role, "disabled": account.disabled_at is not None})


def _add_inviting(router: APIRouter, accounts: AccountService) -> None:
    @router.post("/api/operators")
    @serves(_ADMIN_CHANGES)
    async def invite_operator(request: Request, new: NewOperator) -> Response:
        """Invite somebody; the link is shown once and good for a day."""
        return _invited(request, await accounts.invite(new.name, new.role, request.state.caller))

    @router.post("/api/operators/{name}/invitation")
    @serves(_ADMIN_CHANGES)
    async def invite_operator_again(request: Request, name: str) -> Response:
        """A link with which somebody who has an account sets a new password."""
        return _invited(request, await accounts.invite_again(name, request.state.caller))

    @router.delete("/api/operators/{name}/invitation")
    @serves(_ADMIN_CHANGES)
    async def withdraw_invitation(request: Request, name: str) -> Response:
        """Make an open invitation void."""
        await accounts.withdraw(name, request.state.caller)
        return json_answer({"status": "ok"})


def _add_own(router: APIRouter, accounts: AccountService) -> None:
    @router.post("/api/invitations/accept")
    @serves(PUBLIC)
    async def accept_invitation(request: Request, new: Acceptance) -> Response:
        """Come in with an invitation, once, and set a password; or register a passkey next."""
        opened = await accounts.accept(new.token, new.password)
        return with_cookie(request, json_answer(operator_shape(opened.operator)), opened)

    @router.post("/api/me/password")
    @serves(operators(Role.VIEWER, needs_proof=True, needs_person=True))
    async def set_password(request: Request, new: NewPassword) -> Response:
        """Set one's own password; one's other sessions end."""
        token = session_token(headers_of(request.scope))
        await accounts.set_password(request.state.caller, token, new.password)
        return json_answer({"status": "ok"})


def _invited(request: Request, invited: Invited) -> Response:
    content = _invitation_shape(invited.invitation)
    link = f"{site_of(request.scope).origin}/r3#invitation={invited.token}"
    return json_answer({**content, "token": invited.token, "link": link})


def _account_shape(listed: Listed) -> dict[str, object]:
    account = listed.account
    return {
        "name": account.name,
        "role": account.role,
        "disabled": account.disabled_at is not None,
        "disabled_at": optional_time_text(account.disabled_at),
        "created_at": time_text(account.created_at),
        "created_by": account.created_by,
        "has_password": account.password_hash is not None,
        "keys": listed.keys,
    }


def _invitation_shape(invitation: Invitation) -> dict[str, object]:
    return {
        "name": invitation.name,
        "role": invitation.role,
        "created_by": invitation.created_by,
        "created_at": time_text(invitation.created_at),
        "expires_at": time_text(invitation.expires_at),
    }
