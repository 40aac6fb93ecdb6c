"""`reco3 approve` and `reco3 deny`: a person's yes, signed here over bytes that were read here.

It refuses to sign what the server merely says, and remembers nothing secret.
"""

import argparse
import hashlib
import os
import time
from collections.abc import Sequence
from typing import Any

from reco3.console.api import Api
from reco3.console.approval_arguments import parse_approve, parse_deny
from reco3.console.approver_keys import KeyFile, SigningKey, choose_key, key_folder, unlock
from reco3.console.arguments import open_api
from reco3.console.envelope_texts import offer_lines
from reco3.console.offers import Offer, read_offer, refuse_other_row
from reco3.console.output import NotSigned, complain, done, run, tell, wants_json
from reco3.console.passphrases import passphrase
from reco3.console.questions import said_yes
from reco3.console.texts import json_text, visible
from reco3.console.waiting import wait_and_tell
from reco3.protocol.envelope import Signature, signature_shape
from reco3.signing.pins import fingerprint, key_id

Json = dict[str, Any]


def approve_main(argv: Sequence[str]) -> int:
    """`reco3 approve`; returns the exit code."""
    return run(lambda: parse_approve(argv), lambda options: _approve(open_api(options, os.environ), options))


def deny_main(argv: Sequence[str]) -> int:
    """`reco3 deny`; returns the exit code."""
    return run(lambda: parse_deny(argv), lambda options: _deny(open_api(options, os.environ), options))


def open_key(key: KeyFile, passphrase_file: str | None) -> SigningKey:
    """The key, opened with a passphrase where it has one.

    Raises:
        BadUsage: the passphrase is wrong, or nobody can be asked for it.
    """
    if key.salt is None:
        return unlock(key, None)
    return unlock(key, passphrase(passphrase_file, of=f"{key.pin.owner}'s key"))


def signature_by(key: SigningKey, message: bytes) -> Signature:
    """A signature over the pre-authentication encoding of an envelope."""
    return Signature(key.pin.kind, key_id(key.pin.key), key.sign(message))


def send_signature(api: Api, offer: Offer, signature: Signature, comment: str | None) -> Json:
    """Say yes with a signature; the server holds it against the bytes that it has."""
    approval: Json = {
        "signature": signature_shape(signature),
        "body_sha256": hashlib.sha256(offer.signed.body).hexdigest(),
    }
    return api.approve_signed(offer.envelope.command_id, approval | ({"comment": comment} if comment else {}))


def _approve(api: Api, options: argparse.Namespace) -> int:
    key = choose_key(key_folder(os.environ), owner=options.owner, file=options.file)
    offer = read_offer(api.envelope(options.id), command_id=options.id, now_s=time.time())
    refuse_other_row(offer.envelope, api.command(options.id))
    tell(offer_lines(offer, now_s=time.time()))
    _warn_of_own_request(key, offer)
    tell(["", f"You sign as {key.pin.owner}, with the key {fingerprint(key.pin.key)}."])
    if not options.yes and not said_yes("Sign this?"):
        raise NotSigned("you did not say yes")
    signature = signature_by(open_key(key, options.passphrase_file), offer.message)
    answer = send_signature(api, offer, signature, options.comment)
    return _tell_result(api, options, answer)


def _warn_of_own_request(key: KeyFile, offer: Offer) -> None:
    if key.pin.owner.casefold() == offer.envelope.requested_by.casefold():
        complain(
            f"{key.pin.owner} asked for this: a PC with control.four_eyes (the default) does not count the "
            "signature of whoever asked"
        )


def _tell_result(api: Api, options: argparse.Namespace, answer: Json) -> int:
    command_id = visible(options.id)
    if answer.get("status") == "approved" and not options.no_wait:
        return wait_and_tell(api, options.id, is_json=wants_json(options))
    if wants_json(options):
        return done([json_text(answer)])
    if answer.get("status") == "approved":
        return done([f"signed and approved {command_id}"])
    progress = f"{answer.get('approvals')} of {answer.get('required')} approvals"
    return done([f"signed {command_id} ({visible(progress)}); it needs another person: reco3 approve {command_id}"])


def _deny(api: Api, options: argparse.Namespace) -> int:
    answer = api.deny(options.id, options.reason)
    return done([json_text(answer)] if wants_json(options) else [f"denied {visible(options.id)}: it will not run"])
