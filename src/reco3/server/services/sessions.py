"""Sessions: what a browser holds after a log-in, and how fresh the proof is that its owner sits there."""

import contextlib
import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace

from reco3.server.domain.audit import AuditEvent, user_actor
from reco3.server.domain.errors import BadInput, Busy, NotFound
from reco3.server.domain.operators import LoginMethod, Operator, Role, Session, new_session, prolonged
from reco3.server.services.directory import Directory
from reco3.server.services.ports import Outside, Transaction


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A fresh session and the token that only the browser will hold."""

    operator: Operator
    token: str


class SessionService:
    """Opens, finds, proves and ends sessions; the store has only hashes of their tokens."""

    def __init__(self, outside: Outside, directory: Directory, *, secret_key: str) -> None:
        self._outside = outside
        self._directory = directory
        self._secret = secret_key.encode()

    async def open(self, operator: Operator, *, how: str) -> OpenedSession:
        """Open a session for somebody who has just proved himself."""
        token = secrets.token_urlsafe(32)
        now = self._outside.clock()
        session = new_session(self.hash(token), operator, now)
        event = AuditEvent(now, user_actor(operator.name), "operator_login", operator.name, payload={"how": how})

        def work(tx: Transaction) -> None:
            tx.sessions.add(session)
            tx.audit.add([event])

        await self._outside.store.write(work)
        return OpenedSession(_holder(session, operator.role), token)

    async def by_token(self, token: str) -> Operator | None:
        """Whose browser holds this token, with the role that he has now; using it keeps it from idling out."""
        found = await self._outside.store.read(lambda tx: self._find(tx, self.hash(token)))
        if found is None:
            return None
        session, role = found
        now = self._outside.clock()
        if session.expires_at <= now or role is None:
            return None
        until = prolonged(session, now)
        if until is not None:
            # A database that cannot write now must not keep people from looking.
            with contextlib.suppress(Busy):
                await self._outside.store.write(lambda tx: tx.sessions.prolong(session.token_hash, until))
        return _holder(session, role)

    async def of(self, operator: Operator) -> list[Session]:
        """The caller's open sessions, newest first."""
        now = self._outside.clock()
        return await self._outside.store.read(lambda tx: tx.sessions.of(operator.name, now=now))

    async def end(self, token: str, operator: Operator) -> None:
        """End the session of this token."""
        await self._outside.store.write(lambda tx: self._end(tx, self.hash(token), operator, "operator_logout"))

    async def revoke(self, session_id: str, operator: Operator) -> None:
        """End another session of one's own.

        Raises:
            NotFound: the caller has no such session.
        """
        hashes = [session.token_hash for session in await self.of(operator) if session.id == session_id]
        if not hashes:
            raise NotFound(f"You have no open session {session_id[:32]!r}.", code="session_not_found")
        await self._outside.store.write(lambda tx: self._end(tx, hashes[0], operator, "session_revoked"))

    async def prove(self, token: str | None, operator: Operator, *, how: str) -> Operator:
        """Note that the person behind a session proved himself just now.

        Raises:
            BadInput: the caller has no session.
        """
        if token is None or operator.method is not LoginMethod.SESSION:
            raise BadInput("session", "only a session is proved; a key or token proves itself", code="no_session")
        now = self._outside.clock()
        event = AuditEvent(now, user_actor(operator.name), "operator_proved", operator.name, payload={"how": how})

        def work(tx: Transaction) -> None:
            tx.sessions.prove(self.hash(token), now)
            tx.audit.add([event])

        await self._outside.store.write(work)
        return replace(operator, proved_at=now)

    async def prune(self) -> None:
        """Forget the sessions that have ended by themselves."""
        now = self._outside.clock()
        await self._outside.store.write(lambda tx: tx.sessions.prune(now))

    def hash(self, secret: str) -> str:
        """What the store knows a session's token by."""
        return hmac.new(self._secret, secret.encode(), hashlib.sha256).hexdigest()

    def _find(self, tx: Transaction, token_hash: str) -> tuple[Session, Role | None] | None:
        session = tx.sessions.get(token_hash)
        return None if session is None else (session, self._directory.role_of(tx, session.name))

    def _end(self, tx: Transaction, token_hash: str, operator: Operator, event_type: str) -> None:
        tx.sessions.end(token_hash)
        now = self._outside.clock()
        tx.audit.add([AuditEvent(now, user_actor(operator.name), event_type, operator.name)])


def _holder(session: Session, role: Role) -> Operator:
    return Operator(session.name, role, LoginMethod.SESSION, session.proved_at)
