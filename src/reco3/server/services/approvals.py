"""Approvals: the bytes to sign, the yes and the no of people, and what they say to each other.

The bytes are built in the transaction that requests a command, and relayed as they are.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reco3.protocol.envelope import encode_base64url
from reco3.protocol.strict_json import BadEnvelope
from reco3.server.domain.agents import Agent
from reco3.server.domain.approvals import (
    MAX_COMMENTS,
    NOT_VERIFIED,
    Comment,
    GivenApproval,
    PcTrust,
    approved,
    envelope_for,
    is_outdated,
    journal_of,
    may_be_sealed,
    named_key,
    refuse_approval,
    refuse_denial,
    refuse_unsigned,
    refuse_what_changed,
    seen_process,
    trust_of,
    under_terms,
    verified_by,
)
from reco3.server.domain.audit import user_actor
from reco3.server.domain.commands import Approval, Command, Expectation, rejected
from reco3.server.domain.envelopes import StoredEnvelope, sealed
from reco3.server.domain.errors import BadInput, Conflict, NotFound
from reco3.server.domain.operators import Operator
from reco3.server.domain.policies import terms_for
from reco3.server.services.agents import require_agent
from reco3.server.services.command_rows import command_event, require_command
from reco3.server.services.fleet_ids import FLEET_ID, fleet_id
from reco3.server.services.ports import Outside, Transaction

NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Offer:
    """What an approver may sign: the command with its envelope, and what its PC says of approvals."""

    command: Command
    envelope: StoredEnvelope
    trust: PcTrust


class ApprovalService:
    """What approvers look at and say, but for the yes itself, which `CommandService.approve` takes."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def open_fleet(self) -> str:
        """Make the fleet's id, once; returns it."""
        known = await self._outside.store.read(lambda tx: tx.facts.get(FLEET_ID))
        return known if known is not None else await self._outside.store.write(fleet_id)

    async def offer(self, command_id: str) -> Offer:
        """The bytes to sign; renewed first when nobody has approved and the PC reports another process.

        Raises:
            NotFound: there is no such command, or it has no envelope.
            BadInput: the command needs no approval.
            Conflict: the stored bytes are no envelope.
        """
        offer, is_old = await self._outside.store.read(lambda tx: _offer(tx, command_id))
        if not is_old:
            return offer
        now, nonce = self._outside.clock(), new_nonce()
        return await self._outside.store.write(lambda tx: _renewed_offer(tx, command_id, now, nonce))

    async def deny(self, command_id: str, operator: Operator, *, reason: str) -> Command:
        """Say no for good: the command will not run.

        Raises:
            NotFound: there is no such command.
            BadInput: the command needs no approval.
            Conflict: its PC has it, or it has ended.
        """
        now = self._outside.clock()
        command = await self._outside.store.write(lambda tx: _deny(tx, command_id, operator, now, reason=reason))
        self._outside.announcer.announce("commands", command.agent_id)
        return command

    async def comment(self, command_id: str, operator: Operator, *, text: str) -> Comment:
        """Keep what somebody says about a command.

        Raises:
            NotFound: there is no such command.
            Conflict: too much has been said about it.
        """
        comment = Comment(self._outside.new_id(), command_id, operator.name, text, self._outside.clock())
        command = await self._outside.store.write(lambda tx: _comment(tx, comment))
        self._outside.announcer.announce("commands", command.agent_id)
        return comment

    async def trusts(self, agent_ids: Collection[str]) -> Mapping[str, PcTrust]:
        """What these PCs say of approvals."""
        if not agent_ids:
            return {}
        agents = await self._outside.store.read(lambda tx: tx.agents.named(sorted(agent_ids)))
        return {agent_id: trust_of(agent) for agent_id, agent in agents.items()}


def new_nonce() -> str:
    """Base64url of 16 random bytes."""
    return encode_base64url(secrets.token_bytes(NONCE_BYTES))


def ready_for_approval(
    tx: Transaction, command: Command, agent: Agent, *, lifetime: timedelta | None, approval_required: bool, nonce: str
) -> Command:
    """The requested strong command under its policy's terms, with the bytes that approvers will sign.

    Raises:
        BadInput: the terms refuse it, or its PC pins approvers and no envelope can be made of it.
    """
    trust = trust_of(agent)
    terms = terms_for(tx.policies.all(), command.type, command.agent_id, has_people=tx.operators.has_people())
    ready = under_terms(command, terms, trust, lifetime=lifetime, approval_required=approval_required)
    try:
        return replace(ready, envelope=_sealed(tx, ready, agent, nonce))
    except BadEnvelope as err:
        if trust.verifies:
            raise BadInput(err.field, f"expected {err.expected}, because this PC pins approvers") from err
        return ready


def approve(tx: Transaction, approval: Approval, given: GivenApproval, *, nonce: str) -> Command:
    """Record one yes; returns the command after it.

    Raises:
        NotFound: there is no such command.
        BadInput: it needs no approval, or the signature is not by the approver's own key over its bytes.
        Conflict: it has enough approvals, does not wait, is not what was shown, or its PC obeys signatures alone.
        Forbidden: four eyes, and the approver asked for it himself.
    """
    command = require_command(tx, approval.command_id)
    refuse_approval(command, approval)
    agent = require_agent(tx, command.agent_id)
    trust, seen = trust_of(agent), seen_process(agent, command)
    refuse_what_changed(command, given, seen)
    refuse_unsigned(given, trust)
    if given.signature is not None:
        _verify(tx, command, approval, given)
    elif is_outdated(command, seen):
        command = _renew(tx, command, agent, approval.approved_at, nonce)
    after = approved(command, approval, seen, trust)
    tx.commands.put(after)
    tx.commands.add_approval(approval)
    tx.audit.add([command_event("command_approved", after, approval.approved_at, *_approval_facts(after, trust))])
    return after


def trust_facts(trust: PcTrust) -> dict[str, object]:
    """What audit rows say about who verifies approvals."""
    if trust.verifies:
        return {"verified_by_pc": True, "trust_version": trust.trust_version}
    return {"verified_by_pc": False, "note": NOT_VERIFIED}


def _verify(tx: Transaction, command: Command, approval: Approval, given: GivenApproval) -> None:
    if given.signature is None:
        return
    key = named_key(given.signature, tx.operator_keys.of(approval.approved_by))
    sign_count = verified_by(key, given.signature, command).sign_count
    if sign_count is not None and sign_count > key.sign_count:
        tx.operator_keys.note_use(key.key_id, sign_count)


def _approval_facts(command: Command, trust: PcTrust) -> tuple[str, dict[str, object]]:
    last = command.approvals[-1]
    facts: dict[str, object] = {
        "approval_id": last.id,
        "type": command.type,
        "requested_by": command.created_by,
        "approvals": len(command.approvals),
        "approvals_required": command.approvals_required,
        "four_eyes": command.four_eyes,
        "key_ids": [one.signature.key_id for one in command.approvals if one.signature is not None],
        **trust_facts(trust),
    }
    if last.signature is not None:
        facts["kind"] = last.signature.kind
    return user_actor(last.approved_by), facts


def _sealed(tx: Transaction, command: Command, agent: Agent, nonce: str) -> StoredEnvelope | None:
    if not may_be_sealed(command):
        return None
    envelope = envelope_for(
        command,
        seen_process(agent, command),
        fleet_id=fleet_id(tx),
        agent_epoch=journal_of(agent),
        nonce=nonce,
    )
    return sealed(envelope)


def _renew(tx: Transaction, command: Command, agent: Agent, now: datetime, nonce: str) -> Command:
    try:
        envelope = _sealed(tx, command, agent, nonce)
    except BadEnvelope:
        return command
    if envelope is None:
        return command
    tx.commands.put_envelope(command.id, envelope, now)
    return replace(command, envelope=envelope)


def _offer(tx: Transaction, command_id: str) -> tuple[Offer, bool]:
    command = require_command(tx, command_id)
    if not command.needs_approval:
        raise BadInput("type", f"{command.type} needs no approval; it runs at once", code="approval_not_needed")
    if command.envelope is None:
        raise NotFound("This command has no envelope to sign.", code="no_envelope")
    agent = require_agent(tx, command.agent_id)
    seen: Expectation | None = seen_process(agent, command)
    return Offer(command, command.envelope, trust_of(agent)), is_outdated(command, seen)


def _renewed_offer(tx: Transaction, command_id: str, now: datetime, nonce: str) -> Offer:
    offer, is_old = _offer(tx, command_id)
    if not is_old:
        return offer
    command = _renew(tx, offer.command, require_agent(tx, offer.command.agent_id), now, nonce)
    # Whoever approves the old bytes at this moment must notice: both change the same version.
    tx.commands.put(command)
    return Offer(command, command.envelope or offer.envelope, offer.trust)


def _deny(tx: Transaction, command_id: str, operator: Operator, now: datetime, *, reason: str) -> Command:
    command = require_command(tx, command_id)
    refuse_denial(command, now)
    denied = rejected(command, operator.name, reason, now)
    tx.commands.put(denied)
    detail = {"type": command.type, "requested_by": command.created_by, "reason": reason}
    tx.audit.add([command_event("command_rejected", denied, now, user_actor(operator.name), detail)])
    return denied


def _comment(tx: Transaction, comment: Comment) -> Command:
    command = require_command(tx, comment.command_id)
    if tx.comments.count_of(command.id) >= MAX_COMMENTS:
        raise Conflict(f"This command has {MAX_COMMENTS} comments already.", code="too_many_comments")
    tx.comments.add(comment)
    detail = {"comment_id": comment.id}
    tx.audit.add([command_event("command_commented", command, comment.created_at, user_actor(comment.author), detail)])
    return command
