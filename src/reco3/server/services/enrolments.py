"""Enrolment: an operator makes a one-time token, and the PC that holds it comes in with a key of its own making.

The server never sees a key: the PC sends its SHA-256, and of a token too only the hash is stored.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reco3.protocol.limits import is_agent_id
from reco3.server.domain.agent_keys import AgentKey, KeySource, is_key_hash
from reco3.server.domain.audit import AuditEvent, agent_actor, user_actor
from reco3.server.domain.enrolments import (
    TOKEN_LIFETIME,
    TOKENS_KEPT,
    EnrolmentToken,
    TokenStatus,
    opens_for,
    status_of,
)
from reco3.server.domain.errors import BadInput, Conflict, NotFound, Unauthorized
from reco3.server.domain.operators import Operator
from reco3.server.services.agent_keys import AgentKeyService
from reco3.server.services.clones import CloneWatch
from reco3.server.services.fleet_ids import fleet_id
from reco3.server.services.guesses import GuessLimiter
from reco3.server.services.ports import Outside, Transaction
from reco3.server.services.wakeups import Wakeups

MAX_TOKEN_CHARS = 200
MAX_LISTED = 200
LET_GO_WITHIN_S = 2.0
NEIGHBOURS_LET_GO_S = 0.5
LOOK_EVERY_S = 0.005
_ID_RULE = "expected 1 to 64 letters, digits and . _ -"


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A fresh token; its text is shown once and stored nowhere."""

    text: str
    token: EnrolmentToken


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a PC that wants to come in says of itself; without a name it takes the token's."""

    token: str
    key_hash: str
    agent_id: str | None
    platform: str


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A PC that is in: its name, and the fleet that it belongs to."""

    agent_id: str
    fleet_id: str


@dataclass(frozen=True, slots=True)
class _Entry:
    key: AgentKey
    fleet_id: str
    is_replacement: bool


class EnrolmentService:
    """The way in for new PCs."""

    def __init__(self, outside: Outside, keys: AgentKeyService, wakeups: Wakeups, clones: CloneWatch) -> None:
        self._outside = outside
        self._keys = keys
        self._wakeups = wakeups
        self._clones = clones
        self._guesses = GuessLimiter(outside.clock)

    async def make_token(self, operator: Operator, *, agent_id: str | None, may_replace: bool) -> MadeToken:
        """A token for one PC, or for any that is not known yet.

        Raises:
            BadInput: no PC can have that name, or the token would let its holder take any PC's place.
        """
        if agent_id is not None and not is_agent_id(agent_id):
            raise BadInput("agent_id", _ID_RULE)
        if may_replace and agent_id is None:
            raise BadInput("agent_id", "expected the name of the PC whose key may be replaced")
        text, now = secrets.token_urlsafe(32), self._outside.clock()
        token = EnrolmentToken(
            id=self._outside.new_id(),
            token_hash=_hash(text),
            agent_id=agent_id,
            may_replace=may_replace,
            created_by=operator.name,
            created_at=now,
            expires_at=now + TOKEN_LIFETIME,
        )
        await self._outside.store.write(lambda tx: _add(tx, token))
        return MadeToken(text, token)

    async def tokens(self) -> Sequence[EnrolmentToken]:
        """The tokens of the last weeks, newest first."""
        return await self._outside.store.read(lambda tx: tx.enrolments.newest(limit=MAX_LISTED))

    async def revoke_token(self, token_id: str, operator: Operator) -> None:
        """Take a token back that nobody has used.

        Raises:
            NotFound: there is no such token.
            Conflict: it was used.
        """
        now = self._outside.clock()
        await self._outside.store.write(lambda tx: _revoke(tx, token_id, operator, now))

    async def enrol(self, enrolment: Enrolment, *, remote: str) -> Enrolled:
        """Let the holder of a token in with the key whose hash he sends; the token is spent.

        Raises:
            TooManyRequests: too many wrong tokens from that remote within the last minute.
            Unauthorized: the token is unknown, spent, expired or another PC's, all in one shape.
            BadInput: no PC can have that name, or that is no hash.
            Conflict: the name is taken, and the token may not replace its key.
        """
        self._guesses.refuse_guessing(remote)
        _refuse_bad(enrolment)
        token_hash = _hash(enrolment.token)
        token = await self._outside.store.read(lambda tx: tx.enrolments.get(token_hash))
        if token is None or not opens_for(token, enrolment.agent_id, self._outside.clock()):
            self._guesses.note_wrong(remote, token_hash)
            raise Unauthorized
        entry = await self._outside.store.write(lambda tx: self._enrol(tx, token_hash, enrolment))
        if entry.is_replacement:
            entry = await self._open_anew(entry)
        self._clones.forget(entry.key.agent_id)
        self._keys.adopt(entry.key)
        self._outside.announcer.announce("agents", entry.key.agent_id)
        return Enrolled(entry.key.agent_id, entry.fleet_id)

    def _enrol(self, tx: Transaction, token_hash: str, enrolment: Enrolment) -> _Entry:
        now = self._outside.clock()
        token = tx.enrolments.get(token_hash)
        if token is None or not opens_for(token, enrolment.agent_id, now):
            raise Unauthorized
        agent_id = enrolment.agent_id or token.agent_id
        if agent_id is None:
            raise BadInput("agent_id", "is missing; this token does not name a PC")
        known = tx.keys.get(agent_id)
        if known is not None and not token.may_replace:
            raise Conflict(_already_enrolled(agent_id), code="already_enrolled")
        if not tx.enrolments.use(token_hash, used_by=agent_id, now=now):
            raise Unauthorized
        key = _enrolled_key(known, agent_id, enrolment.key_hash, now)
        tx.keys.put([key])
        detail = {"token_id": token.id, "replaced": known is not None, "platform": enrolment.platform[:64]}
        tx.audit.add([AuditEvent(now, agent_actor(agent_id), "agent_enrolled", agent_id, agent_id, detail)])
        return _Entry(key, fleet_id(tx), known is not None)

    async def _open_anew(self, entry: _Entry) -> _Entry:
        """Open the door to a key in another's place, once whoever came in by that one has been let go of."""
        agent_id = entry.key.agent_id
        self._keys.adopt(entry.key)
        self._wakeups.expel(agent_id)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LET_GO_WITHIN_S
        # Other processes let go of whom they hold once they have heard, and say nothing of it.
        not_before = loop.time() + (NEIGHBOURS_LET_GO_S if self._outside.store.is_shared else 0.0)
        while loop.time() < deadline and (loop.time() < not_before or self._wakeups.is_awaited(agent_id)):  # noqa: ASYNC110 - at most two seconds, when a key is replaced
            await asyncio.sleep(LOOK_EVERY_S)
        key = replace(entry.key, revoked_at=None)
        await self._outside.store.write(lambda tx: tx.keys.put([key]))
        self._wakeups.readmit(agent_id)
        return replace(entry, key=key)


def _add(tx: Transaction, token: EnrolmentToken) -> None:
    tx.enrolments.prune(token.created_at - TOKENS_KEPT)
    tx.enrolments.add(token)
    detail = {"for": token.agent_id, "may_replace": token.may_replace, "expires_at": token.expires_at.isoformat()}
    actor = user_actor(token.created_by)
    tx.audit.add([AuditEvent(token.created_at, actor, "enrolment_token_created", token.id, token.agent_id, detail)])


def _revoke(tx: Transaction, token_id: str, operator: Operator, now: datetime) -> None:
    token = tx.enrolments.named(token_id)
    if token is None:
        raise NotFound("There is no enrolment token of that id.", code="enrolment_token_not_found")
    if status_of(token, now) is TokenStatus.USED:
        raise Conflict(f"{token.used_by} used this token; revoke the key of that PC instead.", code="token_used")
    tx.enrolments.remove(token_id)
    actor = user_actor(operator.name)
    tx.audit.add([AuditEvent(now, actor, "enrolment_token_revoked", token_id, token.agent_id)])


def _refuse_bad(enrolment: Enrolment) -> None:
    if enrolment.agent_id is not None and not is_agent_id(enrolment.agent_id):
        raise BadInput("agent_id", _ID_RULE)
    if not is_key_hash(enrolment.key_hash):
        raise BadInput("key_hash", "expected the SHA-256 of the PC's key as 64 lower-case hexadecimal digits")
    if not 0 < len(enrolment.token) <= MAX_TOKEN_CHARS:
        raise BadInput("token", f"expected 1 to {MAX_TOKEN_CHARS} characters")


def _enrolled_key(known: AgentKey | None, agent_id: str, key_hash: str, now: datetime) -> AgentKey:
    """The PC's new key; in another's place it opens nothing yet."""
    if known is None:
        return AgentKey(agent_id, key_hash, now, KeySource.ENROLLED)
    return AgentKey(
        agent_id, key_hash, now, KeySource.ENROLLED, revoked_at=now, settings_key_hash=known.settings_key_hash
    )


def _already_enrolled(agent_id: str) -> str:
    return (
        f"{agent_id} has a key already. If this PC shall take its place, an administrator makes a token that may "
        f"replace it: reco3 enrol create --agent {agent_id} --may-replace"
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
