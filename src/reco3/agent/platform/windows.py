"""Windows: processes through psutil, the system drive, and files opened so that they can still be renamed.

It refuses to interpret what it reads: which process matters is decided by the caller.
"""

import os
import re
import sys
from collections.abc import Iterator
from io import FileIO

import psutil

NAME = "windows"

_VIRTUAL_INTERFACE = re.compile(
    r"loopback.*|vethernet.*|local area connection\* .*|teredo.*|isatap.*|6to4.*|npcap.*|.*\b(?:tap|tun|vpn|wsl)\b.*"
    r"|vmware.*|virtualbox.*|bluetooth.*|tailscale.*|zerotier.*",
    re.IGNORECASE,
)
_GENERIC_READ = 0x80000000
_SHARE_READ_WRITE_DELETE = 0x1 | 0x2 | 0x4
_OPEN_EXISTING = 3
_ATTRIBUTE_NORMAL = 0x80


def system_disk_path() -> str:
    """Name the path whose disk is the system's."""
    return os.environ.get("SystemDrive", "C:") + "\\"  # noqa: SIM112 - Windows spells it so


def host_name() -> str:
    """Return the name the PC calls itself."""
    return os.environ.get("COMPUTERNAME", "")


def fold_name(name: str) -> str:
    """Return the form in which two process names are compared: case does not matter here."""
    return name.lower()


def is_physical_interface(name: str) -> bool:
    """Whether a network interface looks like a card rather than a switch, a tunnel or the loopback."""
    return _VIRTUAL_INTERFACE.fullmatch(name) is None


def open_shared(path: str) -> FileIO:
    """Open a file for reading; anybody may rename or delete it meanwhile.

    Python's own `open` shares no deletion on Windows, and would keep a service from rotating its log.
    """
    return FileIO(path, opener=_open_with_all_shares)


def list_processes() -> Iterator[tuple[int, str, float]]:
    """Yield the pid, name and start of every process; the start is good for comparing only."""
    for process in psutil.process_iter():
        try:
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


if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    def _open_with_all_shares(path: str, _flags: int) -> int:
        create_file = ctypes.WinDLL("kernel32", use_last_error=True).CreateFileW
        create_file.restype = wintypes.HANDLE
        handle = create_file(
            path, _GENERIC_READ, _SHARE_READ_WRITE_DELETE, None, _OPEN_EXISTING, _ATTRIBUTE_NORMAL, None
        )
        if handle == wintypes.HANDLE(-1).value:
            raise ctypes.WinError(ctypes.get_last_error())
        return msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY)
else:

    def _open_with_all_shares(path: str, flags: int) -> int:
        """Stand in elsewhere, where every open file can be renamed, so that this module can be tested."""
        return os.open(path, flags)
