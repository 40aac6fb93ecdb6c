"""Decides whether a PC follows a change of whom it trusts: (change, what it trusts now, clock) → new trust | Refused.

It refuses a first key from the network: only who pins keys already can be handed on to others, by their owners.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from reco3.agent.clocks import Clock
from reco3.agent.config import ControlConfig
from reco3.agent.refusals import Refused
from reco3.protocol.envelope import SignedEnvelope
from reco3.protocol.strict_json import BadEnvelope
from reco3.protocol.trust_changes import TrustChange, parse_trust_change, read_signed_trust_change
from reco3.signing.trust_changes import TrustedKeys, signers_among, trust_set_of, trusted_keys

CLOCK_SKEW_S = 120


@dataclass(frozen=True, slots=True)
class Followed:
    """A change that counts here, who signed it, and what this PC trusts from then on."""

    signed: SignedEnvelope
    change: TrustChange
    control: ControlConfig
    owners: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The name by which it is remembered, so that it counts once."""
        return digest_of(self.signed)


def digest_of(signed: SignedEnvelope) -> str:
    """SHA-256 of a change's bytes."""
    return hashlib.sha256(signed.body).hexdigest()


def follow(
    raw: object, control: ControlConfig, *, is_development: bool, clock: Clock, spent: Collection[str]
) -> Followed | Refused:
    """Say whether a change that has just come is followed; `spent` are digests of those that were."""
    if not control.trust_changes:
        return Refused("trust_changes_off", "control.trust_changes is false: only the config says whom this PC trusts")
    followed = follow_again(raw, control, is_development=is_development)
    if isinstance(followed, Refused):
        return followed
    if followed.digest in spent:
        return Refused("already_used", "this PC followed that change before, and each counts once")
    return _untimely(followed.change, clock) or followed


def follow_again(raw: object, control: ControlConfig, *, is_development: bool) -> Followed | Refused:
    """The same whatever the time is: for one that this PC has followed before. Signatures come before the bytes."""
    if not control.approvers:
        return Refused("no_approvers", "this PC pins no key, and takes its first ones from its config alone")
    try:
        signed = read_signed_trust_change(raw)
        old = TrustedKeys(control.approvers, control.approvals_required)
        owners = signers_among(old, signed, is_development=is_development)
        if len(owners) < old.needed:
            return _too_few(owners, old)
        return _parsed(signed, control, owners, is_development=is_development)
    except BadEnvelope as error:
        return Refused("bad_trust_change", f"the change of trust is none: {error}")


def _parsed(
    signed: SignedEnvelope, control: ControlConfig, owners: tuple[str, ...], *, is_development: bool
) -> Followed | Refused:
    """Raises: BadEnvelope."""
    change = parse_trust_change(signed.body)
    if control.fleet_id and change.fleet_id != control.fleet_id:
        return Refused(
            "wrong_fleet", f"it was signed for fleet {change.fleet_id}, control.fleet_id is {control.fleet_id}"
        )
    if change.old != trust_set_of(control.approvers, control.approvals_required):
        return Refused("other_trust", "it is for PCs that trust another set of keys than this one")
    new = trusted_keys("new", change.new)
    agreeing = signers_among(new, signed, is_development=is_development)
    if len(agreeing) < new.approvals_required:
        return Refused(
            "too_few_new_signatures",
            f"{len(agreeing)} of the {new.approvals_required} owners of the new keys that it asks for signed, so "
            "nobody knows that they can",
        )
    following = replace(control, approvers=new.pins, approvals_required=new.approvals_required)
    return Followed(signed, change, following, owners)


def _too_few(owners: tuple[str, ...], old: TrustedKeys) -> Refused:
    return Refused(
        "too_few_signatures",
        f"{len(owners)} of the {old.needed} owners of the keys that this PC trusts signed it"
        + (f" ({', '.join(owners)})" if owners else ""),
    )


def _untimely(change: TrustChange, clock: Clock) -> Refused | None:
    now_s = clock.latest.timestamp()
    if clock.is_regressed:
        return Refused("clock_regressed", "this PC's clock was set back; see reco3 agent trust-clock")
    if change.created_at > now_s + CLOCK_SKEW_S:
        return Refused("not_yet_valid", f"it is from {_time(change.created_at)}, and this PC's clock is behind that")
    if change.expires_at <= now_s:
        return Refused("expired", f"its time was over at {_time(change.expires_at)}")
    return None


def _time(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()
