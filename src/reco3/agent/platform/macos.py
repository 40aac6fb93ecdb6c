"""macOS: processes through psutil, the data volume, and the names that its interfaces have.

It refuses to interpret what it reads: which process matters is decided by the caller.
"""

import os
import re
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import psutil

from reco3.agent.platform.psutil_processes import (  # noqa: F401 - the same on this system
    created_at_ms,
    list_children,
    moment,
    read_command_line,
    read_process,
    read_status,
)
from reco3.agent.platform.psutil_readings import (  # noqa: F401 - likewise
    read_disk,
    read_interfaces,
    read_memory,
    read_processor,
)
from reco3.agent.platform.service_states import Condition, ServiceState, ServiceVerb, Step, first_line

NAME = "macos"
# What the installers call the agent.
AGENT_SERVICE = "com.reco3.agent"

_DATA_VOLUME = Path("/System/Volumes/Data")
_PHYSICAL_INTERFACE = re.compile(r"en\d+|pdp_ip\d+")


def system_disk_path(data_volume: Path = _DATA_VOLUME) -> str:
    """Name the path whose disk fills up: `/` is a sealed, read-only volume of its own."""
    return str(data_volume) if data_volume.is_dir() else "/"


def host_name() -> str:
    """Return the name the PC calls itself."""
    return os.uname().nodename


def fold_name(name: str) -> str:
    """Return the form in which two process names are compared: case matters here."""
    return name


def is_physical_interface(name: str) -> bool:
    """Whether a network interface looks like a card rather than a bridge, a tunnel or the loopback."""
    return _PHYSICAL_INTERFACE.fullmatch(name) is not None


def open_shared(path: str) -> FileIO:
    """Open a file for reading; anybody may rename or delete it meanwhile, and a pipe does not block us."""
    return FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def birth_mark(file: FileIO) -> int:
    """Return a number that the filesystem gave the file at its birth, or 0 where it gives none."""
    return int(getattr(os.fstat(file.fileno()), "st_birthtime", 0) * 1_000_000)


def list_processes() -> Iterator[tuple[int, str, float]]:
    """Yield the pid, name and start of every living process; the start is good for comparing only."""
    for process in psutil.process_iter():
        try:
            with process.oneshot():
                if process.status() != psutil.STATUS_ZOMBIE:
                    yield process.pid, process.name(), process.create_time()
        except psutil.Error:
            continue


def boot_id() -> str:
    """Return what tells this run of the system from the one before."""
    return str(int(psutil.boot_time()))


_LAUNCHCTL = "/bin/launchctl"
_NOT_LOADED = (3, 113)
_ALREADY_LOADED = 37
_GONE = (Condition.MISSING, Condition.STOPPED)
_JOB_STATES = {
    "running": Condition.RUNNING,
    "not running": Condition.STOPPED,
    "waiting": Condition.STOPPED,
    "exited": Condition.STOPPED,
}
# Deeper lines tell of other things: `launchctl print` shows a `state` for each endpoint too.
_JOB_FIELD = re.compile(r"(?:\t|  ? ? ?)(state|pid|runs) = (.+)")


def service_steps(verb: ServiceVerb, name: str) -> tuple[Step, ...]:
    """Return the steps that restart or stop a launchd daemon.

    A job that is kept alive starts again when it is killed, so stopping one takes it out of launchd until the next
    boot, and restarting one that is out puts it back from its property list first.
    """
    target = f"system/{name}"
    if verb is ServiceVerb.STOP:
        # It answers before the job has gone (36: still in progress), and launchd takes it back only after that.
        return (Step((_LAUNCHCTL, "bootout", target), accepted=(0, 36, *_NOT_LOADED), until=_GONE),)
    plist = f"/Library/LaunchDaemons/{name}.plist"
    load = Step((_LAUNCHCTL, "bootstrap", "system", plist), accepted=(0, _ALREADY_LOADED))
    start = Step((_LAUNCHCTL, "kickstart", target), until=(Condition.RUNNING,))
    restart = (_LAUNCHCTL, "kickstart", "-k", target)
    return (Step(restart, until=(Condition.RUNNING,), instead_on=_NOT_LOADED, instead=(load, start)),)


def service_state_argv(name: str) -> tuple[str, ...]:
    """Return the argv that asks launchd about a daemon."""
    return (_LAUNCHCTL, "print", f"system/{name}")


def read_service_state(exit_code: int | None, output: str) -> ServiceState:
    """Read the answer to `service_state_argv`; between running and gone launchd has many words, such as SIGTERMed."""
    if exit_code in _NOT_LOADED:
        return ServiceState(Condition.MISSING, first_line(output))
    found = [match for line in output.splitlines() if (match := _JOB_FIELD.fullmatch(line))]
    fields = {match[1]: match[2] for match in found}
    word = fields.get("state", "")
    if exit_code != 0 or not word:
        return ServiceState(Condition.UNKNOWN, first_line(output))
    condition = _JOB_STATES.get(word, Condition.CHANGING)
    runs = _number(fields.get("runs"))
    return ServiceState(condition, word, pid=_number(fields.get("pid")), restarts=runs - 1 if runs else None)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
