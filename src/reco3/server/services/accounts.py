"""Accounts: who is invited, who accepted, and what an administrator changes about them.

Whoever is changed or disabled loses his open sessions, and the invitations he made, in the same transaction.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from reco3.server.domain.audit import AuditEvent, user_actor
from reco3.server.domain.errors import Conflict, Forbidden, NotFound
from reco3.server.domain.operators import (
    INVITATION_LIFETIME,
    Account,
    Invitation,
    LoginMethod,
    Operator,
    Role,
    check_name,
    refuse_last_admin,
)
from reco3.server.domain.passwords import check_password
from reco3.server.services.operators import OperatorService, secret_hash
from reco3.server.services.ports import Outside, Transaction
from reco3.server.services.sessions import OpenedSession


@dataclass(frozen=True, slots=True)
class Invited:
    """A fresh invitation and the token in its link, which is shown once."""

    invitation: Invitation
    token: str


@dataclass(frozen=True, slots=True)
class Listed:
    """An account as administrators see it, with how many keys it has."""

    account: Account
    keys: int


@dataclass(frozen=True, slots=True)
class Roster:
    """Everybody who may log in, or was asked to."""

    listed: tuple[Listed, ...]
    invitations: tuple[Invitation, ...]


@dataclass(frozen=True, slots=True)
class AccountChange:
    """What an administrator wants to be otherwise; None leaves it as it is."""

    role: Role | None = None
    is_disabled: bool | None = None


class AccountService:
    """Invites people, lets them in, changes and disables them."""

    def __init__(self, outside: Outside, operators: OperatorService) -> None:
        self._outside = outside
        self._directory = operators.directory
        self._passwords = operators.passwords
        self._sessions = operators.sessions

    async def roster(self) -> Roster:
        """Every account and every open invitation, in the order of the names."""
        now = self._outside.clock()

        def query(tx: Transaction) -> Roster:
            keys = tx.operator_keys.counts()
            listed = tuple(Listed(account, keys.get(account.name, 0)) for account in tx.operators.all())
            return Roster(listed, tuple(tx.invitations.all_open(now=now)))

        return await self._outside.store.read(query)

    async def invite(self, name: str, role: Role, by: Operator) -> Invited:
        """Ask somebody new to come; an older invitation of the same name is void.

        Raises:
            BadInput: the name cannot belong to a person.
            Conflict: the name has an account.
        """
        check_name(name)
        return await self._invite(name, role, by, is_new=True)

    async def invite_again(self, name: str, by: Operator) -> Invited:
        """Let somebody who has an account set a new password.

        Raises:
            NotFound: there is no such account.
        """
        return await self._invite(name, Role.VIEWER, by, is_new=False)

    async def withdraw(self, name: str, by: Operator) -> None:
        """Make an invitation void.

        Raises:
            NotFound: nobody of that name has an open one.
        """
        event = self._event("operator_invitation_withdrawn", name, by.name, {})

        def work(tx: Transaction) -> None:
            if not tx.invitations.withdraw(name):
                raise NotFound(f"There is no open invitation for {name[:64]!r}.", code="invitation_not_found")
            tx.audit.add([event])

        await self._outside.store.write(work)

    async def accept(self, token: str, password: str | None) -> OpenedSession:
        """Let an invited person in, once; without a password he is expected to register a passkey next.

        Raises:
            Forbidden: `invitation_refused`, the link is wrong, used or too old.
            BadInput: the password is too weak.
        """
        token_hash, now = secret_hash(token), self._outside.clock()
        invitation = await self._outside.store.read(lambda tx: _require_open(tx, token_hash, now))
        password_hash = await self._hash(password, invitation.name) if password is not None else None
        account = await self._outside.store.write(lambda tx: _accept(tx, token_hash, password_hash, now))
        operator = Operator(account.name, account.role, LoginMethod.SESSION)
        return await self._sessions.open(operator, how="invitation")

    async def change(self, name: str, change: AccountChange, by: Operator) -> Account:
        """Change somebody's role, disable him or let him in again; his sessions and invitations end at once.

        Raises:
            NotFound: there is no such account.
            Conflict: nobody would be left who may undo it, or the account is that of the settings.
        """
        now = self._outside.clock()
        if self._directory.is_built_in(name):
            raise Conflict(f"{name} is the holder of API_KEY or of the test mode, set when the server starts.")
        changed = await self._outside.store.write(lambda tx: self._change(tx, name, change, by, now))
        self._outside.announcer.dismiss(name)
        return changed

    async def set_password(self, operator: Operator, token: str | None, password: str) -> None:
        """Set one's own password; every other session of one's own ends.

        Raises:
            NotFound: the caller has no account of his own.
            BadInput: the password is too weak.
        """
        password_hash = await self._hash(password, operator.name)
        kept = self._sessions.hash(token) if token is not None else None
        event = self._event("operator_password_set", operator.name, operator.name, {})

        def work(tx: Transaction) -> None:
            tx.operators.put(replace(_require_account(tx, operator.name), password_hash=password_hash))
            tx.sessions.end_all_of(operator.name, keep=kept)
            tx.audit.add([event])

        await self._outside.store.write(work)

    async def _invite(self, name: str, role: Role, by: Operator, *, is_new: bool) -> Invited:
        token, now = secrets.token_urlsafe(32), self._outside.clock()
        wish = Invitation(secret_hash(token), name, role, by.name, now, now + INVITATION_LIFETIME)
        return Invited(await self._outside.store.write(lambda tx: _invite(tx, wish, is_new=is_new)), token)

    async def _hash(self, password: str, name: str) -> str:
        check_password(password, name=name)
        return await self._passwords.hash(password)

    def _change(self, tx: Transaction, name: str, change: AccountChange, by: Operator, now: datetime) -> Account:
        changed = _changed(_require_account(tx, name), change, now)
        tx.operators.put(changed)
        refuse_last_admin(admins_left=self._directory.count_admins(tx))
        tx.sessions.end_all_of(name)
        tx.invitations.withdraw_those_by(name)
        payload = {"role": changed.role, "disabled": changed.disabled_at is not None}
        tx.audit.add([AuditEvent(now, user_actor(by.name), "operator_changed", name, payload=payload)])
        return changed

    def _event(self, event_type: str, name: str, by: str, payload: Mapping[str, object]) -> AuditEvent:
        return AuditEvent(self._outside.clock(), user_actor(by), event_type, name, payload=payload)


def _changed(account: Account, change: AccountChange, now: datetime) -> Account:
    disabled_at = account.disabled_at
    if change.is_disabled is not None:
        disabled_at = (disabled_at or now) if change.is_disabled else None
    return replace(account, role=change.role or account.role, disabled_at=disabled_at)


def _invite(tx: Transaction, wish: Invitation, *, is_new: bool) -> Invitation:
    account = tx.operators.get(wish.name)
    if is_new and account is not None:
        raise Conflict(f"{wish.name} has an account; change that one, or invite under another name.", code="name_taken")
    invitation = wish if is_new else replace(wish, role=_require_account(tx, wish.name).role)
    tx.invitations.withdraw(wish.name)
    tx.invitations.add(invitation)
    actor, payload = user_actor(wish.created_by), {"role": invitation.role, "again": not is_new}
    tx.audit.add([AuditEvent(wish.created_at, actor, "operator_invited", wish.name, payload=payload)])
    return invitation


def _accept(tx: Transaction, token_hash: str, password_hash: str | None, now: datetime) -> Account:
    invitation = _require_open(tx, token_hash, now)
    tx.invitations.use(token_hash, now)
    known = tx.operators.get(invitation.name)
    if known is not None:
        return _accept_again(tx, known, password_hash, now)
    account = Account(
        invitation.name, invitation.role, now, created_by=invitation.created_by, password_hash=password_hash
    )
    tx.operators.add(account)
    payload = {"role": account.role, "invited_by": invitation.created_by, "password": password_hash is not None}
    tx.audit.add([AuditEvent(now, user_actor(account.name), "operator_created", account.name, payload=payload)])
    return account


def _accept_again(tx: Transaction, known: Account, password_hash: str | None, now: datetime) -> Account:
    if known.disabled_at is not None:
        raise _invitation_refused()
    account = replace(known, password_hash=password_hash or known.password_hash)
    tx.operators.put(account)
    tx.sessions.end_all_of(account.name)
    payload = {"password": password_hash is not None}
    actor = user_actor(account.name)
    tx.audit.add([AuditEvent(now, actor, "operator_invitation_accepted", account.name, payload=payload)])
    return account


def _require_open(tx: Transaction, token_hash: str, now: datetime) -> Invitation:
    invitation = tx.invitations.open_one(token_hash, now=now)
    if invitation is None:
        raise _invitation_refused()
    return invitation


def _invitation_refused() -> Forbidden:
    return Forbidden(
        "This invitation is wrong, was used, or is older than a day; ask for a new one.", code="invitation_refused"
    )


def _require_account(tx: Transaction, name: str) -> Account:
    account = tx.operators.get(name)
    if account is None:
        raise NotFound(f"There is no account {name[:64]!r}.", code="operator_not_found")
    return account
