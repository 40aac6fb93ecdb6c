"""Operators: log-in, sessions, and the one-time set-up of a server that has nobody yet."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from reco3.server.domain.audit import AuditEvent, system_actor, user_actor
from reco3.server.domain.errors import Forbidden, Unauthorized
from reco3.server.domain.operators import LoginMethod, Operator, Role, Session
from reco3.server.services.guesses import GuessLimiter
from reco3.server.services.ports import Outside, Transaction

SESSION_LIFETIME = timedelta(hours=12)
ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A fresh session and the token that only the browser will hold."""

    operator: Operator
    token: str


@dataclass(frozen=True, slots=True)
class CompletedSetUp:
    """The administrator's new API key, shown once, and a session for the browser that asked."""

    api_key: str
    opened: OpenedSession


class OperatorService:
    """Who stands at the console."""

    def __init__(self, outside: Outside, *, api_key: str | None, secret_key: str) -> None:
        self._outside = outside
        self._secret = secret_key.encode()
        self._api_key_hash = _key_hash(api_key) if api_key else None
        self._set_up_token: str | None = None
        self._guesses = GuessLimiter(outside.clock)

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

    async def set_up(self, token: str) -> CompletedSetUp:
        """Create the administrator, once.

        Raises:
            Forbidden: the set-up is over, or the token is wrong.
        """
        expected = self._set_up_token
        if expected is None or not hmac.compare_digest(expected.encode(), token.encode()):
            raise Forbidden("The set-up link is wrong or was used already.", code="setup_refused")
        self._set_up_token = None
        api_key = secrets.token_urlsafe(32)
        now = self._outside.clock()
        await self._outside.store.write(lambda tx: self._add_admin(tx, api_key, now))
        operator = Operator(ADMIN, Role.ADMIN, LoginMethod.SESSION)
        return CompletedSetUp(api_key, await self._open_session(operator))

    async def log_in(self, api_key: str, *, remote: str) -> OpenedSession:
        """Open a session for whoever holds an operator's API key.

        Raises:
            Unauthorized: nobody holds that key.
            TooManyRequests: too many wrong keys from that remote within the last minute.
        """
        operator = await self.by_api_key(api_key, remote=remote)
        if operator is None:
            raise Unauthorized("This API key is not valid.")
        return await self._open_session(operator)

    async def by_api_key(self, api_key: str, *, remote: str) -> Operator | None:
        """The operator who holds this key.

        Raises:
            TooManyRequests: too many wrong keys from that remote within the last minute.
        """
        self._guesses.refuse_guessing(remote)
        key_hash = _key_hash(api_key)
        if self._api_key_hash is not None and hmac.compare_digest(self._api_key_hash, key_hash):
            return Operator(ADMIN, Role.ADMIN, LoginMethod.API_KEY)
        stored = await self._outside.store.read(lambda tx: tx.operators.by_key_hash(key_hash))
        if stored is None:
            self._guesses.note_wrong(remote, key_hash)
            return None
        name, role = stored
        return Operator(name, Role(role), LoginMethod.API_KEY)

    async def by_session(self, token: str) -> Operator | None:
        """The operator whose browser holds this session token."""
        session = await self._outside.store.read(lambda tx: tx.operators.session(self._hash(token)))
        if session is None or session.expires_at <= self._outside.clock():
            return None
        return Operator(session.name, session.role, LoginMethod.SESSION)

    async def log_out(self, token: str, operator: Operator) -> None:
        """End a session."""
        event = AuditEvent(self._outside.clock(), user_actor(operator.name), "operator_logout", operator.name)

        def work(tx: Transaction) -> None:
            tx.operators.end_session(self._hash(token))
            tx.audit.add([event])

        await self._outside.store.write(work)

    async def prune_sessions(self) -> None:
        """Forget the sessions that have ended by themselves."""
        now = self._outside.clock()
        await self._outside.store.write(lambda tx: tx.operators.prune_sessions(now))

    async def _open_session(self, operator: Operator) -> OpenedSession:
        token = secrets.token_urlsafe(32)
        now = self._outside.clock()
        session = Session(self._hash(token), operator.name, operator.role, now, now + SESSION_LIFETIME)

        def work(tx: Transaction) -> None:
            tx.operators.add_session(session)
            tx.audit.add([AuditEvent(now, user_actor(operator.name), "operator_login", operator.name)])

        await self._outside.store.write(work)
        return OpenedSession(Operator(operator.name, operator.role, LoginMethod.SESSION), token)

    def _add_admin(self, tx: Transaction, api_key: str, now: datetime) -> None:
        if tx.operators.has_any():
            raise Forbidden("This server has an operator already.", code="setup_refused")
        tx.operators.add(name=ADMIN, role=Role.ADMIN, api_key_hash=_key_hash(api_key), now=now)
        tx.audit.add([AuditEvent(now, system_actor("setup"), "operator_created", ADMIN, payload={"role": Role.ADMIN})])

    def _hash(self, secret: str) -> str:
        return hmac.new(self._secret, secret.encode(), hashlib.sha256).hexdigest()


def _key_hash(api_key: str) -> str:
    # Not peppered with the session secret: losing that one ends sessions, but must not lock the administrator out.
    return hashlib.sha256(api_key.encode()).hexdigest()
