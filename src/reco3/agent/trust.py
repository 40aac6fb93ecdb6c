"""`reco3 agent trust`: whose signatures this PC counts, said by its own administrator in its own config.

It refuses whoever may not write the config, a change that it cannot read back, and to send or fetch anything.
"""

import contextlib
import json
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reco3.agent.config import AgentConfig, ConfigError, load_config
from reco3.agent.kept_trust import forget_changes, in_force
from reco3.agent.local_state import StartError
from reco3.agent.log_file import close_log, log_event, open_log
from reco3.agent.pin_lines import item_text, with_pin, with_required, without_item
from reco3.agent.private_files import create_private
from reco3.agent.veto import local_user
from reco3.protocol.trust_changes import trust_set_fields
from reco3.signing.pins import BadPin, Pin, fingerprint, key_id, parse_pin, trust_version
from reco3.signing.trust_changes import trust_set_of
from reco3.signing.verifying import check_key

if TYPE_CHECKING:
    import argparse

EXIT_OK = 0


def main(words: list[str], parser: "argparse.ArgumentParser") -> int:
    """Show or change whom this PC trusts. Raises: ConfigError, StartError."""
    parser.add_argument("verb", choices=["show", "add", "remove", "export", "settle"])
    parser.add_argument("config", metavar="CONFIG", type=Path)
    parser.add_argument(
        "pins", metavar="PIN", nargs="*", help="as reco3 keys show prints it; remove takes a key id too"
    )
    options = parser.parse_args(words)
    config = load_config(options.config)
    texts = _joined(options.pins)
    if options.verb in _wordless:
        if texts:
            raise StartError(f"reco3 agent trust {options.verb}: expected CONFIG alone, got {texts[0][:80]}")
        return _wordless[options.verb](config)
    if not texts:
        raise StartError(f"reco3 agent trust {options.verb}: expected at least one PIN, as reco3 keys show prints it")
    _check_person(options.config)
    if in_force(config).followed:
        raise StartError(
            f"{config.path}: its approvers have replaced its keys by a signed change; write them into the config "
            f"first: reco3 agent trust settle {shlex.quote(str(config.path))}"
        )
    change = _add if options.verb == "add" else _remove
    for text in texts:
        config = change(config, text)
    return EXIT_OK


def _show(config: AgentConfig) -> int:
    now = in_force(config)
    sys.stdout.write(_description(now.config))
    for followed in now.followed:
        change = followed.change
        day = datetime.fromtimestamp(change.created_at, UTC).date()
        sys.stdout.write(
            f"Changed on {day} by the signatures of {', '.join(followed.owners)}: {ascii(change.reason)[1:-1]}\n"
        )
    if now.followed:
        sys.stdout.write(
            f"The config still pins others: reco3 agent trust settle {config.path} writes these into it.\n"
        )
    return EXIT_OK


def _export(config: AgentConfig) -> int:
    control = in_force(config).config.control
    if not control.approvers:
        raise StartError(f"{config.path}: pins no key, so there is nothing that a signed change could begin from")
    fields = trust_set_fields(trust_set_of(control.approvers, control.approvals_required))
    sys.stdout.write(json.dumps(fields, indent=1) + "\n")
    return EXIT_OK


def _settle(config: AgentConfig) -> int:
    """Write into the config what signed changes have made of it."""
    _check_person(config.path)
    now = in_force(config)
    if not now.followed:
        sys.stdout.write("No signed change is in force: the config says whom this PC trusts.\n")
        return EXIT_OK
    old, new = config.control, now.config.control
    kept = tuple(pin for pin in old.approvers if pin in new.approvers)
    added = tuple(pin for pin in new.approvers if pin not in old.approvers)
    text = _text_of(config.path)
    # Added first: a list that is empty for a moment would be written in another form.
    for pin in added:
        text = with_pin(text, pin)
    for index in reversed([at for at, pin in enumerate(old.approvers) if pin not in new.approvers]):
        text = without_item(text, index)
    if new.approvals_required != old.approvals_required:
        text = with_required(text, new.approvals_required)
    settled = _written(config, _Change("settled", None, (*kept, *added), text, new.approvals_required))
    try:
        forget_changes(config)
    except OSError as error:
        raise StartError(f"{config.state_dir}: cannot be written: {error.strerror}; the config is right") from error
    sys.stdout.write(_description(settled))
    return EXIT_OK


_wordless: Mapping[str, Callable[[AgentConfig], int]] = {"show": _show, "export": _export, "settle": _settle}


@dataclass(frozen=True, slots=True)
class _Change:
    """One change of the list of pinned keys."""

    verb: str
    pin: Pin | None
    pins: tuple[Pin, ...]
    text: str
    required: int | None = None


def _add(config: AgentConfig, text: str) -> AgentConfig:
    pin = _parsed(text)
    bad = check_key(pin)
    if bad is not None:
        raise StartError(f"{text[:80]}: {bad.reason}; nothing was changed")
    pins = config.control.approvers
    if any(pin.key == other.key for other in pins):
        raise StartError(f"this PC pins that key already ({fingerprint(pin.key)}); nothing was changed")
    changed = _written(config, _Change("added", pin, (*pins, pin), with_pin(_text_of(config.path), pin)))
    sys.stdout.write(_told_of_key(pin))
    if not pins:
        sys.stdout.write(
            "It is the first: from now on strong commands on this PC need a signature, and the server's word alone is "
            "not enough.\n"
        )
    sys.stdout.write(_told_of_all(changed))
    return changed


def _remove(config: AgentConfig, text: str) -> AgentConfig:
    pins = config.control.approvers
    index = _found(pins, text)
    pin, left = pins[index], pins[:index] + pins[index + 1 :]
    required = config.control.approvals_required
    if left and len(_owners(left)) < required:
        raise StartError(
            f"control.approvals_required is {required}, and without this key {len(_owners(left))} owners are left: "
            "lower it or add another first; nothing was changed"
        )
    changed = _written(config, _Change("removed", pin, left, without_item(_text_of(config.path), index)))
    sys.stdout.write(f"removed {_told_of_key(pin)}")
    if not left:
        sys.stdout.write(
            "It was the last: strong commands on this PC need no signature any more, and whoever controls the server "
            "can have them run.\n"
        )
    sys.stdout.write(_told_of_all(changed))
    return changed


def _written(config: AgentConfig, change: _Change) -> AgentConfig:
    """Replace the file, when the new one says what it should and nothing else. Raises: StartError."""
    path = config.path.resolve()
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(create_private(new, like=path), "w", encoding="utf-8", newline="") as file:
            file.write(change.text)
            file.flush()
            os.fsync(file.fileno())
        read_back = _read_back(config, new, change)
        _replace(path, new)
    except OSError as error:
        raise StartError(f"{path}: cannot be replaced: {error.strerror}; nothing was changed") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink()
    _log(read_back, change)
    return read_back


def _read_back(config: AgentConfig, new: Path, change: _Change) -> AgentConfig:
    try:
        read = replace(load_config(new), path=config.path)
    except ConfigError:
        read = None
    required = change.required or config.control.approvals_required
    wanted = replace(config.control, approvers=change.pins, approvals_required=required)
    if read is None or read != replace(config, control=wanted):
        by_hand = [item_text(pin) for pin in ([change.pin] if change.pin else change.pins)]
        raise StartError(
            f"{config.path}: the list in control.approvers cannot be edited without touching more; nothing was "
            f"changed: edit it by hand, {'the entry is' if change.pin else 'its entries are'} {', '.join(by_hand)}"
        )
    return read


def _replace(path: Path, new: Path) -> None:
    """Put the new file in the place of the old one, with its owner and its rights."""
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415 - exists on Windows only

        if not ctypes.windll.kernel32.ReplaceFileW(str(path), str(new), None, 0, None, None):
            raise ctypes.WinError()
        return
    old = path.stat()
    new.chmod(old.st_mode & 0o7777)
    if (old.st_uid, old.st_gid) != (new.stat().st_uid, new.stat().st_gid):
        os.chown(new, old.st_uid, old.st_gid)
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_person(path: Path) -> None:
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415 - exists on Windows only

        is_permitted = bool(ctypes.windll.shell32.IsUserAnAdmin())
    else:
        is_permitted = os.geteuid() in {0, path.stat().st_uid}
    if not is_permitted:
        raise StartError(f"{path}: only the administrator of this PC or the owner of the file says whom it trusts")


def _log(config: AgentConfig, change: _Change) -> None:
    """Leave a line in the agent's own log; that is never rotated from here, because the agent may have it open."""
    try:
        open_log(replace(config.logging, max_size_mb=float("1e9")), secret=config.api_key)
    except OSError as error:
        sys.stderr.write(f"{config.logging.file}: logging.file: cannot be written: {error.strerror}\n")
        return
    try:
        pin = change.pin
        about: dict[str, Any] = {"owner": pin.owner, "kind": pin.kind, "key_id": key_id(pin.key)} if pin else {}
        log_event(
            f"trust_{change.verb}",
            **about,
            by=local_user(os.environ),
            pinned=len(change.pins),
            trust_version=trust_version(change.pins),
        )
    finally:
        close_log()


def _description(config: AgentConfig) -> str:
    pins = config.control.approvers
    if not pins:
        return (
            f"{config.path}: pins no key. Strong commands need the server's approval and control.apply_enabled, and "
            "whoever controls the server gives the first.\n"
        )
    return "".join(_told_of_key(pin) for pin in pins) + _told_of_all(config)


def _told_of_key(pin: Pin) -> str:
    place = f" at {pin.origin}" if pin.origin else ""
    return f"{pin.owner}  {pin.kind}{place}  {fingerprint(pin.key)}\n"


def _told_of_all(config: AgentConfig) -> str:
    control = config.control
    if not control.approvers:
        return "Restart the agent: it reads its config when it starts.\n"
    owners = _owners(control.approvers)
    others = ", none of them who requested it" if control.four_eyes else " (control.four_eyes is off)"
    lines = [
        "Compare the fingerprints by voice with their owners.",
        (
            f"Strong commands need the signatures of {control.approvals_required} of {len(owners)} "
            f"({', '.join(owners)}){others}."
        ),
    ]
    if len(owners) < control.approvals_required:
        lines.append("That is more than there are: every strong command is refused until more are added.")
    lines.append(f"Trust version {trust_version(control.approvers)}. The agent reads its config when it starts.")
    return "".join(f"{line}\n" for line in lines)


def _owners(pins: Sequence[Pin]) -> list[str]:
    """The people, each once however many keys they have."""
    return sorted({pin.owner.casefold(): pin.owner for pin in pins}.values())


def _parsed(text: str) -> Pin:
    try:
        return parse_pin(text)
    except BadPin as error:
        raise StartError(f"{text[:80]}: {error}; nothing was changed") from error


def _found(pins: Sequence[Pin], text: str) -> int:
    name = text.replace(" ", "").replace("-", "").lower()
    wanted = None if ":" not in text else _parsed(text).key
    for index, pin in enumerate(pins):
        if pin.key == wanted or key_id(pin.key) == name:
            return index
    raise StartError(f"{text[:80]}: this PC pins no such key; reco3 agent trust show lists them")


def _joined(words: Sequence[str]) -> list[str]:
    """Put an origin back to its pin, and a fingerprint's groups together, when the shell took them apart."""
    texts: list[str] = []
    for word in words:
        belongs = bool(texts) and (word.startswith(("http://", "https://")) or _is_group(word, texts[-1]))
        texts[-1:] = [f"{texts[-1]} {word}"] if belongs else [*texts[-1:], word]
    return texts


def _is_group(word: str, before: str) -> bool:
    return len(word) == 4 and ":" not in before and len(before.replace(" ", "")) < 32  # noqa: PLR2004 - eight of four


def _text_of(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        return file.read()
