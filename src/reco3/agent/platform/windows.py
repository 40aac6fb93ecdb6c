"""Windows: processes through psutil, the system drive, and files opened so that they can still be renamed.

It refuses to interpret what it reads: which process matters is decided by the caller.
"""

import os
import re
import sys
from collections.abc import Iterator
from io import FileIO

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

NAME = "windows"
# What the installers call the agent.
AGENT_SERVICE = "RECO3Agent"

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


def birth_mark(_file: FileIO) -> int:
    """Return 0: NTFS counts its file ids' reuse within them, and gives a successor of the same name the old birth time.

    Source: "tunneling" in the documentation of file times, learn.microsoft.com/windows/win32/sysinfo/file-times.
    """
    return 0


def list_processes() -> Iterator[tuple[int, str, float]]:
    """Yield the pid, name and start of every process; the start is good for comparing only."""
    for process in psutil.process_iter():
        try:
            yield process.pid, process.name(), process.create_time()
        except psutil.Error:
            continue


def boot_id() -> str:
    """Return what tells this run of the system from the one before; psutil computes it to the second or two."""
    return str(round(psutil.boot_time() / 60))


# The exit codes of sc.exe are the system's error numbers.
_ALREADY_RUNNING = 1056
_NO_SUCH_SERVICE = 1060
_TAKES_NO_CONTROL_NOW = 1061
_NOT_RUNNING = 1062
_SERVICE_CONDITIONS = {
    "1": Condition.STOPPED,
    "2": Condition.CHANGING,
    "3": Condition.CHANGING,
    "4": Condition.RUNNING,
    "5": Condition.CHANGING,
    "6": Condition.CHANGING,
    "7": Condition.CHANGING,
}
# The labels before the colons are translated on other than English systems; number and word of the state are not.
_STATE_LINE = re.compile(
    r":\s*([1-7])\s+(STOPPED|START_PENDING|STOP_PENDING|RUNNING|CONTINUE_PENDING|PAUSE_PENDING|PAUSED)\b"
)
_PID_LINE = re.compile(r"^\s*PID\s*:\s*(\d+)", re.MULTILINE)


def service_steps(verb: ServiceVerb, name: str) -> tuple[Step, ...]:
    """Return the steps that restart or stop a service; sc.exe answers before anything has happened."""
    stop = Step((_sc(), "stop", name), accepted=(0, _NOT_RUNNING, _TAKES_NO_CONTROL_NOW), until=(Condition.STOPPED,))
    if verb is ServiceVerb.STOP:
        return (stop,)
    return stop, Step((_sc(), "start", name), accepted=(0, _ALREADY_RUNNING), until=(Condition.RUNNING,))


def service_state_argv(name: str) -> tuple[str, ...]:
    """Return the argv that asks the service manager about a service."""
    return (_sc(), "queryex", name)


def read_service_state(exit_code: int | None, output: str) -> ServiceState:
    """Read the answer to `service_state_argv`."""
    if exit_code == _NO_SUCH_SERVICE:
        return ServiceState(Condition.MISSING, first_line(output))
    state = _STATE_LINE.search(output)
    if exit_code != 0 or state is None:
        return ServiceState(Condition.UNKNOWN, first_line(output))
    pid = _PID_LINE.search(output)
    return ServiceState(_SERVICE_CONDITIONS[state[1]], state[2], pid=int(pid[1]) or None if pid else None)


def _sc() -> str:
    """Name it in full: Windows would look for a bare name in the agent's own folder first."""
    return os.environ.get("SystemRoot", r"C:\Windows") + r"\System32\sc.exe"  # noqa: SIM112 - Windows spells it so


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
