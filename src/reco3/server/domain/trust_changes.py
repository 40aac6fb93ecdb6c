"""Trust changes: which keys a fleet hands its trust to, who signed that, and when it is enough to be relayed.

Nothing here makes a PC obey: a PC verifies every signature by itself, against the keys that it pins.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from reco3.protocol.envelope import MAX_SIGNATURES, Signature, SignedEnvelope, pre_authentication_encoding
from reco3.protocol.strict_json import BadEnvelope
from reco3.protocol.trust_changes import (
    TRUST_PAYLOAD_TYPE,
    TrustChange,
    TrustSet,
    build_trust_change,
    parse_trust_change,
    read_trust_set,
)
from reco3.server.domain.errors import BadInput, Conflict
from reco3.signing.pins import Pin, key_id, trust_version
from reco3.signing.trust_changes import TrustedKeys, signers_among, trusted_keys
from reco3.signing.verifying import Rejected, verify_signature

MAX_LIFETIME_DAYS = 30
USUAL_LIFETIME_DAYS = 7
MAX_RELAYED = 16


class TrustChangeStatus(StrEnum):
    """What can still become of a change; `published` alone is relayed to PCs."""

    OPEN = "open"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class ProposedSet:
    """A set of keys as an administrator names it: pins in any order."""

    approvers: tuple[str, ...]
    approvals_required: int


@dataclass(frozen=True, slots=True)
class TrustProposal:
    """From which keys to which, why, and for how many days it may be signed and taken."""

    old: ProposedSet
    new: ProposedSet
    reason: str
    lifetime_days: int = USUAL_LIFETIME_DAYS


@dataclass(frozen=True, slots=True)
class StoredTrustChange:
    """One change as it is kept; `body` is byte for byte what was built, and `id` is its nonce.

    `old_signed` and `new_signed` are the distinct owners of the old and of the new keys who signed.
    """

    id: str
    payload_type: str
    body: bytes
    created_at: datetime
    expires_at: datetime
    signatures: tuple[Signature, ...] = ()
    old_signed: tuple[str, ...] = ()
    new_signed: tuple[str, ...] = ()
    published_at: datetime | None = None
    withdrawn_at: datetime | None = None
    withdrawn_by: str | None = None
    withdrawn_reason: str | None = None
    version: int = 0

    @property
    def signed(self) -> SignedEnvelope:
        """What travels: the bytes, and who signed them."""
        return SignedEnvelope(self.payload_type, self.body, self.signatures)

    @property
    def message(self) -> bytes:
        """What is signed: the pre-authentication encoding."""
        return pre_authentication_encoding(self.payload_type, self.body)


@dataclass(frozen=True, slots=True)
class Handover:
    """What a change's bytes say, its keys read."""

    says: TrustChange
    old: TrustedKeys
    new: TrustedKeys

    @property
    def versions(self) -> tuple[str, str]:
        """The names of the old and of the new set, as PCs report them."""
        return trust_version(self.old.pins), trust_version(self.new.pins)


def status_of(change: StoredTrustChange, now: datetime) -> TrustChangeStatus:
    """What the change is at this moment."""
    if change.withdrawn_at is not None:
        return TrustChangeStatus.WITHDRAWN
    if now >= change.expires_at:
        return TrustChangeStatus.EXPIRED
    return TrustChangeStatus.OPEN if change.published_at is None else TrustChangeStatus.PUBLISHED


def proposed(
    proposal: TrustProposal, *, fleet_id: str, requested_by: str, now: datetime, nonce: str
) -> StoredTrustChange:
    """Build the bytes that owners of the old and of the new keys will sign, once.

    Raises:
        BadInput: a set is none that a PC would take, or its signatures could not all travel.
    """
    created_at = datetime.fromtimestamp(int(now.timestamp()), UTC)
    expires_at = created_at + timedelta(days=proposal.lifetime_days)
    try:
        says = TrustChange(
            fleet_id=fleet_id,
            old=_as_signed("old", proposal.old),
            new=_as_signed("new", proposal.new),
            requested_by=requested_by,
            reason=proposal.reason,
            created_at=int(created_at.timestamp()),
            expires_at=int(expires_at.timestamp()),
            nonce=nonce,
        )
        _refuse_unsignable(trusted_keys("old", says.old), trusted_keys("new", says.new))
        body = build_trust_change(says)
    except BadEnvelope as err:
        raise BadInput(err.field, f"expected {err.expected}") from err
    return StoredTrustChange(nonce, TRUST_PAYLOAD_TYPE, body, now, expires_at)


def handover_of(change: StoredTrustChange) -> Handover:
    """Read what a stored change says.

    Raises:
        Conflict: the bytes are no trust change, so somebody changed them in the database.
    """
    try:
        says = parse_trust_change(change.body)
        return Handover(says, trusted_keys("old", says.old), trusted_keys("new", says.new))
    except BadEnvelope as err:
        raise Conflict(f"The stored bytes are no trust change ({err}).", code="bad_envelope") from err


def refuse_over(change: StoredTrustChange, now: datetime) -> None:
    """Refuse what nobody can sign or withdraw any more.

    Raises:
        Conflict: `trust_change_over`.
    """
    status = status_of(change, now)
    if status in (TrustChangeStatus.WITHDRAWN, TrustChangeStatus.EXPIRED):
        raise Conflict(f"This trust change is {status}; propose it anew.", code="trust_change_over")


def signed_by(change: StoredTrustChange, signature: Signature, now: datetime) -> StoredTrustChange:
    """The change after one more signature; with enough of both sides it is published.

    Whether a development key counts is the PC's own decision, so here it does.

    Raises:
        BadInput: the signature is by none of the keys of the change, over its bytes.
        Conflict: it is over, that key signed already, or no further signature can travel with it.
    """
    refuse_over(change, now)
    handover = handover_of(change)
    _verify(signature, (*handover.old.pins, *handover.new.pins), change.message)
    if any(one.key_id == signature.key_id for one in change.signatures):
        raise Conflict("That key has signed this trust change already.", code="already_signed")
    if len(change.signatures) >= MAX_SIGNATURES:
        raise Conflict(f"It carries {MAX_SIGNATURES} signatures already; propose it anew.", code="too_many_signatures")
    after = replace(change, signatures=(*change.signatures, signature))
    old_signed = signers_among(handover.old, after.signed, is_development=True)
    new_signed = signers_among(handover.new, after.signed, is_development=True)
    is_enough = len(old_signed) >= handover.old.needed and len(new_signed) >= handover.new.approvals_required
    published_at = change.published_at or (now if is_enough else None)
    return replace(after, old_signed=old_signed, new_signed=new_signed, published_at=published_at)


def withdrawn(change: StoredTrustChange, name: str, reason: str, now: datetime) -> StoredTrustChange:
    """The change after an administrator took it back: it is relayed no more, and a PC that took it keeps it.

    Raises:
        Conflict: it is over already.
    """
    refuse_over(change, now)
    return replace(change, withdrawn_at=now, withdrawn_by=name, withdrawn_reason=reason)


def _as_signed(field: str, wanted: ProposedSet) -> TrustSet:
    fields = {"approvers": sorted(wanted.approvers), "approvals_required": wanted.approvals_required}
    return read_trust_set(field, fields)


def _refuse_unsignable(old: TrustedKeys, new: TrustedKeys) -> None:
    new_keys = {pin.key for pin in new.pins}
    staying = {pin.owner.casefold() for pin in old.pins if pin.key in new_keys}
    # Whoever signs with a key of both sets counts on both sides.
    fewest = old.needed + new.approvals_required - min(len(staying), old.needed, new.approvals_required)
    if fewest > MAX_SIGNATURES:
        raise BadEnvelope(
            "new.approvals_required",
            f"a change that {MAX_SIGNATURES} signatures suffice for; this one needs {fewest}",
        )


def _verify(signature: Signature, pins: Iterable[Pin], message: bytes) -> None:
    named = [pin for pin in pins if pin.kind is signature.kind and key_id(pin.key) == signature.key_id]
    if not named:
        raise BadInput("signature.key_id", "expected one of the keys of this trust change", code="unknown_key")
    verdicts = [verify_signature(pin, signature, message) for pin in named]
    rejected = [verdict for verdict in verdicts if isinstance(verdict, Rejected)]
    # One key may stand in both sets under two names or addresses; it signed if it did so as one of them.
    if len(rejected) == len(verdicts):
        raise BadInput("signature", rejected[0].reason, code="bad_signature")
