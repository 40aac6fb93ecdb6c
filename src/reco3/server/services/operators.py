"""Operators: who calls, by key, token or session; log-in; and the one-time set-up of a server that has nobody yet."""

import contextlib
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime

from reco3.server.domain.audit import AuditEvent, system_actor
from reco3.server.domain.errors import Busy, Forbidden, Unauthorized
from reco3.server.domain.operators import ADMIN, SESSION_LIFETIME, Account, LoginMethod, Operator, Role
from reco3.server.domain.passwords import check_password
from reco3.server.domain.tokens import ApiToken, is_use_worth_noting, opens
from reco3.server.services.directory import Directory
from reco3.server.services.guesses import GuessLimiter
from reco3.server.services.passwords import Passwords
from reco3.server.services.ports import Outside, Transaction
from reco3.server.services.sessions import OpenedSession, SessionService

__all__ = ["ADMIN", "SESSION_LIFETIME", "CompletedSetUp", "OpenedSession", "OperatorService", "secret_hash"]


@dataclass(frozen=True, slots=True)
class CompletedSetUp:
    """The administrator's new API key, shown once, and a session for the browser that asked."""

    api_key: str
    opened: OpenedSession


class OperatorService:
    """Who stands at the console."""

    def __init__(
        self,
        outside: Outside,
        *,
        api_key: str | None,
        secret_key: str,
        has_implicit_admin: bool = False,
        passwords: Passwords | None = None,
    ) -> None:
        self._outside = outside
        self._api_key_hash = secret_hash(api_key) if api_key else None
        self._set_up_token: str | None = None
        self._guesses = GuessLimiter(outside.clock)
        self.directory = Directory(has_built_in_admin=api_key is not None or has_implicit_admin)
        self.sessions = SessionService(outside, self.directory, secret_key=secret_key)
        self.passwords = passwords or Passwords()

    @property
    def is_locked(self) -> bool:
        """Whether nobody can log in yet and the one-time set-up is open."""
        return self._set_up_token is not None

    async def open_set_up(self) -> str | None:
        """A one-time set-up token when no operator exists, else None."""
        if self._api_key_hash is not None or await self._outside.store.read(lambda tx: tx.operators.has_any()):
            return None
        self._set_up_token = secrets.token_urlsafe(32)
        return self._set_up_token

    async def set_up(self, token: str, *, password: str | None = None) -> CompletedSetUp:
        """Create the administrator, once, with a password if one is given.

        Raises:
            Forbidden: the set-up is over, or the token is wrong.
            BadInput: the password is too weak.
        """
        expected = self._set_up_token
        if expected is None or not hmac.compare_digest(expected.encode(), token.encode()):
            raise Forbidden("The set-up link is wrong or was used already.", code="setup_refused")
        if password is not None:
            check_password(password, name=ADMIN)
        self._set_up_token = None
        api_key = secrets.token_urlsafe(32)
        now = self._outside.clock()
        try:
            password_hash = await self.passwords.hash(password) if password is not None else None
            account = Account(ADMIN, Role.ADMIN, now, password_hash=password_hash)
            await self._outside.store.write(lambda tx: _add_admin(tx, account, api_key, now))
        except Busy:
            # Nothing was stored: the link is good for another try.
            self._set_up_token = expected
            raise
        operator = Operator(ADMIN, Role.ADMIN, LoginMethod.SESSION)
        return CompletedSetUp(api_key, await self.sessions.open(operator, how="set-up"))

    async def log_in(self, api_key: str, *, remote: str) -> OpenedSession:
        """Open a session for whoever holds an operator's API key.

        Raises:
            Unauthorized: nobody holds that key, or it is an API token, which is for scripts.
            TooManyRequests: too many wrong keys from that remote within the last minute.
        """
        operator = await self.by_api_key(api_key, remote=remote)
        if operator is None or operator.method is not LoginMethod.API_KEY:
            raise Unauthorized("This API key is not valid.")
        return await self.sessions.open(operator, how="api-key")

    async def log_in_with_password(self, name: str, password: str, *, remote: str) -> OpenedSession:
        """Open a session for a person; an unknown name, a disabled one and a wrong password look and last the same.

        Raises:
            Unauthorized: no such name with that password.
            TooManyRequests: too many wrong ones from that remote, or for that name, within the last minute.
        """
        account = await self._outside.store.read(lambda tx: tx.operators.get(name))
        if not await self._is_password_of(account, name, password, remote=remote) or account is None:
            raise Unauthorized("No account has this name and password.")
        operator = Operator(account.name, account.role, LoginMethod.SESSION)
        return await self.sessions.open(operator, how="password")

    async def prove_by_password(self, operator: Operator, token: str | None, password: str, *, remote: str) -> Operator:
        """Prove once more, by password, who sits at a session.

        Raises:
            Forbidden: `proof_refused`, it is not his password.
            TooManyRequests: too many wrong ones within the last minute.
        """
        account = await self._outside.store.read(lambda tx: tx.operators.get(operator.name))
        if not await self._is_password_of(account, operator.name, password, remote=remote):
            raise proof_refused()
        return await self.sessions.prove(token, operator, how="password")

    async def prove_by_api_key(self, operator: Operator, token: str | None, api_key: str, *, remote: str) -> Operator:
        """Prove once more, by API key, who sits at a session.

        Raises:
            Forbidden: `proof_refused`, it is not his key.
            TooManyRequests: too many wrong ones within the last minute.
        """
        holder = await self.by_api_key(api_key, remote=remote)
        if holder is None or holder.method is not LoginMethod.API_KEY or holder.name != operator.name:
            raise proof_refused()
        return await self.sessions.prove(token, operator, how="api-key")

    async def by_api_key(self, api_key: str, *, remote: str) -> Operator | None:
        """The operator who holds this key or API token.

        Raises:
            TooManyRequests: too many wrong keys from that remote within the last minute.
        """
        self._guesses.refuse_guessing(remote)
        key_hash = secret_hash(api_key)
        if self._api_key_hash is not None and hmac.compare_digest(self._api_key_hash, key_hash):
            return Operator(ADMIN, Role.ADMIN, LoginMethod.API_KEY)
        account, token, owner_role = await self._outside.store.read(lambda tx: self._holders(tx, key_hash))
        if account is not None and account.disabled_at is None:
            return Operator(account.name, account.role, LoginMethod.API_KEY)
        if token is not None and opens(token, owner_role=owner_role, now=self._outside.clock()):
            await self._note_use(token)
            return Operator(token.owner, token.role, LoginMethod.TOKEN)
        self._guesses.note_wrong(remote, key_hash)
        return None

    async def by_session(self, token: str) -> Operator | None:
        """The operator whose browser holds this session token."""
        return await self.sessions.by_token(token)

    async def log_out(self, token: str, operator: Operator) -> None:
        """End a session."""
        await self.sessions.end(token, operator)

    async def prune_sessions(self) -> None:
        """Forget the sessions that have ended by themselves."""
        await self.sessions.prune()

    async def _is_password_of(self, account: Account | None, name: str, password: str, *, remote: str) -> bool:
        who = f"name {name}"
        for guesser in (remote, who):
            self._guesses.refuse_guessing(guesser)
        stored = account.password_hash if account is not None and account.disabled_at is None else None
        is_right = await self.passwords.is_right(password, stored)
        # What was guessed meanwhile, in a flood, counts for this guess too, and a right one must not stand out.
        for guesser in (remote, who):
            self._guesses.refuse_guessing(guesser)
        if not is_right:
            guess = self.sessions.hash(f"{name} {password}")
            for guesser in (remote, who):
                self._guesses.note_wrong(guesser, guess)
        return is_right

    def _holders(self, tx: Transaction, key_hash: str) -> tuple[Account | None, ApiToken | None, Role | None]:
        account = tx.operators.by_key_hash(key_hash)
        token = tx.tokens.by_hash(key_hash) if account is None else None
        return account, token, self.directory.role_of(tx, token.owner) if token is not None else None

    async def _note_use(self, token: ApiToken) -> None:
        now = self._outside.clock()
        if is_use_worth_noting(token, now):
            # A database that cannot write now must not keep scripts from reading.
            with contextlib.suppress(Busy):
                await self._outside.store.write(lambda tx: tx.tokens.note_use(token.id, now))


def secret_hash(secret: str) -> str:
    """What the store knows an API key or token by."""
    # Not peppered with the session secret: losing that one ends sessions, but must not lock the administrator out.
    return hashlib.sha256(secret.encode()).hexdigest()


def proof_refused() -> Forbidden:
    """The refusal of a proof: not 401, because the session itself is good."""
    return Forbidden("This does not prove that it is you.", code="proof_refused")


def _add_admin(tx: Transaction, account: Account, api_key: str, now: datetime) -> None:
    if tx.operators.has_any():
        raise Forbidden("This server has an operator already.", code="setup_refused")
    tx.operators.add(account, api_key_hash=secret_hash(api_key))
    tx.audit.add([AuditEvent(now, system_actor("setup"), "operator_created", ADMIN, payload={"role": Role.ADMIN})])
