"""macOS: processes through psutil, the data volume, and the names that its interfaces have.

It refuses to interpret what it reads: which process matters is decided by the caller.
"""

import os
import re
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import psutil

NAME = "macos"

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


def list_processes() -> Iterator[tuple[int, str, float]]:
    """Yield the pid, name and start of every living process; the start is good for comparing only."""
    for process in psutil.process_iter():
        try:
            with process.oneshot():
                if process.status() != psutil.STATUS_ZOMBIE:
                    yield process.pid, process.name(), process.create_time()
        except psutil.Error:
            continue


def read_status(pid: int) -> str:
    """Return psutil's word for what a process does now, or an empty string when it has gone."""
    try:
        return str(psutil.Process(pid).status())
    except psutil.Error:
        return ""


def read_command_line(pid: int) -> list[str]:
    """Return a process's arguments, empty when it has gone or denies access."""
    try:
        return psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return []
