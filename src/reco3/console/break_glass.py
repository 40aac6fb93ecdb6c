"""`reco3 keys break-glass`: makes, signs and shows sheets for the day on which the server is down.

It refuses a sheet that could be used twice or on another PC, and a new one while a used one waits for review.
"""

import argparse
import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes
from typing import Any
from uuid import uuid4

from reco3.console.api import Api
from reco3.console.approver_keys import KeyFile, choose_key, key_folder, keys_in
from reco3.console.approving import open_key, signature_by
from reco3.console.arguments import open_api, parse_payload
from reco3.console.envelope_texts import envelope_lines
from reco3.console.key_arguments import DEFAULT_SHEET_DAYS
from reco3.console.keys import BadUsage
from reco3.console.output import NotSigned, done, tell, wants_json
from reco3.console.questions import said_yes
from reco3.console.sheets import Sheet, make_sheet, read_sheet, replace_sheet, write_sheet
from reco3.console.texts import json_text, visible
from reco3.protocol.envelope import (
    PAYLOAD_TYPE,
    Envelope,
    EnvelopePolicy,
    Signature,
    SignedEnvelope,
    build_envelope,
)
from reco3.protocol.strict_json import BadEnvelope
from reco3.signing.pins import fingerprint, key_id
from reco3.signing.verifying import Verified, verify_signature

Json = dict[str, Any]
DAY_S = 24 * 3600
MAX_PAGES = 100
# Whoever carries the sheet to the PC asks; so the owner who made it counts as one who approves.
REQUESTED_BY = "break-glass"
EPOCH_EXPECTED = (
    "a sheet names the journal of its PC, so that it can be used once: give --server URL to ask the server for it, "
    "or --agent-epoch EPOCH (`metrics.journal` of the PC in the answer of /api/r3/agents)"
)
FLEET_EXPECTED = "a sheet names the server's fleet: give --server URL to ask the server for it, or --fleet-id ID"


@dataclass(frozen=True, slots=True)
class Place:
    """For which PC a sheet is."""

    fleet_id: str
    agent_id: str
    agent_epoch: str


def make_or_sign_sheet(options: argparse.Namespace) -> int:
    """Make a sheet, or add a signature to one; returns the exit code."""
    key = choose_key(key_folder(os.environ), owner=options.owner, file=options.file)
    if options.add_signature is not None:
        return _add_signature(key, Path(options.add_signature), options)
    path = Path(options.out)
    if path.exists():
        raise BadUsage(f"{str(path)!a} exists and is not overwritten")
    sheet = _new_sheet(options, _place(options), now_s=int(time.time()))
    signed = _signed_sheet(sheet, key, options)
    write_sheet(path, signed)
    return _tell_sheet(signed, path, options)


def show_sheet(options: argparse.Namespace) -> int:
    """Say what a sheet does and who signed it; returns the exit code."""
    try:
        sheet = read_sheet(Path(options.sheet))
    except NotSigned as err:
        raise BadUsage(str(err)) from err
    if wants_json(options):
        return done([json_text(sheet.shape)])
    lines = [*envelope_lines(sheet.envelope, now_s=time.time()), "", *_signature_lines(sheet)]
    return done(lines)


def _add_signature(key: KeyFile, path: Path, options: argparse.Namespace) -> int:
    sheet = read_sheet(path)
    if time.time() >= sheet.envelope.expires_at:
        raise NotSigned("the sheet's time is over; make a new one")
    owner = key.pin.owner
    signers = [_owner_of(sheet, one, [key, *_own_keys()]) or "" for one in sheet.signed.signatures]
    if owner.casefold() in map(str.casefold, signers):
        raise NotSigned(f"{owner} has signed this sheet, and one owner counts once")
    signed = _signed_sheet(sheet, key, options)
    replace_sheet(path, signed)
    return _tell_sheet(signed, path, options)


def _new_sheet(options: argparse.Namespace, place: Place, *, now_s: int) -> Sheet:
    days = options.expires_in_days or DEFAULT_SHEET_DAYS
    envelope = Envelope(
        fleet_id=place.fleet_id,
        command_id=f"break-glass-{uuid4().hex}",
        agent_id=place.agent_id,
        agent_epoch=place.agent_epoch,
        type=options.type,
        payload=parse_payload(options.type, options.payload),
        expect=None,
        requested_by=REQUESTED_BY,
        reason=options.reason,
        created_at=now_s,
        expires_at=now_s + days * DAY_S,
        nonce=urlsafe_b64encode(token_bytes(16)).decode().rstrip("="),
        policy=EnvelopePolicy.BREAK_GLASS,
    )
    try:
        return make_sheet(SignedEnvelope(PAYLOAD_TYPE, build_envelope(envelope)))
    except BadEnvelope as err:
        raise BadUsage(f"such a sheet cannot be made: {err}") from err


def _place(options: argparse.Namespace) -> Place:
    api = None if options.server is None else open_api(options, os.environ)
    if api is not None:
        _refuse_unreviewed(api, options.pc)
    epoch, fleet = options.agent_epoch, options.fleet_id
    if api is not None and epoch is None:
        epoch = _epoch(api, options.pc)
    if api is not None and fleet is None:
        fleet = api.fleet().get("fleet_id")
    if not isinstance(epoch, str):
        raise BadUsage(EPOCH_EXPECTED)
    if not isinstance(fleet, str):
        raise BadUsage(FLEET_EXPECTED)
    return Place(fleet, options.pc, epoch)


def _refuse_unreviewed(api: Api, agent_id: str) -> None:
    for use in _uses(api):
        if use.get("agent_id") == agent_id and use.get("reviewed_at") is None:
            raise NotSigned(
                f"a sheet was used on {agent_id} on {visible(use.get('used_at'))} and nobody has reviewed that; "
                "review it on the page first"
            )


def _uses(api: Api) -> Iterator[Json]:
    """Every use that the server tells of; one without end is nobody's to wait for."""
    cursor: object = None
    for _ in range(MAX_PAGES):
        page = api.break_glass_uses(cursor if isinstance(cursor, str) else None)
        yield from _objects(page.get("break_glass"))
        cursor = page.get("next_cursor")
        if cursor is None:
            return
    raise NotSigned("the server's list of break-glass uses has no end")


def _epoch(api: Api, agent_id: str) -> str | None:
    for agent in _objects(api.agents().get("agents")):
        metrics = agent.get("metrics")
        if agent.get("agent_id") == agent_id and isinstance(metrics, dict):
            journal = metrics.get("journal")
            return journal if isinstance(journal, str) else None
    raise BadUsage(f"the server knows no PC {ascii(agent_id)[:80]}")


def _signed_sheet(sheet: Sheet, key: KeyFile, options: argparse.Namespace) -> Sheet:
    tell(["The bytes of this sheet say, and your signature says yes to:", ""])
    tell([*envelope_lines(sheet.envelope, now_s=time.time()), "", *_signature_lines(sheet)])
    tell([f"You sign as {key.pin.owner}, with the key {fingerprint(key.pin.key)}."])
    if not options.yes and not said_yes("Sign this?"):
        raise NotSigned("you did not say yes")
    return sheet.signed_by(signature_by(open_key(key, options.passphrase_file), sheet.message))


def _tell_sheet(sheet: Sheet, path: Path, options: argparse.Namespace) -> int:
    if wants_json(options):
        return done([json_text(sheet.shape)])
    count = len(sheet.signed.signatures)
    return done(
        [
            f"{visible(path)} has {count} signature{'' if count == 1 else 's'}.",
            "Keep it locked away, where somebody at the PC finds it.",
            "Another owner adds a signature, if the PC needs more than one:",
            f"  reco3 keys break-glass --add-signature {visible(path)}",
            "On the PC, with the server down:",
            f"  reco3 agent break-glass CONFIG {visible(path)}",
        ]
    )


def _signature_lines(sheet: Sheet) -> Iterator[str]:
    if not sheet.signed.signatures:
        yield "Nobody has signed it."
    own = _own_keys()
    for signature in sheet.signed.signatures:
        owner = _owner_of(sheet, signature, own)
        whose = (
            f"signed by {owner}, verified with the key on this machine"
            if owner
            else "signed by a key not on this machine"
        )
        yield f"{whose}: {visible(signature.key_id)}"


def _owner_of(sheet: Sheet, signature: Signature, keys: list[KeyFile]) -> str | None:
    """Whose signature it is, when a key of this machine verifies it."""
    for key in keys:
        if signature.key_id == key_id(key.pin.key):
            verdict = verify_signature(key.pin, signature, sheet.message)
            return key.pin.owner if isinstance(verdict, Verified) else None
    return None


def _own_keys() -> list[KeyFile]:
    try:
        return keys_in(key_folder(os.environ))
    except BadUsage:
        return []


def _objects(value: object) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
