"""`reco3 keys init|show|list|register`, and the way to `break-glass`.

It refuses to send a key anywhere but its public half, and to pin it on a PC: its administrator does that.
"""

import argparse
import getpass
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reco3.console.approver_keys import (
    OWNER_EXPECTED,
    OWNER_PATTERN,
    KeyFile,
    choose_key,
    create_key,
    key_folder,
    key_path,
    keys_in,
    refuse_existing,
    unlock,
)
from reco3.console.approving import open_key
from reco3.console.arguments import open_api
from reco3.console.break_glass import make_or_sign_sheet, show_sheet
from reco3.console.key_arguments import parse_key_arguments
from reco3.console.keys import BadUsage
from reco3.console.output import complain, done, run, wants_json
from reco3.console.passphrases import new_passphrase
from reco3.console.registrations import ask_challenge, default_label, register
from reco3.console.texts import json_text, visible
from reco3.signing.pins import fingerprint, key_id, pin_text

Json = dict[str, Any]
UNLOCKED_KEY = (
    "this key has no passphrase: whoever copies its file can approve in your name. "
    "Make another one for anything but trying things out."
)


def main(argv: Sequence[str]) -> int:
    """Carry out one verb; returns the exit code."""
    return run(lambda: parse_key_arguments(argv), lambda options: _verbs[options.verb](options))


def _init(options: argparse.Namespace) -> int:
    owner = options.owner or _login_name()
    path = key_path(key_folder(os.environ), owner) if options.file is None else Path(options.file)
    refuse_existing(path)
    if options.no_passphrase and options.passphrase_file is not None:
        raise BadUsage("--no-passphrase and --passphrase-file contradict each other")
    secret = None if options.no_passphrase else new_passphrase(options.passphrase_file)
    key = create_key(path, owner, secret)
    # A key that cannot be opened again would be noticed when it is needed most.
    unlock(key, secret)
    if secret is None:
        complain(UNLOCKED_KEY)
    if wants_json(options):
        return done([json_text(_shape(key))])
    return done([*_key_lines(key), "", *_next_lines(key, _choice_text(key, options.file))])


def _show(options: argparse.Namespace) -> int:
    key = choose_key(key_folder(os.environ), owner=options.owner, file=options.file)
    return done([json_text(_shape(key))] if wants_json(options) else _key_lines(key))


def _list(options: argparse.Namespace) -> int:
    folder = key_folder(os.environ)
    keys = keys_in(folder)
    if wants_json(options):
        return done([json_text({"keys": [_shape(key) for key in keys]})])
    if not keys:
        return done([f"there is no key in {visible(folder)}: `reco3 keys init` makes one"])
    return done(f"{key.pin.owner}  {fingerprint(key.pin.key)}  {_lock_text(key)}" for key in keys)


def _register(options: argparse.Namespace) -> int:
    key = choose_key(key_folder(os.environ), owner=options.owner, file=options.file)
    api = open_api(options, os.environ)
    challenge = ask_challenge(api)
    answer = register(api, open_key(key, options.passphrase_file), challenge, options.label or default_label())
    if wants_json(options):
        return done([json_text(answer)])
    return done([f"the server knows the key {fingerprint(key.pin.key)} as yours", *_owner_lines(key, answer)])


def _owner_lines(key: KeyFile, answer: Json) -> Iterator[str]:
    owner = answer.get("owner")
    if isinstance(owner, str) and owner != key.pin.owner:
        yield f"You are {visible(owner)} there, and on PCs that pin this key its owner is {key.pin.owner}."
        yield "Four eyes are told apart by these names: docs/approving.md says what that means."


def _key_lines(key: KeyFile) -> Iterator[str]:
    yield f"owner        {key.pin.owner}"
    yield f"fingerprint  {fingerprint(key.pin.key)}"
    yield f"file         {visible(key.path)} ({_lock_text(key)})"
    yield f"pin          {pin_text(key.pin)}"


def _choice_text(key: KeyFile, file: str | None) -> str:
    """How later commands name this key, where it is not the only one."""
    if file is not None:
        return f" --file {shlex.quote(file)}"
    others = [one for one in keys_in(key.path.parent) if one.pin != key.pin and not one.pin.is_development]
    return f" --owner {key.pin.owner}" if others else ""


def _next_lines(key: KeyFile, choice: str) -> Iterator[str]:
    yield "On each PC whose strong commands you approve, its administrator runs:"
    yield f"  reco3 agent trust add CONFIG '{pin_text(key.pin)}'"
    yield "For the server, so that it takes your signatures:"
    yield f"  reco3 keys register{choice}"
    yield "Compare the fingerprint by voice. The key itself never leaves this machine."


def _lock_text(key: KeyFile) -> str:
    return "NO PASSPHRASE" if key.salt is None else "locked with a passphrase"


def _shape(key: KeyFile) -> Json:
    return {
        "owner": key.pin.owner,
        "kind": str(key.pin.kind),
        "key_id": key_id(key.pin.key),
        "fingerprint": fingerprint(key.pin.key),
        "pin": pin_text(key.pin),
        "file": str(key.path),
        "has_passphrase": key.salt is not None,
    }


def _login_name() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError) as err:
        raise BadUsage("nobody knows your name here: say --owner NAME") from err
    if OWNER_PATTERN.fullmatch(name) is None:
        raise BadUsage(
            f"your login name {ascii(name)[:60]} cannot name a key's owner: say --owner NAME, {OWNER_EXPECTED}"
        )
    return name


_verbs: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "init": _init,
    "show": _show,
    "list": _list,
    "register": _register,
    "break-glass": make_or_sign_sheet,
    "show-sheet": show_sheet,
}
