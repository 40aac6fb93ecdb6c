"""Trust changes: proposed by an administrator, signed by owners of the old and of the new keys, relayed to PCs.

The bytes are built in the transaction that proposes a change, and relayed as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from reco3.protocol.envelope import Signature, SignedEnvelope
from reco3.server.domain.audit import AuditEvent, user_actor
from reco3.server.domain.errors import NotFound
from reco3.server.domain.operators import Operator
from reco3.server.domain.trust_changes import (
    MAX_RELAYED,
    Handover,
    StoredTrustChange,
    TrustProposal,
    handover_of,
    proposed,
    signed_by,
    withdrawn,
)
from reco3.server.services.approvals import new_nonce
from reco3.server.services.fleet_ids import fleet_id
from reco3.server.services.ports import Cursor, Outside, Transaction


@dataclass(frozen=True, slots=True)
class ShownTrustChange:
    """A change as it is kept, and what its bytes say."""

    change: StoredTrustChange
    handover: Handover


@dataclass(frozen=True, slots=True)
class RelayedTrustChanges:
    """What every PC is given, and the revision that this is."""

    changes: tuple[SignedEnvelope, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class _Done:
    shown: ShownTrustChange
    revision: int


class TrustChangeService:
    """What people do about the keys that a fleet trusts, and what PCs hear of it."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._revision = 0

    @property
    def revision(self) -> int:
        """A number that grows whenever what PCs are given has changed; 0 while nothing ever was published."""
        return self._revision

    async def load_revision(self) -> None:
        """Learn the revision from the database, where another process may have moved it."""
        self._note(await self._outside.store.read(lambda tx: tx.trust_changes.revision()))

    async def propose(self, proposal: TrustProposal, operator: Operator) -> ShownTrustChange:
        """Build and keep a change that nobody has signed yet.

        Raises:
            BadInput: a set is none that a PC would take.
        """
        now, nonce = self._outside.clock(), _new_id()
        shown = await self._outside.store.write(lambda tx: _propose(tx, proposal, operator, now, nonce))
        self._announce()
        return shown

    async def newest(self, *, before: Cursor | None, limit: int) -> list[ShownTrustChange]:
        """Changes before a cursor, newest first.

        Raises:
            Conflict: the stored bytes of one are no trust change.
        """
        return await self._outside.store.read(
            lambda tx: [_shown(change) for change in tx.trust_changes.newest(before=before, limit=limit)]
        )

    async def get(self, change_id: str) -> ShownTrustChange:
        """One change.

        Raises:
            NotFound: there is none of that id.
            Conflict: its stored bytes are no trust change.
        """
        return await self._outside.store.read(lambda tx: _shown(_require(tx, change_id)))

    async def sign(self, change_id: str, operator: Operator, signature: Signature) -> ShownTrustChange:
        """Add a signature that `operator` brings; the one that makes enough publishes the change.

        Raises:
            NotFound: there is no change of that id.
            BadInput: the signature is by none of its keys, over its bytes.
            Conflict: it is over, or that key signed already.
        """
        now = self._outside.clock()
        done = await self._outside.store.write(lambda tx: _sign(tx, change_id, operator, now, signature=signature))
        return self._tell(done)

    async def withdraw(self, change_id: str, operator: Operator, *, reason: str) -> ShownTrustChange:
        """Relay a change no more; a PC that took it keeps it.

        Raises:
            NotFound: there is no change of that id.
            Conflict: it is over already.
        """
        now = self._outside.clock()
        done = await self._outside.store.write(lambda tx: _withdraw(tx, change_id, operator, now, reason=reason))
        return self._tell(done)

    async def relayed(self) -> RelayedTrustChanges:
        """What every PC is given: published, neither withdrawn nor expired."""
        now = self._outside.clock()

        def query(tx: Transaction) -> RelayedTrustChanges:
            return RelayedTrustChanges(
                tuple(tx.trust_changes.relayed(now, limit=MAX_RELAYED)), tx.trust_changes.revision()
            )

        return await self._outside.store.read(query)

    def _tell(self, done: _Done) -> ShownTrustChange:
        self._note(done.revision)
        self._announce()
        return done.shown

    def _note(self, revision: int) -> None:
        self._revision = max(self._revision, revision)

    def _announce(self) -> None:
        self._outside.announcer.announce("trust_changes", "")


def _new_id() -> str:
    """A nonce that no command line takes for an option."""
    nonce = new_nonce()
    while nonce.startswith("-"):
        nonce = new_nonce()
    return nonce


def _propose(
    tx: Transaction, proposal: TrustProposal, operator: Operator, now: datetime, nonce: str
) -> ShownTrustChange:
    change = proposed(proposal, fleet_id=fleet_id(tx), requested_by=operator.name, now=now, nonce=nonce)
    tx.trust_changes.add(change)
    shown = _shown(change)
    says = shown.handover.says
    detail = {
        "reason": says.reason,
        "expires_at": change.expires_at.isoformat(),
        "old": list(says.old.approvers),
        "old_required": says.old.approvals_required,
        "new": list(says.new.approvers),
        "new_required": says.new.approvals_required,
    }
    tx.audit.add([_event("trust_change_proposed", shown, operator, now, detail)])
    return shown


def _sign(tx: Transaction, change_id: str, operator: Operator, now: datetime, *, signature: Signature) -> _Done:
    before = _require(tx, change_id)
    after = signed_by(before, signature, now)
    tx.trust_changes.put(after)
    shown = _shown(after)
    signers = {"old_signed": list(after.old_signed), "new_signed": list(after.new_signed)}
    detail = {"key_id": signature.key_id, "kind": signature.kind, **signers}
    events = [_event("trust_change_signed", shown, operator, now, detail)]
    if before.published_at is None and after.published_at is not None:
        events.append(_event("trust_change_published", shown, operator, now, signers))
    tx.audit.add(events)
    return _Done(shown, tx.trust_changes.revision())


def _withdraw(tx: Transaction, change_id: str, operator: Operator, now: datetime, *, reason: str) -> _Done:
    before = _require(tx, change_id)
    after = withdrawn(before, operator.name, reason, now)
    tx.trust_changes.put(after)
    shown = _shown(after)
    detail = {"reason": reason, "was_published": before.published_at is not None}
    tx.audit.add([_event("trust_change_withdrawn", shown, operator, now, detail)])
    return _Done(shown, tx.trust_changes.revision())


def _require(tx: Transaction, change_id: str) -> StoredTrustChange:
    change = tx.trust_changes.get(change_id)
    if change is None:
        raise NotFound("There is no trust change of that id.", code="trust_change_not_found")
    return change


def _shown(change: StoredTrustChange) -> ShownTrustChange:
    return ShownTrustChange(change, handover_of(change))


def _event(
    event_type: str, shown: ShownTrustChange, operator: Operator, now: datetime, detail: Mapping[str, object]
) -> AuditEvent:
    old, new = shown.handover.versions
    facts = {"from": old, "to": new, **detail}
    return AuditEvent(now, user_actor(operator.name), event_type, shown.change.id, payload=facts)
