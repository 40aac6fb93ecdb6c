"""`reco3 trust propose|list|show|sign|withdraw`: the keys of a fleet replaced by a change that their owners sign.

It refuses to sign what the server merely says, and with a key that the change does not name.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reco3.console.api import Api
from reco3.console.approver_keys import choose_key, key_folder
from reco3.console.approving import open_key, signature_by
from reco3.console.arguments import open_api
from reco3.console.keys import BadUsage
from reco3.console.output import NotSigned, done, run, tell, wants_json
from reco3.console.questions import said_yes
from reco3.console.texts import aligned, json_text, visible
from reco3.console.times import clock_text, epoch_text
from reco3.console.trust_arguments import parse_trust_arguments
from reco3.protocol.envelope import SignedEnvelope, pre_authentication_encoding, signature_shape
from reco3.protocol.strict_json import BadEnvelope
from reco3.protocol.trust_changes import (
    TrustChange,
    TrustSet,
    parse_trust_change,
    read_signed_trust_change,
    read_trust_set,
    trust_set_fields,
)
from reco3.signing.pins import BadPin, Pin, fingerprint, key_id, parse_pin, trust_version
from reco3.signing.trust_changes import TrustedKeys, signers_among, trust_set_of, trusted_keys

Json = dict[str, Any]
MAX_FILE_BYTES = 256 * 1024
TITLES = ("ID", "STATUS", "FROM", "TO", "OLD KEYS", "NEW KEYS", "ASKED BY", "EXPIRES")


def main(argv: Sequence[str]) -> int:
    """Carry out one verb; returns the exit code."""
    return run(
        lambda: parse_trust_arguments(argv),
        lambda options: _verbs[options.verb](open_api(options, os.environ), options),
    )


def _propose(api: Api, options: argparse.Namespace) -> int:
    old = _read_old(options.old)
    new = _changed(old, options)
    days = {"expires_in_days": options.expires_in_days} if options.expires_in_days else {}
    sets = {"old": trust_set_fields(_set_of(old)), "new": trust_set_fields(_set_of(new))}
    answer = api.propose_trust_change({**sets, "reason": options.reason, **days})
    if wants_json(options):
        return done([json_text(answer)])
    change_id = visible(answer.get("id"))
    return done([f"asked for the change {change_id}", *_need_lines(old, new), f"  reco3 trust sign {change_id}"])


def _list(api: Api, options: argparse.Namespace) -> int:
    answer = api.trust_changes()
    if wants_json(options):
        return done([json_text(answer)])
    changes = _objects(answer.get("trust_changes"))
    if not changes:
        return done(["no change of trust has been asked for"])
    return done(aligned([TITLES, *[_cells(change) for change in changes]]))


def _show(api: Api, options: argparse.Namespace) -> int:
    answer = api.trust_change(options.id)
    if wants_json(options):
        return done([json_text(answer)])
    offer = _read(answer, options.id)
    return done([f"status     {visible(answer.get('status'))}", *_lines(offer), *_signed_lines(offer)])


def _sign(api: Api, options: argparse.Namespace) -> int:
    key = choose_key(key_folder(os.environ), owner=options.owner, file=options.file)
    answer = api.trust_change(options.id)
    offer = _read(answer, options.id)
    _refuse_over(answer, offer)
    tell(["The bytes of this change say, and your signature says yes to:", "", *_lines(offer), *_signed_lines(offer)])
    if all(pin.key != key.pin.key for pin in (*offer.old.pins, *offer.new.pins)):
        raise NotSigned(f"it names {key.pin.owner}'s key {fingerprint(key.pin.key)} neither as an old nor as a new one")
    tell(["", f"You sign as {key.pin.owner}, with the key {fingerprint(key.pin.key)}."])
    if not options.yes and not said_yes("Sign this?"):
        raise NotSigned("you did not say yes")
    signature = signature_by(open_key(key, options.passphrase_file), offer.message)
    answer = api.sign_trust_change(options.id, {"signature": signature_shape(signature)})
    return done([json_text(answer)] if wants_json(options) else _progress_lines(answer))


def _withdraw(api: Api, options: argparse.Namespace) -> int:
    answer = api.withdraw_trust_change(options.id, options.reason)
    text = f"withdrew {visible(options.id)}: no PC is told of it any more; one that has followed it stays with it"
    return done([json_text(answer) if wants_json(options) else text])


@dataclass(frozen=True, slots=True)
class _Offer:
    """A change as its bytes say it; nothing here comes from what stands beside them."""

    signed: SignedEnvelope
    change: TrustChange
    old: TrustedKeys
    new: TrustedKeys

    @property
    def message(self) -> bytes:
        """The bytes that a signature is over."""
        return pre_authentication_encoding(self.signed.payload_type, self.signed.body)


def _read(answer: Json, change_id: str) -> _Offer:
    try:
        signed = read_signed_trust_change(answer.get("envelope"))
        change = parse_trust_change(signed.body)
        offer = _Offer(signed, change, trusted_keys("old", change.old), trusted_keys("new", change.new))
    except BadEnvelope as err:
        raise NotSigned(f"the server's bytes are no change of trust: {err}") from err
    if offer.change.nonce != change_id:
        raise NotSigned(f"the bytes are of the change {offer.change.nonce}, not of the one that you named")
    return offer


def _refuse_over(answer: Json, offer: _Offer) -> None:
    if time.time() >= offer.change.expires_at:
        raise NotSigned("its time is over; ask for it anew")
    if answer.get("status") == "withdrawn":
        raise NotSigned(f"{visible(answer.get('withdrawn_by'))} withdrew it: {visible(answer.get('withdrawn_reason'))}")


def _lines(offer: _Offer) -> Iterator[str]:
    change, old, new = offer.change, offer.old, offer.new
    before, after = {pin.key: pin for pin in old.pins}, {pin.key: pin for pin in new.pins}
    for key, pin in before.items():
        yield f"  {'keeps' if key in after else 'REMOVES'}   {_pin_text(pin)}"
    yield from (f"  ADDS      {_pin_text(pin)}" for key, pin in after.items() if key not in before)
    after_it = f"{new.approvals_required} of {len(new.owners)} ({', '.join(new.owners)})"
    yield f"  signers   {old.approvals_required} of {len(old.owners)} before, {after_it} after"
    yield f"  PCs       all of fleet {change.fleet_id} that trust {trust_version(old.pins)} now"
    yield f"  asked by  {visible(change.requested_by)}"
    yield f"  because   {visible(change.reason)}"
    yield f"  made      {epoch_text(change.created_at * 1000)}"
    yield f"  until     {epoch_text(change.expires_at * 1000)}"


def _signed_lines(offer: _Offer) -> Iterator[str]:
    """Who has signed, verified here with the keys that the bytes name."""
    for name, keys, needed in (
        ("old keys", offer.old, offer.old.needed),
        ("new keys", offer.new, offer.new.approvals_required),
    ):
        owners = signers_among(keys, offer.signed, is_development=True)
        yield f"  {name}  {len(owners)} of {needed} signed" + (f": {', '.join(owners)}" if owners else "")


def _progress_lines(answer: Json) -> Iterator[str]:
    if answer.get("status") == "published":
        yield "signed, and enough have: every PC that trusts the old keys follows within a minute"
        return
    old = f"{_count(answer, 'old_signed')} of {visible(answer.get('old_needed'))} owners of old keys"
    new = f"{_count(answer, 'new_signed')} of {visible(answer.get('new_needed'))} owners of new keys"
    yield f"signed; {old} and {new} have: the others run reco3 trust sign {visible(answer.get('id'))}"


def _need_lines(old: TrustedKeys, new: TrustedKeys) -> Iterator[str]:
    yield f"It counts once {old.needed} of {', '.join(old.owners)} have signed it with an old key"
    yield f"and {new.approvals_required} of {', '.join(new.owners)} with a new one, each on his own machine"
    yield "or on the page:"


def _read_old(name: str) -> TrustedKeys:
    content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1) if name == "-" else _content(Path(name))
    try:
        return trusted_keys("old", read_trust_set("old", json.loads(content)))
    except (ValueError, RecursionError) as err:
        why = f": {err}" if isinstance(err, BadEnvelope) else ""
        raise BadUsage(
            f"{name!a}: expected what `reco3 agent trust export CONFIG` prints on one of the PCs{why}"
        ) from err


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as err:
        raise BadUsage(f"cannot read {str(path)!a}: {err.strerror}") from err


def _changed(old: TrustedKeys, options: argparse.Namespace) -> TrustedKeys:
    pins = list(old.pins)
    for text in options.remove:
        pins.remove(_found(pins, text))
    for text in options.add:
        pin = _parsed(text)
        if any(pin.key == other.key for other in pins):
            raise BadUsage(f"{visible(text[:60])}: that key is in the set already")
        pins.append(pin)
    new = TrustedKeys(tuple(pins), options.required or old.approvals_required)
    if _set_of(new) == _set_of(old):
        raise BadUsage("nothing would change: give --add, --remove or --required")
    if not pins or len(new.owners) < new.approvals_required:
        raise BadUsage(
            f"{len(new.owners)} people would own keys then, and {new.approvals_required} must sign: add others, or "
            "give --required"
        )
    return new


def _found(pins: Sequence[Pin], text: str) -> Pin:
    name = text.replace(" ", "").replace("-", "").lower()
    key = _parsed(text).key if ":" in text else None
    for pin in pins:
        if pin.key == key or key_id(pin.key) == name:
            return pin
    raise BadUsage(f"{visible(text[:60])}: no such key is in the set")


def _parsed(text: str) -> Pin:
    try:
        return parse_pin(text)
    except BadPin as err:
        raise BadUsage(f"{visible(text[:60])}: {err}") from err


def _set_of(keys: TrustedKeys) -> TrustSet:
    return trust_set_of(keys.pins, keys.approvals_required)


def _pin_text(pin: Pin) -> str:
    place = f" at {pin.origin}" if pin.origin else ""
    return f"{pin.owner}  {pin.kind}{place}  {fingerprint(pin.key)}"


def _cells(change: Json) -> tuple[str, ...]:
    old, new = _object(change.get("old")), _object(change.get("new"))
    return (
        visible(change.get("id")),
        visible(change.get("status")),
        visible(old.get("trust_version")),
        visible(new.get("trust_version")),
        f"{_count(change, 'old_signed')} of {visible(change.get('old_needed'))}",
        f"{_count(change, 'new_signed')} of {visible(change.get('new_needed'))}",
        visible(change.get("requested_by")),
        clock_text(change.get("expires_at")),
    )


def _count(answer: Json, name: str) -> int:
    owners = answer.get(name)
    return len(owners) if isinstance(owners, list) else 0


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


_verbs: Mapping[str, Callable[[Api, argparse.Namespace], int]] = {
    "propose": _propose,
    "list": _list,
    "show": _show,
    "sign": _sign,
    "withdraw": _withdraw,
}
