"""Judges the agent's memory: its folder, the room for it, its journal, whether an agent runs with it, and the clock.

It refuses to open the journal itself: what it looks into is a copy, since SQLite leaves files beside what it opens.
"""

import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from reco3.agent import platform
from reco3.agent.clocks import as_text, read_clock
from reco3.agent.config import AgentConfig
from reco3.agent.doctor.findings import Finding, broken, note, ok, shown, warning, word
from reco3.agent.doctor.people import WRITE, Person, cannot
from reco3.agent.journal import LOCK_FILE, Journal, JournalError, StateDirLock
from reco3.agent.local_state import JOURNAL_FILE
from reco3.agent.telemetry import SPOOL_FILE
from reco3.protocol.commands import Mode

MIB = 1024 * 1024
LITTLE_ROOM_BYTES = 500 * MIB
NO_ROOM_BYTES = 20 * MIB
MAX_COPIED_BYTES = 256 * MIB
COPIES = 3
_BESIDE = ("", "-wal")
_FILES = tuple(f"{name}{end}" for name in (JOURNAL_FILE, SPOOL_FILE) for end in ("", "-wal", "-shm"))


@dataclass(frozen=True, slots=True)
class JournalLook:
    """What a copy of the journal tells; `problem` is empty when it can be used, `uncopied` says why there is none."""

    problem: str = ""
    uncopied: str = ""
    highest_clock: datetime | None = None
    mode: Mode = Mode.NORMAL


def check_state(config: AgentConfig, person: Person) -> list[Finding]:
    """Every check of the state folder and what is in it."""
    folder = config.state_dir
    findings = [_folder(folder, person), _room(folder)]
    if not folder.is_dir():
        return findings
    return [
        *findings,
        _files(folder, person),
        *_running(config),
        *_journal(folder / JOURNAL_FILE, config.path),
    ]


def is_older_key_in_use(config: AgentConfig) -> bool:
    """Whether an agent runs that may still go by the key that the config held before; also when none can tell."""
    try:
        since = _running_since(config.state_dir)
    except OSError:
        return True
    return since is not None and config.path.stat().st_mtime > since.timestamp()


def _folder(folder: Path, person: Person) -> Finding:
    code = "state_folder"
    give = f"sudo chown -R {person.name} {word(folder)}"
    if not folder.exists():
        parent = next(one for one in folder.parents if one.exists())
        why = cannot(person, parent, WRITE)
        if why:
            return broken(
                code, f"{folder} is not there and cannot be made: {why}", f"sudo mkdir -p {word(folder)} && {give}"
            )
        return note(code, f"{folder} is not there yet; the agent makes it when it starts")
    if not folder.is_dir():
        return broken(code, f"{folder} is no folder", "move it away, or name another one in state_dir")
    why = cannot(person, folder, WRITE)
    if why:
        return broken(code, f"the agent cannot write its state: {why}", give)
    if sys.platform != "win32" and folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return warning(
            code, f"others may write in {folder}, and change what the agent remembers", f"chmod 700 {word(folder)}"
        )
    return ok(code, f"{person.name} may write in {folder}")


def _files(folder: Path, person: Person) -> Finding:
    """A file that was made as root beside an agent of another user keeps that one from working."""
    names = [name for name in (*_FILES, LOCK_FILE) if (folder / name).exists()]
    stuck = [why for name in names if (why := cannot(person, folder / name, WRITE))]
    if stuck:
        return broken(
            "state_files",
            f"the agent cannot use its own files: {stuck[0]}",
            f"sudo chown -R {person.name} {word(folder)}",
        )
    return ok("state_files", f"{person.name} may write the {len(names)} files of the agent's state")


def _room(folder: Path) -> Finding:
    place = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        free_bytes = platform.read_disk(str(place)).free_bytes
    except OSError as error:
        return warning("disk_space", f"the room at {place} cannot be told: {error.strerror}", f"look: df {place}")
    return judge_room(free_bytes, place)


def judge_room(free_bytes: int, place: Path) -> Finding:
    """Whether there is room for the journal and unsent log lines."""
    found, cure = f"{free_bytes // MIB} MiB are free at {place}", "make room, or put state_dir on another disk"
    if free_bytes < NO_ROOM_BYTES:
        return broken("disk_space", f"{found}: no command is taken that cannot be written down", cure)
    if free_bytes < LITTLE_ROOM_BYTES:
        return warning("disk_space", f"{found}; unsent log lines need room while the server is away", cure)
    return ok("disk_space", found)


def _running_since(folder: Path) -> datetime | None:
    """When the agent that runs took the lock; None when none runs. Raises: OSError when that cannot be told."""
    try:
        return StateDirLock(folder).taken_since()
    except FileNotFoundError:
        return None


def _running(config: AgentConfig) -> list[Finding]:
    try:
        since = _running_since(config.state_dir)
    except OSError as error:
        found = f"not checked: whether an agent runs cannot be told ({LOCK_FILE}: {error.strerror})"
        return [warning("agent_running", found, "run the doctor as root (sudo) or as the agent's user")]
    running = judge_running(since, config.path)
    if since is None:
        return [running]
    return [running, judge_age(since, datetime.fromtimestamp(config.path.stat().st_mtime, UTC))]


def judge_running(since: datetime | None, config_path: Path) -> Finding:
    """Whether an agent is at work."""
    if since is None:
        return warning(
            "agent_running",
            "no agent runs with this config's state",
            f"start its service, or in a terminal: reco3 agent {word(config_path)}",
        )
    return ok("agent_running", "an agent runs with this config's state")


def judge_age(running_since: datetime, changed_at: datetime) -> Finding:
    """Whether the agent that runs knows the config as it is now."""
    if changed_at > running_since:
        return warning(
            "config_in_use",
            f"the config was changed at {as_text(changed_at)}, after the agent that runs had read it",
            "restart the agent: it reads its config when it starts",
        )
    return ok("config_in_use", "the agent that runs has read the config as it is now")


def _journal(path: Path, config_path: Path) -> list[Finding]:
    if not path.exists():
        return [note("journal", f"{path} is not there yet; the agent makes it when it starts")]
    found = look_into(path)
    if found.uncopied:
        cure = "run the doctor as root (sudo), and with room in the folder for temporary files"
        return [warning("journal", f"not checked: {path} could not be copied: {found.uncopied}", cure)]
    if found.problem:
        return [
            broken(
                "journal",
                f"{path} cannot be used, and without it no command is taken: {shown(found.problem)}",
                f"stop the agent, move {word(path)} and {word(path)}-wal away together (keep them for an inquiry), "
                "and start it: it begins a new journal",
            )
        ]
    mode = note("mode", f"this PC is in mode {found.mode}", f"to leave it: reco3 agent mode NORMAL {word(config_path)}")
    return [
        ok("journal", f"{path} is whole"),
        judge_past(datetime.now(UTC), found.highest_clock, config_path),
        ok("mode", "this PC is in mode NORMAL") if found.mode is Mode.NORMAL else mode,
    ]


def judge_past(now: datetime, highest: datetime | None, config_path: Path) -> Finding:
    """Whether this PC's clock shows an earlier time than it did before."""
    clock = read_clock(now, highest)
    if clock.is_regressed:
        return broken(
            "clock_journal",
            f"this PC's clock shows {as_text(now)} and has shown {as_text(clock.highest)}: strong commands are refused "
            "until it is right",
            f"set the clock; if it is right now: reco3 agent trust-clock {word(config_path)}",
        )
    return ok("clock_journal", "this PC's clock has not gone back beyond what the journal remembers")


def look_into(path: Path) -> JournalLook:
    """Look into a copy, by the agent's own code; a copy of a file that is being written to may need another try."""
    look = JournalLook("it was never looked into")
    for _ in range(COPIES):
        look = _look_once(path)
        if not look.problem:
            break
    return look


def _look_once(path: Path) -> JournalLook:
    try:
        if sum(one.stat().st_size for end in _BESIDE if (one := _beside(path, end)).exists()) > MAX_COPIED_BYTES:
            return JournalLook(uncopied=f"it is larger than {MAX_COPIED_BYTES // MIB} MiB")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            for end in _BESIDE:
                if _beside(path, end).exists():
                    shutil.copyfile(_beside(path, end), _beside(copy, end))
            return _read(copy)
    except OSError as error:
        return JournalLook(uncopied=error.strerror or str(error))


def _read(copy: Path) -> JournalLook:
    journal = Journal(copy)
    try:
        return JournalLook(journal.damage(), "", journal.highest_clock(), journal.mode().mode)
    except JournalError as error:
        return JournalLook(str(error).removeprefix(f"{copy}: "))
    finally:
        journal.close()


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)
