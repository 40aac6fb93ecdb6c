"""A small real service to watch, to restart and to make fail: `python -S -E service.py run --dir DIR`.

It writes a file and reads it back, obeys the rate limit in DIR/rate-limit.json and logs what it measured.
It refuses to stop a process that is not this service in this folder, whatever the pid file says.
"""

import time

# The first statement that runs: what is measured from here on includes no import of ours.
STARTED_AT_NS = time.time_ns()

import os  # noqa: E402 - the clock above comes first
import signal  # noqa: E402 - likewise
import sys  # noqa: E402 - likewise

# What type checkers take for true; importing `typing` would cost as much as all the rest of our start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "reco3-demo"

_ENDPOINT = "/api"
_BEAT_S = 3.0
_REQUESTS_PER_BEAT = 60
_PROBE = b"reco3-demo\n" * 372
_SLOW_DISK_MS = 250.0
_STOP_DEADLINE_S = 5.0
_START_DEADLINE_S = 10.0
# A predecessor that is about to end, or one who looks whether the lock is free, may hold it for a moment.
_LOCK_DEADLINE_S = 1.0
_POLL_S = 0.001
# Windows keeps others from reading locked bytes, so the lock lies far behind the pid.
_LOCK_AT = 1 << 20
_OWN_NAME_PATH = "/proc/self/comm"
_USAGE = "usage: service.py {run|start|stop|restart|status|fail} --dir DIR"


def command(action: str, directory: str) -> list[str]:
    """Return the argv that does `action`, for the config's `start_cmd`, `stop_cmd` and `restart_cmd`."""
    return [sys.executable, "-S", "-E", _compiled_script(directory), action, "--dir", directory]


def _compiled_script(directory: str) -> str:
    """This script, compiled once: Python would compile its text at every start, for half as long as a start takes."""
    import py_compile  # noqa: PLC0415 - of use to whoever writes a config only

    compiled = f"{directory}/service.pyc"
    os.makedirs(directory, exist_ok=True)  # noqa: PTH103 - pathlib costs a third of our start
    py_compile.compile(__file__, cfile=compiled, doraise=True)
    return compiled


def main(argv: list[str]) -> int:
    """Do what the command line says; 2 says that it was not understood."""
    actions = {"run": run, "start": start, "stop": stop, "restart": restart, "status": status, "fail": fail}
    if len(argv) != 3 or argv[0] not in actions or argv[1] != "--dir":  # noqa: PLR2004 - action, --dir, DIR
        sys.stderr.write(_USAGE + "\n")
        return 2
    directory = os.path.abspath(argv[2])  # noqa: PTH100 - pathlib costs a third of our start
    os.makedirs(directory, exist_ok=True)  # noqa: PTH103 - likewise
    return actions[argv[0]](directory)


def run(directory: str) -> int:
    """Work until SIGTERM."""
    _append(directory, "starts.log", f"{os.getpid()} {STARTED_AT_NS}")
    signal.signal(signal.SIGTERM, _exit_at_once)
    signal.signal(signal.SIGINT, _exit_at_once)
    lock = _wait(lambda: _lock_pid_file(directory), _LOCK_DEADLINE_S)
    if lock is None:
        return _complain(f"{NAME} is already running in {directory}")
    _name_process()
    try:
        _log(directory, f"INFO {NAME} started, pid {os.getpid()}")
        _work(directory)
    finally:
        _log(directory, f"INFO {NAME} stopped, pid {os.getpid()}")
        os.ftruncate(lock, 0)
    return 0


def start(directory: str) -> int:
    """Start the service unless it runs, and wait until it does."""
    running = _running_pid(directory)
    if running is not None:
        _say(f"{NAME} is already running: pid {running}")
        return 0
    started = _start_detached(directory)
    return _say(f"started {NAME}: pid {started}") if started else _complain(f"{NAME} did not start in {directory}")


def stop(directory: str) -> int:
    """Stop the service if it runs, and wait until it is gone."""
    pid = _running_pid(directory)
    if pid is None:
        return _say(f"{NAME} is not running")
    return _say(f"stopped {NAME}: pid {pid}") if _stop(pid, directory) else _complain(f"{NAME} pid {pid} did not stop")


def restart(directory: str) -> int:
    """Stop the service, start it again, and say both pids."""
    _append(directory, "restarts.log", f"{os.getpid()} {STARTED_AT_NS}")
    old = _running_pid(directory)
    if old is not None and not _stop(old, directory):
        return _complain(f"{NAME} pid {old} did not stop")
    new = _start_detached(directory)
    if new is None:
        return _complain(f"{NAME} did not start in {directory}")
    return _say(f"restarted {NAME}: pid {old or 'none'} -> {new}")


def status(directory: str) -> int:
    """Say whether the service runs; 3 says that it does not, as init scripts do."""
    pid = _running_pid(directory)
    if pid is None:
        _say(f"{NAME} is not running")
        return 3
    return _say(f"{NAME} is running: pid {pid}")


def fail(directory: str) -> int:
    """Log an error, so that a person can see an incident appear."""
    _log(directory, f"ERROR code=DEMO_FAILURE a person asked {NAME} to fail")
    return _say(f"logged an error in {os.path.join(directory, NAME)}.log")  # noqa: PTH118 - pathlib costs a third of our start


def _work(directory: str) -> None:
    limits = _RateLimits(directory)
    while True:
        limits.look()
        sync_ms = _write_probe(directory)
        if sync_ms > _SLOW_DISK_MS:
            _log(directory, f"WARN code=SLOW_DISK writing {len(_PROBE)} bytes to the disk took {sync_ms:.0f} ms")
        served = limits.allowed(_ENDPOINT, _REQUESTS_PER_BEAT)
        wrong = sum(not _is_probe_intact(directory) for _ in range(served))
        if wrong:
            _log(directory, f"ERROR code=BAD_READ {wrong} of {served} requests read back other bytes than were written")
        turned_away = _REQUESTS_PER_BEAT - served
        _log(directory, f"INFO served {served} requests, turned away {turned_away}, disk write {sync_ms:.1f} ms")
        time.sleep(_BEAT_S)


def _write_probe(directory: str) -> float:
    descriptor = os.open(f"{directory}/probe.dat", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    began_s = time.perf_counter()
    try:
        os.write(descriptor, _PROBE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return (time.perf_counter() - began_s) * 1000


def _is_probe_intact(directory: str) -> bool:
    descriptor = os.open(f"{directory}/probe.dat", os.O_RDONLY)
    try:
        return os.read(descriptor, len(_PROBE) + 1) == _PROBE
    finally:
        os.close(descriptor)


class _RateLimits:
    """What DIR/rate-limit.json says, read again whenever the file changes."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._seen: tuple[int, int, int] | None = None
        self._limits: dict[str, float] = {}

    def allowed(self, endpoint: str, asked: int) -> int:
        """Tell how many of the requests asked for in one beat the limit lets through."""
        limit_rps = self._limits.get(endpoint)
        return asked if limit_rps is None else min(asked, int(limit_rps * _BEAT_S))

    def look(self) -> None:
        path = f"{self._directory}/rate-limit.json"
        try:
            found = os.stat(path)  # noqa: PTH116 - pathlib costs a third of our start
        except FileNotFoundError:
            self._seen = None
            self._replace({})
            return
        seen = (found.st_ino, found.st_size, found.st_mtime_ns)
        if seen != self._seen:
            self._seen = seen
            self._read(path)

    def _read(self, path: str) -> None:
        import json  # noqa: PLC0415 - only a service that is given limits pays for it

        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs a third of our start
                self._replace(_parse_limits(json.load(file)))
        except (ValueError, OSError) as err:
            _log(self._directory, f"WARN code=BAD_RATE_LIMIT {path} is not understood, the limits stay: {err}")

    def _replace(self, limits: dict[str, float]) -> None:
        for endpoint in sorted(self._limits.keys() | limits.keys()):
            old, new = self._limits.get(endpoint), limits.get(endpoint)
            if old != new:
                _log(self._directory, f"INFO rate limit of {endpoint}: {_shown_limit(old)} -> {_shown_limit(new)}")
        self._limits = limits


def _shown_limit(limit_rps: float | None) -> str:
    return "none" if limit_rps is None else f"{limit_rps:g} requests/s"


def _parse_limits(found: object) -> dict[str, float]:
    """Take `{"/api": 50}` or `{"/api": {"limit_rps": 50}}`, either of them also under the key `limits`."""
    table = found.get("limits", found) if isinstance(found, dict) else None
    if not isinstance(table, dict):
        raise ValueError("expected an object of endpoints")  # noqa: TRY004 - one error for whatever a file may hold
    limits = {}
    for endpoint, limit in table.items():
        value = limit.get("limit_rps") if isinstance(limit, dict) else limit
        if endpoint.startswith("/"):
            if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
                raise ValueError(f"expected requests per second for {endpoint}")
            limits[endpoint] = float(value)
    return limits


def _exit_at_once(_signal: int, _frame: object) -> None:
    raise SystemExit(0)


def _lock_pid_file(directory: str) -> int | None:
    """Write our pid and hold the file's lock as long as we live; None when another one holds it."""
    descriptor = os.open(_pid_path(directory), os.O_RDWR | os.O_CREAT, 0o644)
    if not _try_lock(descriptor):
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, b"%d\n" % os.getpid())
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - of use on Windows only

            os.lseek(descriptor, _LOCK_AT, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl  # noqa: PLC0415 - of use elsewhere only

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _name_process() -> None:
    """Go by our own name rather than the interpreter's, where the system lets a process choose it."""
    try:
        descriptor = os.open(_OWN_NAME_PATH, os.O_WRONLY)
    except OSError:
        return
    os.write(descriptor, NAME.encode())
    os.close(descriptor)


def _running_pid(directory: str) -> int | None:
    """Return the pid of the service that runs in this folder, having checked that it is that service."""
    try:
        with open(_pid_path(directory), "rb") as file:  # noqa: PTH123 - pathlib costs a third of our start
            text = file.read(32).strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() and _is_our_service(int(text), directory) else None


def _is_our_service(pid: int, directory: str) -> bool:
    """Whether the process is this service in this folder: by its command line or, without /proc, by the lock."""
    if not os.path.isdir("/proc/self"):  # noqa: PTH112 - pathlib costs a third of our start
        return _is_locked(directory)
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - likewise
            argv = [os.fsdecode(one) for one in file.read().rstrip(b"\0").split(b"\0")]
        *_, script, action, option, folder = argv
        own_scripts = ("service.py", "service.pyc", f"{NAME}.py", f"{NAME}.pyc")
        if os.path.basename(script) not in own_scripts or (action, option) != ("run", "--dir"):  # noqa: PTH119 - likewise
            return False
        return os.path.samefile(os.path.join(f"/proc/{pid}/cwd", folder), directory)  # noqa: PTH118, PTH121 - likewise
    except (OSError, ValueError):
        return False


def _is_locked(directory: str) -> bool:
    descriptor = os.open(_pid_path(directory), os.O_RDWR)
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _stop(pid: int, directory: str) -> bool:
    os.kill(pid, signal.SIGTERM)
    return _wait(lambda: not _is_our_service(pid, directory), _STOP_DEADLINE_S) is not None


def _start_detached(directory: str) -> int | None:
    _spawn([sys.executable, "-S", "-E", _script_to_run(directory), "run", "--dir", directory])
    return _wait(lambda: _running_pid(directory), _START_DEADLINE_S)


def _script_to_run(directory: str) -> str:
    """Name the script to run: where a process is known by its script's name, a copy that is called like the service."""
    own = os.path.abspath(__file__)  # noqa: PTH100 - pathlib costs a third of our start
    if os.path.exists(_OWN_NAME_PATH):  # noqa: PTH110 - likewise
        return own
    copy = f"{directory}/{NAME}{os.path.splitext(own)[1]}"  # noqa: PTH122 - likewise
    with open(own, "rb") as source, open(copy, "wb") as target:  # noqa: PTH123 - likewise
        target.write(source.read())
    return copy


def _spawn(argv: list[str]) -> None:
    """Start a process of its own session that shares no pipe with us."""
    if sys.platform == "win32":
        import subprocess  # noqa: PLC0415 - of use on Windows only

        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
        subprocess.Popen(argv, creationflags=flags, close_fds=True)  # noqa: S603 - our own argv
    else:
        null = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in (0, 1, 2)]
        os.posix_spawn(argv[0], argv, os.environ, file_actions=null, setsid=True)


def _wait(look: "Callable[[], int | None]", deadline_s: float) -> int | None:
    """Look until the answer is truthy, and return it; None when the deadline passes first."""
    until_s = time.monotonic() + deadline_s
    while not (answer := look()):
        if time.monotonic() > until_s:
            return None
        time.sleep(_POLL_S)
    return answer


def _pid_path(directory: str) -> str:
    return f"{directory}/{NAME}.pid"


def _log(directory: str, text: str) -> None:
    now_ns = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 1_000_000_000))
    _append(directory, f"{NAME}.log", f"{stamp}.{now_ns // 1_000_000 % 1000:03d}Z {text}")


def _append(directory: str, name: str, line: str) -> None:
    """Append a line in one write, so that lines of two processes never mix."""
    descriptor = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def _say(text: str) -> int:
    sys.stdout.write(text + "\n")
    return 0


def _complain(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
