"""Measures this PC: processor, memory, disk, network and the processes it is told to watch.

It refuses to fill in what it could not read: an unknown value is None, never zero.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reco3.agent import platform
from reco3.agent.platform.readings import ProcessorReading
from reco3.protocol.messages import InterfaceTotals, Metrics, WatchedProcess

MAX_PIDS = 50
MAX_INTERFACES = 64

_FIRST_INTERVAL_S = 0.1
_MIB = 1024**2
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class WatchedName:
    """One entry of `watch.processes`: which name to look for, and whether its process may be restarted."""

    name: str
    allow_restart: bool


@dataclass(frozen=True, slots=True)
class Sighting:
    """A living process that goes by a watched name; `started` is good for comparing only."""

    started: float
    pid: int


class Sampler:
    """Takes samples; it remembers the last one, so that the processor's use is the use since then."""

    def __init__(self, watched: Sequence[WatchedName]) -> None:
        self._watched = tuple(watched)
        self._processor = _ProcessorUse()
        self._oldest: dict[str, Sighting] = {}
        self._restarts: dict[str, int] = {}
        self._known: Mapping[str, Sequence[Sighting]] = {}

    def known(self, name: str) -> Sequence[Sighting]:
        """The processes of a watched name that the last sample saw; called from any thread."""
        return self._known.get(name, ())

    def sample(self, *, mode: str, apply_enabled: bool) -> Metrics:
        """Measure everything once; the first sample takes a tenth of a second to measure the processor over."""
        memory = _memory_use()
        disk = _disk_use()
        interfaces = _interface_totals()
        counted = _counted_interfaces(interfaces)
        return Metrics(
            cpu_percent=self._processor.percent(),
            cpu_count=os.cpu_count(),
            mem_percent=memory.percent,
            mem_used_mb=memory.used_mb,
            mem_total_mb=memory.total_mb,
            disk_percent=disk.percent,
            disk_used_gb=disk.used_gb,
            disk_total_gb=disk.total_gb,
            net_bytes_sent=sum(one.bytes_sent for one in counted) if interfaces is not None else None,
            net_bytes_recv=sum(one.bytes_recv for one in counted) if interfaces is not None else None,
            platform=platform.NAME,
            hostname=platform.host_name(),
            mode=mode,
            apply_enabled=apply_enabled,
            processes=self._watched_processes(),
            interfaces=(counted + [one for one in interfaces or [] if one not in counted])[:MAX_INTERFACES],
        )

    def _watched_processes(self) -> list[WatchedProcess]:
        if not self._watched:
            return []
        found = find_processes([one.name for one in self._watched])
        self._known = found
        return [self._describe(one, found[one.name]) for one in self._watched]

    def _describe(self, watched: WatchedName, sightings: Sequence[Sighting]) -> WatchedProcess:
        oldest = sightings[0] if sightings else None
        restarts = self._count_restart(watched.name, oldest)
        return WatchedProcess(
            name=watched.name,
            running=oldest is not None,
            pid=oldest.pid if oldest else None,
            status=platform.read_status(oldest.pid) if oldest else "missing",
            count=len(sightings),
            pids=[one.pid for one in sightings[:MAX_PIDS]],
            create_time_ms=platform.created_at_ms(oldest.started) if oldest else None,
            restarts=restarts,
            allow_restart=watched.allow_restart,
        )

    def _count_restart(self, name: str, oldest: Sighting | None) -> int:
        known = self._oldest.get(name)
        if oldest is not None:
            # An older one than before was there all the time and out of our sight: nothing was restarted.
            if known is not None and (oldest.started, oldest.pid) > (known.started, known.pid):
                self._restarts[name] = self._restarts.get(name, 0) + 1
            self._oldest[name] = oldest
        return self._restarts.get(name, 0)


@dataclass(slots=True)
class _ProcessorUse:
    """The processor's use between two calls.

    There is none before the second look, so the first call takes two, a tenth of a second apart.
    """

    last: ProcessorReading | None = None
    last_percent: float | None = None

    def percent(self) -> float | None:
        try:
            return self._percent()
        except OSError:
            return None

    def _percent(self) -> float | None:
        if self.last is None:
            self.last = platform.read_processor()
            time.sleep(_FIRST_INTERVAL_S)
        now = platform.read_processor()
        elapsed_s = now.total_s - self.last.total_s
        if elapsed_s > 0:
            self.last_percent = round(min(100.0, max(0.0, 100 * (now.busy_s - self.last.busy_s) / elapsed_s)), 1)
            self.last = now
        return self.last_percent


@dataclass(frozen=True, slots=True)
class _MemoryUse:
    percent: float | None = None
    used_mb: float | None = None
    total_mb: float | None = None


def _memory_use() -> _MemoryUse:
    try:
        read = platform.read_memory()
    except OSError:
        return _MemoryUse()
    used_bytes = read.total_bytes - read.available_bytes
    percent = round(100 * used_bytes / read.total_bytes, 1) if read.total_bytes else None
    return _MemoryUse(percent, round(used_bytes / _MIB, 1), round(read.total_bytes / _MIB, 1))


@dataclass(frozen=True, slots=True)
class _DiskUse:
    percent: float | None = None
    used_gb: float | None = None
    total_gb: float | None = None


def _disk_use() -> _DiskUse:
    try:
        read = platform.read_disk(platform.system_disk_path())
    except OSError:
        return _DiskUse()
    usable_bytes = read.used_bytes + read.free_bytes
    percent = round(100 * read.used_bytes / usable_bytes, 1) if usable_bytes else None
    return _DiskUse(percent, round(read.used_bytes / _GIB, 2), round(read.total_bytes / _GIB, 2))


def _interface_totals() -> list[InterfaceTotals] | None:
    """Read every interface but the loopback, the busiest first."""
    try:
        counters = platform.read_interfaces()
    except OSError:
        return None
    totals = [
        InterfaceTotals(name=name, bytes_sent=one.bytes_sent, bytes_recv=one.bytes_recv)
        for name, one in counters.items()
        if not _is_loopback(name)
    ]
    return sorted(totals, key=lambda one: (-(one.bytes_sent + one.bytes_recv), one.name))


def _is_loopback(name: str) -> bool:
    return name.lower().startswith("loopback") or (name.startswith("lo") and name[2:].isdecimal()) or name == "lo"


def _counted_interfaces(interfaces: Sequence[InterfaceTotals] | None) -> list[InterfaceTotals]:
    """Take the interfaces whose sum is the PC's traffic; where none looks physical, all of them."""
    physical = [one for one in interfaces or [] if platform.is_physical_interface(one.name)]
    return physical or list(interfaces or [])


def find_processes(names: Sequence[str]) -> Mapping[str, list[Sighting]]:
    """Find the living processes of each name, oldest first, in one scan.

    A process has the name of its program and, when an interpreter runs it, that of its script.
    """
    wanted: dict[str, list[str]] = {}
    for name in names:
        wanted.setdefault(platform.fold_name(name), []).append(name)
    found: dict[str, list[Sighting]] = {name: [] for name in names}
    for pid, program, started in platform.list_processes():
        for name in _names_of(pid, program, wanted) & wanted.keys():
            for spelled in wanted[name]:
                found[spelled].append(Sighting(started, pid))
    return {name: sorted(sightings, key=lambda one: (one.started, one.pid)) for name, sightings in found.items()}


def still_there(name: str, known: Sequence[Sighting]) -> list[Sighting] | None:
    """Look at known processes of a name alone; None when only a look at all can tell what there is.

    That is so when the oldest has gone, and when the agent itself goes by that name, which nobody must overlook.
    """
    wanted = {platform.fold_name(name): [name]}
    own = platform.read_process(os.getpid())
    if not known or own is None or _names_of(os.getpid(), own[0], wanted) & wanted.keys():
        return None
    left = [one for one in known if _is_still(one, wanted)]
    return left if left and left[0] == known[0] else None


def _is_still(one: Sighting, wanted: Mapping[str, object]) -> bool:
    found = platform.read_process(one.pid)
    return found is not None and found[1] == one.started and bool(_names_of(one.pid, found[0], wanted) & wanted.keys())


def _names_of(pid: int, program: str, wanted: Mapping[str, object]) -> set[str]:
    if not needs_command_line(program, wanted):
        return process_names(program, [], fold=platform.fold_name)
    # Our own arguments name a config file, not a program: only the interpreter's name counts for us.
    argv = [] if pid == os.getpid() else platform.read_command_line(pid)
    return process_names(program, argv, fold=platform.fold_name)


_CUT_NAME_BYTES = 15
_NAME_ARGUMENTS = 4
_PROGRAM_SUFFIX = re.compile(
    r"(.+)\.(?:exe|com|bat|cmd|ps1|pyw?|pyz|[mc]?js|ts|pl|rb|sh|bash|zsh|jar)", re.IGNORECASE | re.DOTALL
)


def needs_command_line(program: str, wanted: Mapping[str, object]) -> bool:
    """Whether a program's name alone cannot decide: an interpreter runs a script, or the kernel cut the name."""
    if _interpreter_of(program) is not None:
        return True
    return len(os.fsencode(program)) == _CUT_NAME_BYTES and any(name.startswith(program) for name in wanted)


def process_names(program: str, argv: Sequence[str], *, fold: Callable[[str], str]) -> set[str]:
    """Tell the names a process goes by: each with and without a program's or script's extension, folded."""
    names = {program}
    names.update(_uncut_names(program, argv))
    if argv and _interpreter_of(program) is not None:
        names.add(_base_name(argv[0]))
        names.update(_script_names(argv))
    bare = {match[1] for name in names if (match := _PROGRAM_SUFFIX.fullmatch(name))}
    return {fold(name) for name in names | bare if name}


def _uncut_names(program: str, argv: Sequence[str]) -> Iterator[str]:
    if len(os.fsencode(program)) != _CUT_NAME_BYTES:
        return
    for argument in argv[:_NAME_ARGUMENTS]:
        name = _base_name(argument)
        if name.startswith(program):
            yield name
            return


def _base_name(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class _Interpreter:
    """How an interpreter's arguments are read up to its script.

    Letters of `valued` take a value, attached or as the next argument; letters of `attached` only an attached one.
    Letters of `scriptless` say that no script file follows.
    """

    valued: str = ""
    attached: str = ""
    scriptless: str = ""
    long_valued: frozenset[str] = field(default_factory=frozenset)
    long_scriptless: frozenset[str] = field(default_factory=frozenset)
    script_option: str = ""


_PYTHON = _Interpreter(
    valued="WXQ", scriptless="c", script_option="-m", long_valued=frozenset({"--check-hash-based-pycs"})
)
_NODE = _Interpreter(
    valued="rC",
    scriptless="ep",
    long_valued=frozenset({"--require", "--import", "--loader", "--experimental-loader", "--conditions"}),
    long_scriptless=frozenset({"--eval", "--print"}),
)
_PERL = _Interpreter(valued="I", attached="iMmx0lCDFV", scriptless="eE")
_RUBY = _Interpreter(valued="Ir", attached="ixKTW0F", scriptless="e")
_SHELL = _Interpreter(valued="oO", scriptless="cs", long_valued=frozenset({"--rcfile", "--init-file"}))
_JAVA = _Interpreter(script_option="-jar")
_INTERPRETERS: Mapping[str, _Interpreter] = {
    **dict.fromkeys(("python", "pythonw", "pypy"), _PYTHON),
    # Node names its main thread so, and with it the process.
    **dict.fromkeys(("node", "nodejs", "mainthread", "node-mainthread"), _NODE),
    "perl": _PERL,
    "ruby": _RUBY,
    **dict.fromkeys(("sh", "bash", "dash", "ash", "ksh", "zsh"), _SHELL),
    **dict.fromkeys(("java", "javaw"), _JAVA),
}
_VERSIONED_PROGRAM = re.compile(r"-?([a-z-]+)[0-9.]*(?:\.exe)?", re.IGNORECASE)


def _interpreter_of(program: str) -> _Interpreter | None:
    name = _VERSIONED_PROGRAM.fullmatch(program)
    return _INTERPRETERS.get(name[1].lower().rstrip(".")) if name else None


def _script_names(argv: Sequence[str]) -> list[str]:
    interpreter = _interpreter_of(_base_name(argv[0])) or _NODE
    script = _java_script(argv) if interpreter is _JAVA else _script(argv, interpreter)
    return [_base_name(script)] if script else []


def _java_script(argv: Sequence[str]) -> str | None:
    after = list(argv)[1:]
    return after[after.index("-jar") + 1] if "-jar" in after[:-1] else None


def _script(argv: Sequence[str], interpreter: _Interpreter) -> str | None:
    """Return the first argument that is no option of the interpreter, or the module that `-m` names."""
    arguments = iter(argv[1:])
    for argument in arguments:
        if argument == "--":
            return next(arguments, None)
        if not argument.startswith("-") or argument == "-":
            return None if argument == "-" else argument
        if interpreter.script_option and argument == interpreter.script_option:
            return next(arguments, None)
        match _what_follows(argument, interpreter):
            case "no script":
                return None
            case "a value":
                next(arguments, None)
    return None


def _what_follows(option: str, interpreter: _Interpreter) -> str:
    if option.startswith("--"):
        name = option.partition("=")[0]
        if name in interpreter.long_scriptless:
            return "no script"
        return "a value" if option in interpreter.long_valued else "more"
    for place, letter in enumerate(option[1:], start=1):
        if letter in interpreter.scriptless:
            return "no script"
        if letter in interpreter.valued:
            return "a value" if place == len(option) - 1 else "more"
        if letter in interpreter.attached:
            return "more"
    return "more"
