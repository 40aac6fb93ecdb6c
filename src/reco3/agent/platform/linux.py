"""Linux: everything straight from /proc, one read each, at a quarter of the time and none of the memory of psutil.

It refuses to interpret what it reads: which process matters is decided by the caller.
"""

import contextlib
import functools
import os
import re
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from io import FileIO

from reco3.agent.platform.readings import DiskReading, InterfaceReading, MemoryReading, ProcessorReading
from reco3.agent.platform.service_states import Condition, ServiceState, ServiceVerb, Step, first_line

NAME = "linux"
# What the installers call the agent.
AGENT_SERVICE = "reco3-agent.service"

# psutil's words for the letters of /proc/PID/stat.
_STATUSES = {
    "R": "running",
    "S": "sleeping",
    "D": "disk-sleep",
    "T": "stopped",
    "t": "tracing-stop",
    "Z": "zombie",
    "X": "dead",
    "x": "dead",
    "K": "wake-kill",
    "W": "waking",
    "I": "idle",
    "P": "parked",
}
_KERNEL_THREADS_PARENT = b"2"
_READ_BYTES = 4096
# _IOR('v', 1, long) on all but a few processors; a wrong number is refused, and then there is no mark.
_FS_IOC_GETVERSION = 0x8000_7601 | (struct.calcsize("l") << 16)
_MAX_COMMAND_LINE_BYTES = 64 * 1024
_IDLE, _IOWAIT, _GUEST = 3, 4, 8
_RECEIVED, _SENT = 0, 8
# Bridges, tunnels, containers' ends and tagged copies carry the bytes that a real card carries already.
_VIRTUAL_INTERFACE = re.compile(
    r"lo\d*|docker.*|br-.*|bridge\d*|veth.*|virbr.*|vnet\d+|tun\d+|tap.*|wg\d+|bond\d+|team\d+|dummy\d+|ifb\d+"
    r"|cni.*|flannel.*|cali.*|cilium.*|lxc.*|kube-.*|tailscale\d+|zt.*|sit\d+|gre.*|ip6.*|.*\.\d+"
)


def system_disk_path() -> str:
    """Name the path whose disk is the system's."""
    return "/"


def host_name() -> str:
    """Return the name the PC calls itself."""
    return os.uname().nodename


def fold_name(name: str) -> str:
    """Return the form in which two process names are compared: case matters here."""
    return name


def is_physical_interface(name: str) -> bool:
    """Whether a network interface looks like a card rather than a bridge, a tunnel or the loopback."""
    return _VIRTUAL_INTERFACE.fullmatch(name) is None


def open_shared(path: str) -> FileIO:
    """Open a file for reading; anybody may rename or delete it meanwhile, and a pipe does not block us."""
    return FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def birth_mark(file: FileIO) -> int:
    """Return a number that the filesystem gave the file at its birth, or 0 where it gives none.

    It is the inode's generation, which exists because an inode's number is given to the next file at once.
    Source: ioctl_iflags(2) and FS_IOC_GETVERSION in linux/fs.h; ext4, XFS, Btrfs and F2FS know it, tmpfs does not and
    reuses no number.
    """
    import fcntl  # noqa: PLC0415 - does not exist on Windows, where the tests read this file too

    version = bytearray(8)
    with contextlib.suppress(OSError):
        fcntl.ioctl(file.fileno(), _FS_IOC_GETVERSION, version)
    return int.from_bytes(version[:4], sys.byteorder)


def list_processes(proc: str = "/proc") -> Iterator[tuple[int, str, float]]:
    """Yield the pid, name and start of every living process that has a program.

    The name is the kernel's, cut to 15 bytes; the start is in clock ticks since boot and good for comparing only.
    Kernel threads and zombies are left out, as is whatever vanishes meanwhile.
    """
    for entry in os.listdir(proc):  # noqa: PTH208 - a Path object per process would double the cost of the scan
        if entry.isdecimal():
            found = _parse_stat(_read(f"{proc}/{entry}/stat"))
            if found is not None:
                yield int(entry), found[0], found[1]


def read_process(pid: int, proc: str = "/proc") -> tuple[str, float] | None:
    """Return the name and the start of one process as `list_processes` would, or None when it would not."""
    return _parse_stat(_read(f"{proc}/{pid}/stat"))


def moment() -> float | None:
    """Return the present on the clock that tells the starts of processes, None where that clock may be set back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")


def read_status(pid: int, proc: str = "/proc") -> str:
    """Return psutil's word for what a process does now, or an empty string when it has gone."""
    _, _, rest = _read(f"{proc}/{pid}/stat").rpartition(b")")
    return _STATUSES.get(rest[1:2].decode("ascii", "replace"), "")


def read_command_line(pid: int, proc: str = "/proc") -> list[str]:
    """Return a process's arguments, empty when it has none, has gone or denies access."""
    raw = _read(f"{proc}/{pid}/cmdline", _MAX_COMMAND_LINE_BYTES)
    return os.fsdecode(raw.rstrip(b"\0")).split("\0") if raw else []


def list_children(parent: int, proc: str = "/proc") -> list[tuple[int, float]]:
    """Return the pid and start of every living child of a process."""
    children = []
    for entry in os.listdir(proc):  # noqa: PTH208 - as above
        if entry.isdecimal():
            stat = _read(f"{proc}/{entry}/stat")
            found = _parse_stat(stat)
            if found is not None and stat.rpartition(b")")[2].split()[1] == str(parent).encode():
                children.append((int(entry), found[1]))
    return children


def created_at_ms(started: float) -> int:
    """Return the Unix time in milliseconds of a start that `list_processes` told."""
    return round(_booted_at_s() * 1000 + started * 1000 / os.sysconf("SC_CLK_TCK"))


def read_memory(path: str = "/proc/meminfo") -> MemoryReading:
    """Return the physical memory. Raises: OSError."""
    sizes_kib = {line[0]: int(line[1]) for row in _read(path).splitlines() if len(line := row.split()) > 1}
    try:
        total, available = sizes_kib[b"MemTotal:"], sizes_kib[b"MemAvailable:"]
    except KeyError as error:
        raise OSError(f"{path} has no line {error}") from error
    return MemoryReading(total * 1024, min(available, total) * 1024)


def read_disk(path: str) -> DiskReading:
    """Return the file system that holds a path. Raises: OSError."""
    found = os.statvfs(path)
    block_bytes = found.f_frsize
    used = (found.f_blocks - found.f_bfree) * block_bytes
    return DiskReading(found.f_blocks * block_bytes, used, found.f_bavail * block_bytes)


def read_processor(path: str = "/proc/stat") -> ProcessorReading:
    """Return how long the processors have worked; waiting for the disk is no work. Raises: OSError."""
    fields = _read(path).partition(b"\n")[0].split()
    if fields[:1] != [b"cpu"] or len(fields) <= 1 + _IOWAIT:
        raise OSError(f"{path} does not begin with the sum of all processors")
    # What guests take is counted within the first two already, so it must not be added again.
    counted = [int(one) for one in fields[1 : 1 + _GUEST]]
    per_s = os.sysconf("SC_CLK_TCK")
    total = sum(counted)
    return ProcessorReading((total - counted[_IDLE] - counted[_IOWAIT]) / per_s, total / per_s)


def read_interfaces(path: str = "/proc/net/dev") -> Mapping[str, InterfaceReading]:
    """Return every network interface. Raises: OSError."""
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        lines = file.readlines()[2:]
    readings = {}
    for line in lines:
        name, _, counters = line.rpartition(b":")
        fields = counters.split()
        readings[os.fsdecode(name.strip())] = InterfaceReading(
            bytes_sent=int(fields[_SENT]), bytes_recv=int(fields[_RECEIVED])
        )
    return readings


def boot_id(path: str = "/proc/sys/kernel/random/boot_id") -> str:
    """Return what tells this run of the system from the one before."""
    return _read(path).decode("ascii", "replace").strip()


_SHOWN_PROPERTIES = ("LoadState", "ActiveState", "SubState", "MainPID", "NRestarts", "Job")
_ACTIVE_STATES = {
    "active": Condition.RUNNING,
    "inactive": Condition.STOPPED,
    "failed": Condition.STOPPED,
    "activating": Condition.CHANGING,
    "deactivating": Condition.CHANGING,
    "reloading": Condition.CHANGING,
    "refreshing": Condition.CHANGING,
    "maintenance": Condition.CHANGING,
}


def service_steps(verb: ServiceVerb, name: str) -> tuple[Step, ...]:
    """Return the steps that restart or stop a systemd unit; systemctl itself waits until it is done."""
    return (Step(("systemctl", "--no-ask-password", str(verb), "--", name)),)


def service_state_argv(name: str) -> tuple[str, ...]:
    """Return the argv that asks systemd about a unit."""
    return ("systemctl", "show", *(f"--property={each}" for each in _SHOWN_PROPERTIES), "--", name)


def read_service_state(exit_code: int | None, output: str) -> ServiceState:
    """Read the answer to `service_state_argv`."""
    shown = dict(line.partition("=")[::2] for line in output.splitlines())
    active = shown.get("ActiveState", "")
    if exit_code != 0 or not active:
        return ServiceState(Condition.UNKNOWN, first_line(output))
    if shown.get("LoadState") == "not-found":
        return ServiceState(Condition.MISSING, "not-found")
    condition = _ACTIVE_STATES.get(active, Condition.UNKNOWN)
    if shown.get("Job"):  # Something is queued, which an asked-for restart is before it begins.
        condition = Condition.CHANGING
    word = f"{active} ({shown.get('SubState', '')})"
    return ServiceState(
        condition, word, pid=_number(shown.get("MainPID")) or None, restarts=_number(shown.get("NRestarts"))
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


@functools.cache
def _booted_at_s() -> float:
    """Computed once: a clock that is set later must not give one process two creation times."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _parse_stat(stat: bytes) -> tuple[str, float] | None:
    """Take the name and the start out of a stat line; the name may hold spaces and parentheses of its own."""
    before, _, after = stat.rpartition(b")")
    _, _, name = before.partition(b"(")
    fields = after.split()
    if len(fields) < 20 or fields[0] in b"ZXx" or fields[1] == _KERNEL_THREADS_PARENT:  # noqa: PLR2004 - up to starttime
        return None
    return os.fsdecode(name), float(fields[19])


def _read(path: str, size: int = _READ_BYTES) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, size)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
