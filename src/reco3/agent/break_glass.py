"""`reco3 agent break-glass`: uses a sheet that was signed beforehand, with the server away.

It refuses to decide and to act on its own: the command goes the way of every other one, through the running agent, or
through the same code when none is running.
"""

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reco3.agent import approvals, security, signers
from reco3.agent.clocks import as_text
from reco3.agent.config import AgentConfig, load_config
from reco3.agent.contacts import Contact
from reco3.agent.control import Control, ControlParts
from reco3.agent.http_client import HttpClient
from reco3.agent.journal import Journal, Received, StateDirLock
from reco3.agent.kept_trust import in_force
from reco3.agent.lifecycle import OVER, UNSTARTED, Entry, Refuse, State
from reco3.agent.local_state import StartError, local_journal
from reco3.agent.log_file import close_log, open_log
from reco3.agent.modes import Modes
from reco3.agent.refusals import Refused
from reco3.agent.security import Order
from reco3.agent.spool import Spool, SpoolTooNewError
from reco3.agent.telemetry import MAX_SPOOL_BYTES, SPOOL_FILE
from reco3.agent.veto import local_user
from reco3.protocol.commands import Mode
from reco3.protocol.envelope import Envelope
from reco3.protocol.messages import LogEntry

if TYPE_CHECKING:
    import argparse

EXIT_OK = 0
EXIT_REFUSED = 1
MAX_SHEET_BYTES = 256 * 1024
HAND_OVER_S = 60
LOOK_EVERY_S = 0.2
SHEET_VERSION = 1


def main(words: list[str], parser: "argparse.ArgumentParser") -> int:
    """Use a sheet. Raises: ConfigError, StartError."""
    parser.add_argument("config", metavar="CONFIG", type=Path)
    parser.add_argument("file", metavar="FILE", type=Path, help="the sheet")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(words)
    config = in_force(load_config(options.config)).config
    raw = _read_sheet(options.file)
    with local_journal(config) as journal:
        return _use(config, journal, raw, is_confirmed=options.yes)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A sheet whose signatures hold."""

    envelope: Envelope
    order: Order


def _use(config: AgentConfig, journal: Journal, raw: object, *, is_confirmed: bool) -> int:
    sheet = _verified(config, raw)
    if isinstance(sheet, Refused):
        return _refused(sheet)
    incidents = _Incidents(config)
    control = _control(config, journal, incidents)
    refusal = _refusal(control, journal, sheet)
    if refusal is not None:
        return _refused(refusal)
    sys.stdout.write(_description(sheet))
    if not is_confirmed and not _is_confirmed(sheet):
        sys.stderr.write("nothing was done; the sheet can still be used\n")
        return EXIT_REFUSED
    entry = _carried_out(config, journal, control, sheet)
    incidents.close()
    return _told(entry)


def _read_sheet(path: Path) -> object:
    """Take the envelope out of the file. Raises: StartError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SHEET_BYTES + 1)
    except OSError as error:
        raise StartError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        sheet = json.loads(content) if len(content) <= MAX_SHEET_BYTES else None
    except (ValueError, RecursionError):
        sheet = None
    version = sheet.get("break_glass") if isinstance(sheet, dict) else None
    if not isinstance(sheet, dict) or version is True or version != SHEET_VERSION or "envelope" not in sheet:
        raise StartError(f'{path}: expected a break-glass sheet: {{"break_glass": 1, "envelope": {{…}}}}')
    return sheet["envelope"]


def _verified(config: AgentConfig, raw: object) -> _Sheet | Refused:
    """Verify before anything of it is shown."""
    if not config.control.approvers:
        return Refused(
            "no_approvers", f"control.approvers in {config.path} pins no key, so nobody can have signed this"
        )
    verify = signers.verifier_of(config)
    approved = approvals.read_approved(raw, config.control, verify, config_path=str(config.path))
    if isinstance(approved, Refused):
        return approved
    envelope = approved.envelope
    order = Order(envelope.command_id, None, None, None, envelope=raw, used_by=local_user(os.environ))
    policy = security.Policy(config.agent_id, Mode.NORMAL, config.control, {}, str(config.path))
    return _Sheet(envelope, security.as_signed(order, policy, verify))


def _refusal(control: Control, journal: Journal, sheet: _Sheet) -> Refused | None:
    """Look ahead, so that a sheet is not used up by a lock that holds anyway."""
    entry = journal.find(sheet.order.id)
    if entry is not None and entry.state not in UNSTARTED:
        ended = "it runs or was interrupted" if entry.state is State.STARTED else f"it ended as {entry.state.lower()}"
        return Refused("already_used", f"this sheet was used on this PC before ({ended}), and each is good for one use")
    step = control.foresee(Entry(sheet.order.id, sheet.envelope.type, State.RECEIVED, order=sheet.order))
    return step.refusal if isinstance(step, Refuse) else None


def _carried_out(config: AgentConfig, journal: Journal, control: Control, sheet: _Sheet) -> Entry:
    """Have it carried out by the agent that runs, or here when none does. Raises: StartError."""
    _hand_over(config, journal, sheet)
    lock = StateDirLock(config.state_dir)
    try:
        is_agent_down = lock.acquire()
    except OSError as error:
        raise StartError(f"{config.state_dir}: state_dir: cannot be written: {error.strerror}") from error
    try:
        if is_agent_down:
            return _begun_here(config, journal, control, sheet)
        sys.stdout.write("handed over to the running agent\n")
        return _waited_for(journal, sheet, lambda: None, within_s=HAND_OVER_S)
    finally:
        lock.release()


def _begun_here(config: AgentConfig, journal: Journal, control: Control, sheet: _Sheet) -> Entry:
    try:
        open_log(config.logging, secret=config.api_key)
    except OSError as error:
        raise StartError(f"{config.logging.file}: logging.file: cannot be written: {error.strerror}") from error
    try:
        return _waited_for(journal, sheet, control.look_at_waiting, within_s=HAND_OVER_S)
    finally:
        close_log()


def _hand_over(config: AgentConfig, journal: Journal, sheet: _Sheet) -> None:
    """Put it where the agent looks; it begins within a minute or not at all, and then the sheet is still good."""
    journal.withdraw(sheet.order.id)
    until = datetime.now(UTC) + timedelta(seconds=HAND_OVER_S + config.control.veto_s)
    expires_at = min(until, datetime.fromtimestamp(sheet.envelope.expires_at, UTC))
    payload = str(sheet.order.payload_json)
    journal.receive([Received(sheet.order.id, sheet.envelope.type, payload, sheet.order, expires_at)])


def _waited_for(journal: Journal, sheet: _Sheet, look: Callable[[], None], *, within_s: float) -> Entry:
    give_up_at = time.monotonic() + within_s
    while True:
        look()
        entry = journal.find(sheet.order.id)
        if entry is not None and entry.state in OVER:
            return entry
        is_late = time.monotonic() >= give_up_at
        if entry is None or (is_late and journal.withdraw(sheet.order.id)):
            raise StartError(
                "the running agent did not take it; nothing was done and the sheet can still be used: stop the agent "
                "and use it again"
            )
        time.sleep(LOOK_EVERY_S)


def _control(config: AgentConfig, journal: Journal, incidents: "_Incidents") -> Control:
    modes = Modes(journal)
    client = HttpClient(config.base_url, agent_id=config.agent_id, api_key=config.api_key)
    client.interrupt()  # The server is away: what the journal owes it is not waited for here.
    return Control(config, ControlParts(client, Contact(modes), modes, journal, incidents.keep))


class _Incidents:
    """What is to be told to the server once it is back, when no agent runs that would keep it."""

    def __init__(self, config: AgentConfig) -> None:
        self._path = config.state_dir / SPOOL_FILE
        self._spool: Spool | None = None

    def keep(self, entry: LogEntry, when_kept: Callable[[], None]) -> None:
        """Keep it; where that fails the journal still owes it, and the next agent tells it."""
        try:
            if self._spool is None:
                self._spool = Spool(self._path, max_bytes=MAX_SPOOL_BYTES)
            self._spool.append([entry], {})
        except (OSError, sqlite3.Error, SpoolTooNewError) as error:
            sys.stderr.write(f"the alarm waits in the journal: {error}\n")
            return
        when_kept()

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()


def _description(sheet: _Sheet) -> str:
    envelope = sheet.envelope
    payload: dict[str, Any] = dict(envelope.payload)
    because = f", because: {ascii(envelope.reason)[1:-1]}" if envelope.reason else ""
    return (
        f"break-glass {envelope.command_id} on {envelope.agent_id}\n"
        f"  {envelope.type} {json.dumps(payload)}\n"
        f"  signed by {', '.join(sheet.order.signed_by)}; made for {envelope.requested_by}{because}\n"
        f"  good for one use until {as_text(datetime.fromtimestamp(envelope.expires_at, UTC))}\n"
        "It acts now, and everybody is alarmed when the server is back.\n"
    )


def _is_confirmed(sheet: _Sheet) -> bool:
    process = sheet.envelope.payload.get("process")
    word = process if isinstance(process, str) else sheet.envelope.type
    sys.stdout.write(f"Type {word} to go on: ")
    sys.stdout.flush()
    return sys.stdin.readline().strip() == word


def _refused(refusal: Refused) -> int:
    sys.stderr.write(f"{refusal.code}: {refusal.reason}\n")
    return EXIT_REFUSED


def _told(entry: Entry) -> int:
    result = entry.result or {}
    if entry.state is State.DONE:
        sys.stdout.write(f"completed: {ascii(str(result.get('output', '')))[1:-1]}\n")
        return EXIT_OK
    sys.stderr.write(f"{entry.state.lower()}: {result.get('code')}: {result.get('error')}\n")
    return EXIT_REFUSED
