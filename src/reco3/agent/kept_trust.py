"""Keeps the changes of trust that this PC followed, in its state folder, each with its signatures.

It refuses to be believed: at every start they are gone through again, from the keys that the config pins.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reco3.agent.clocks import Clock, as_text
from reco3.agent.config import AgentConfig
from reco3.agent.local_state import StartError
from reco3.agent.log_file import log_event
from reco3.agent.private_files import write_private
from reco3.agent.refusals import Refused
from reco3.agent.signers import TRUST_CHANGES_FILE
from reco3.agent.trust_changes import Followed, follow, follow_again
from reco3.protocol.commands import Severity
from reco3.protocol.envelope import signed_envelope_shape
from reco3.protocol.messages import LogEntry
from reco3.signing.pins import trust_version

ReportIncident = Callable[[LogEntry, Callable[[], None]], None]

TRUST_CODE = "TRUST_CHANGED"
# Every PC of a fleet is sent every change of it: those for other keys than its own are no news.
_UNREMARKABLE = ("other_trust", "too_few_signatures", "already_used")
VERSION = 1
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_SPENT = 1_000


@dataclass(frozen=True, slots=True)
class Kept:
    """What the file says: changes as they came, oldest first, and the digests of all that ever counted."""

    changes: tuple[Any, ...] = ()
    spent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InForce:
    """What a PC trusts now: its config, changed by `followed`; `set_aside` changes count no more."""

    config: AgentConfig
    followed: tuple[Followed, ...] = ()
    set_aside: int = 0


def in_force(config: AgentConfig) -> InForce:
    """Go through what was kept, from the keys that the config pins; whoever edited those has the last word.

    Raises: StartError.
    """
    kept = read_kept(config.state_dir) if config.control.approvers else Kept()
    followed: list[Followed] = []
    now = config
    for raw in kept.changes:
        step = follow_again(raw, now.control, is_development=counts_development(config))
        if isinstance(step, Refused):
            return InForce(config, (), len(kept.changes))
        followed.append(step)
        now = replace(now, control=step.control)
    return InForce(now, tuple(followed))


def follow_all(
    config: AgentConfig, arrived: Sequence[object], clock: Clock, report: ReportIncident
) -> AgentConfig | None:
    """Follow what has arrived as far as it counts here, and tell of it; returns the config in force then.

    `config` is the one in force. What cannot be kept is not followed, and None says so.
    """
    try:
        now, refusals = take(config, arrived, clock)
    except (OSError, StartError) as error:
        log_event("trust_change_not_kept", logging.ERROR, error=str(error))
        return None
    for refused in refusals:
        is_news = refused.code not in _UNREMARKABLE
        log_event(
            "trust_change_refused", logging.WARNING if is_news else logging.INFO, code=refused.code, why=refused.reason
        )
    for followed in now.followed:
        log_event("trust_change_followed", logging.WARNING, **_facts(followed))
        report(_told(followed, clock), lambda: None)
    return now.config


def take(config: AgentConfig, arrived: Sequence[object], clock: Clock) -> tuple[InForce, list[Refused]]:
    """Follow what has arrived as far as it counts here, and keep it durably before anybody acts on it.

    `config` is the one in force. Raises: OSError and StartError, when nothing has changed.
    """
    kept = read_kept(config.state_dir)
    spent = dict.fromkeys(kept.spent)
    followed: list[Followed] = []
    waiting, refusals = list(arrived), list[Refused]()
    has_moved = True
    while has_moved:  # One that comes first may begin where one behind it ends.
        has_moved, left, refusals = False, [], []
        for raw in waiting:
            step = follow(
                raw, config.control, is_development=counts_development(config), clock=clock, spent=spent.keys()
            )
            if isinstance(step, Refused):
                left.append(raw)
                refusals.append(step)
                continue
            has_moved = True
            followed.append(step)
            spent[step.digest] = None
            config = replace(config, control=step.control)
        waiting = left
    if followed:
        shapes = tuple(signed_envelope_shape(one.signed) for one in followed)
        _write(config, Kept((*kept.changes, *shapes), tuple(spent)))
    return InForce(config, tuple(followed)), refusals


def forget_changes(config: AgentConfig) -> None:
    """Forget the changes themselves, because the config says what counts; each still counts at most once.

    Raises: OSError; StartError.
    """
    _write(config, Kept((), read_kept(config.state_dir).spent))


def counts_development(config: AgentConfig) -> bool:
    """Whether keys for development count: in a development agent beside its server alone."""
    return config.control.is_development and config.base_url.is_loopback


def read_kept(state_dir: Path) -> Kept:
    """What was kept so far. Raises: StartError, when the file is there and cannot be read."""
    path = state_dir / TRUST_CHANGES_FILE
    content = b""
    with contextlib.suppress(FileNotFoundError):
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except PermissionError as error:
            raise StartError(f"{path}: cannot be read: {error.strerror}") from error
        return _parsed(path, content)
    return Kept()


def _parsed(path: Path, content: bytes) -> Kept:
    try:
        fields = json.loads(content) if len(content) <= MAX_FILE_BYTES else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.get("v") != VERSION:
        raise StartError(
            f"{path}: expected the changes of trust that this PC followed; without them it trusts whom its config "
            "says, so have a person look at the config before you remove this file"
        )
    changes, spent = fields.get("changes"), fields.get("spent")
    if not isinstance(changes, list) or not isinstance(spent, list):
        raise StartError(f"{path}: expected lists of changes and of digests")
    return Kept(tuple(changes), tuple(str(digest) for digest in spent))


def _told(followed: Followed, clock: Clock) -> LogEntry:
    facts = _facts(followed)
    return LogEntry(
        msg=f"{TRUST_CODE}: this PC trusts other keys now: {facts['owners']}, {facts['required']} must sign; "
        f"{facts['signed_by']} signed that",
        ts=as_text(clock.now),
        level=Severity.WARN,
        code=TRUST_CODE,
        meta=facts,
    )


def _facts(followed: Followed) -> dict[str, Any]:
    control = followed.control
    return {
        "change": followed.change.nonce,
        "trust_version": trust_version(control.approvers),
        "owners": ", ".join(sorted({pin.owner for pin in control.approvers})),
        "required": control.approvals_required,
        "signed_by": ", ".join(followed.owners),
        "reason": followed.change.reason,
    }


def _write(config: AgentConfig, kept: Kept) -> None:
    fields = {"v": VERSION, "changes": list(kept.changes), "spent": list(kept.spent[-MAX_SPENT:])}
    write_private(config.state_dir / TRUST_CHANGES_FILE, json.dumps(fields) + "\n", owner_like=config.state_dir)
