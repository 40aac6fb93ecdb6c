"""Decides whether enough of the right people signed a command: (envelope, what was verified, trust) → yes | Refused.

It refuses to verify anything itself, and to parse bytes before they are verified: no cryptography, clock or file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reco3.agent.config import ControlConfig
from reco3.agent.refusals import Refused
from reco3.protocol.envelope import (
    Envelope,
    EnvelopePolicy,
    SignedEnvelope,
    parse_envelope,
    read_signed_envelope,
)
from reco3.protocol.strict_json import BadEnvelope

MAX_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """What verification says of one signature: whose it is, or why it does not count."""

    owner: str = ""
    refusal: Refused | None = None


Verify = Callable[[SignedEnvelope], Sequence[SignatureCheck]]


@dataclass(frozen=True, slots=True)
class Approved:
    """An envelope that enough distinct owners of pinned keys signed; `owners` are sorted."""

    envelope: Envelope
    owners: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Which PC this is, which of its journals remembers, and which command is looked at, from where it came."""

    agent_id: str
    epoch: str | None
    command_id: str
    is_break_glass: bool


def read_approved(raw: object, control: ControlConfig, verify: Verify, *, config_path: str) -> Approved | Refused:
    """Go from what travelled to what enough owners signed; the signatures come before the bytes are parsed."""
    if raw is None:
        return _not_signed(config_path)
    try:
        signed = read_signed_envelope(raw)
    except BadEnvelope as error:
        return _bad_envelope(error)
    owners = _owners(signed, control, verify, config_path)
    if isinstance(owners, Refused):
        return owners
    try:
        return Approved(parse_envelope(signed.body), owners)
    except BadEnvelope as error:
        return _bad_envelope(error)


def misdirected(envelope: Envelope, control: ControlConfig, place: Place) -> Refused | None:
    """Say whether an envelope is for another fleet, PC, journal or command, or came the wrong way."""
    if control.fleet_id and envelope.fleet_id != control.fleet_id:
        return Refused(
            "wrong_fleet", f"it was signed for fleet {envelope.fleet_id}, control.fleet_id is {control.fleet_id}"
        )
    if envelope.agent_id != place.agent_id:
        return Refused("wrong_agent", f"it was signed for {envelope.agent_id}, this PC is {place.agent_id}")
    if not _is_this_journal(envelope, place):
        return Refused(
            "wrong_epoch",
            f"it was signed for journal {envelope.agent_epoch} of this PC, which is now {place.epoch}: the agent was "
            "installed anew or its journal was lost since; request it anew",
        )
    if envelope.command_id != place.command_id:
        return Refused(
            "wrong_command", f"it was signed for command {envelope.command_id}, this is {_shown(place.command_id)}"
        )
    if (envelope.policy is EnvelopePolicy.BREAK_GLASS) is not place.is_break_glass:
        return Refused(
            "wrong_policy",
            "a break-glass envelope is used at the PC itself (reco3 agent break-glass CONFIG FILE), and an approval of "
            "a command comes from the server",
        )
    return None


def self_approval(approved: Approved, control: ControlConfig, *, config_path: str) -> Refused | None:
    """Say whether the requester's own signature would have been needed."""
    if not control.four_eyes:
        return None
    requester = approved.envelope.requested_by.casefold()
    others = [owner for owner in approved.owners if owner.casefold() != requester]
    if len(others) >= control.approvals_required:
        return None
    return Refused(
        "self_approval",
        f"{approved.envelope.requested_by} requested this, so that signature does not count; {len(others)} of the "
        f"{control.approvals_required} others that control.approvals_required in {config_path} asks for signed",
    )


def _is_this_journal(envelope: Envelope, place: Place) -> bool:
    # A sheet in a safe may be older than the journal: it is used by hand, and the journal still counts its uses.
    if envelope.agent_epoch is None and place.is_break_glass:
        return True
    return envelope.agent_epoch is not None and envelope.agent_epoch == place.epoch


def _owners(
    signed: SignedEnvelope, control: ControlConfig, verify: Verify, config_path: str
) -> tuple[str, ...] | Refused:
    """Count people, not keys or signatures; one that does not count matters only when it would have been needed."""
    if not signed.signatures:
        return _not_signed(config_path)
    checks = verify(signed)
    owners = {check.owner.casefold(): check.owner for check in checks if check.refusal is None}
    if len(owners) >= control.approvals_required:
        return tuple(sorted(owners.values()))
    refusal = next((check.refusal for check in checks if check.refusal is not None), None)
    return refusal or Refused(
        "too_few_signatures",
        f"control.approvals_required in {config_path} is {control.approvals_required}, and {len(owners)} of the owners "
        f"in control.approvers signed ({', '.join(sorted(owners.values()))})",
    )


def _not_signed(config_path: str) -> Refused:
    return Refused(
        "not_signed",
        f"control.approvers in {config_path} pins keys, and nobody signed this: one of their owners must approve it on "
        "the RECO3 page or with reco3 approve",
    )


def _bad_envelope(error: BadEnvelope) -> Refused:
    return Refused(error.code, f"the signed envelope is not one: {error}")


def _shown(value: str) -> str:
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"
