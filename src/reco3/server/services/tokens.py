"""API tokens: made by a person for a script, shown once, good until they expire, are revoked or outrank their owner."""

import secrets
from dataclasses import dataclass
from datetime import timedelta

from reco3.server.domain.audit import AuditEvent, user_actor
from reco3.server.domain.errors import NotFound
from reco3.server.domain.operators import Operator, Role
from reco3.server.domain.tokens import PREFIX, ApiToken, check_token_role
from reco3.server.services.operators import secret_hash
from reco3.server.services.ports import Outside, Transaction


@dataclass(frozen=True, slots=True)
class NewToken:
    """What a person wants a token for."""

    name: str
    role: Role
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A fresh token and its text, which is shown once."""

    token: ApiToken
    text: str


class TokenService:
    """Makes, lists and revokes one's own tokens."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def of(self, operator: Operator) -> list[ApiToken]:
        """The caller's tokens that are not revoked, newest first."""
        return await self._outside.store.read(lambda tx: tx.tokens.of(operator.name))

    async def make(self, new: NewToken, operator: Operator) -> MadeToken:
        """Make a token that may do no more than its owner.

        Raises:
            Forbidden: the wanted role is more than the caller holds.
        """
        check_token_role(operator.role, new.role)
        text, now = PREFIX + secrets.token_urlsafe(32), self._outside.clock()
        token = ApiToken(
            token_hash=secret_hash(text),
            id=self._outside.new_id(),
            name=new.name,
            owner=operator.name,
            role=new.role,
            created_at=now,
            expires_at=now + new.lifetime,
        )
        payload = {"name": token.name, "role": token.role, "days": new.lifetime.days}
        event = AuditEvent(now, user_actor(operator.name), "api_token_created", token.id, payload=payload)

        def work(tx: Transaction) -> None:
            tx.tokens.add(token)
            tx.audit.add([event])

        await self._outside.store.write(work)
        return MadeToken(token, text)

    async def revoke(self, token_id: str, operator: Operator) -> None:
        """Make one of the caller's tokens void.

        Raises:
            NotFound: the caller has no such token.
        """
        now = self._outside.clock()

        def work(tx: Transaction) -> None:
            token = next((token for token in tx.tokens.of(operator.name) if token.id == token_id), None)
            if token is None:
                raise NotFound(f"You have no token {token_id[:64]!r}.", code="token_not_found")
            tx.tokens.revoke(token_id, now)
            payload = {"name": token.name}
            tx.audit.add([AuditEvent(now, user_actor(operator.name), "api_token_revoked", token_id, payload=payload)])

        await self._outside.store.write(work)
