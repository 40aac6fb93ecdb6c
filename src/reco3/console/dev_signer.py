"""`reco3 dev-signer`: signs whatever waits for approval, so that one developer can try the whole way.

It refuses any server that is not on this machine; a PC refuses its signatures unless it is a development PC.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reco3.console.api import Api, Refused, Unreachable
from reco3.console.approval_arguments import parse_dev_signer
from reco3.console.approver_keys import SigningKey, create_key, key_folder, key_path, read_key, unlock
from reco3.console.approving import send_signature, signature_by
from reco3.console.arguments import open_api
from reco3.console.envelope_texts import offer_lines
from reco3.console.keys import BadUsage, is_loopback
from reco3.console.offers import read_offer
from reco3.console.output import Exit, NotSigned, complain, run, tell
from reco3.console.registrations import ask_challenge, is_registered, register
from reco3.console.tables import is_waiting
from reco3.console.texts import visible
from reco3.signing.pins import pin_text

Json = dict[str, Any]
OWNER = "dev-signer"
LOOK_EVERY_S = 1.0
NOT_LOOPBACK = (
    "the development signer signs without anybody looking, so it speaks to a server on this machine alone "
    "(http://127.0.0.1:PORT); for any other server there is `reco3 approve`"
)


def main(argv: Sequence[str]) -> int:
    """Sign until Ctrl-C; returns the exit code."""
    return run(lambda: parse_dev_signer(argv), _sign_what_waits)


def _sign_what_waits(options: argparse.Namespace) -> int:
    api = open_api(options, os.environ)
    if not is_loopback(api.address.host):
        raise BadUsage(NOT_LOOPBACK)
    key = _own_key(key_path(key_folder(os.environ), OWNER))
    if not is_registered(api, key):
        register(api, key, ask_challenge(api), OWNER)
    tell(["TEST MODE: every strong command that waits for approval is signed, whoever asked for it. Ctrl-C ends it."])
    tell(["A PC with control.profile: dev takes these signatures after:"])
    tell([f"  reco3 agent trust add CONFIG '{pin_text(key.pin)}'"])
    sign_waiting(api, key, is_over=(lambda: True) if options.once else lambda: False)
    return Exit.DONE


def sign_waiting(
    api: Api, key: SigningKey, *, is_over: Callable[[], bool], pause: Callable[[float], None] = time.sleep
) -> None:
    """Sign each waiting command once, over and over until it is over; a refusal is told and left alone.

    Raises:
        Unreachable: the server is not there at the first look.
    """
    seen: set[str] = set()
    waiting = _waiting(api)
    while True:
        for command_id in waiting:
            if command_id not in seen:
                seen.add(command_id)
                _sign(api, key, command_id)
        if is_over():
            return
        pause(LOOK_EVERY_S)
        try:
            waiting = _waiting(api)
        except Unreachable:
            waiting = []


def _sign(api: Api, key: SigningKey, command_id: str) -> None:
    try:
        offer = read_offer(api.envelope(command_id), command_id=command_id, now_s=time.time())
        tell(["", *offer_lines(offer, now_s=time.time())])
        send_signature(api, offer, signature_by(key, offer.message), None)
        tell([f"signed {visible(command_id)} as {OWNER}"])
    except (NotSigned, Refused, Unreachable) as err:
        complain(f"{visible(command_id)} is not signed: {err}")


def _waiting(api: Api) -> list[str]:
    commands = api.commands(status="pending", limit=100).get("commands")
    listed = [one for one in commands if isinstance(one, dict)] if isinstance(commands, list) else []
    return [str(one["id"]) for one in reversed(listed) if "id" in one and is_waiting(one)]


def _own_key(path: Path) -> SigningKey:
    """This machine's development key, made when there is none; without a passphrase, as nobody is there to give it."""
    if not path.exists():
        create_key(path, OWNER, None)
    return unlock(read_key(path), None)
