"""The service manager of Windows, by sc.exe: is there a service, does it run; register it, start, stop, remove it.

It refuses to read words that are translated: sc.exe's exit codes are the system's error numbers, the names of states
and of registry values are the same everywhere.
"""

import re
from collections.abc import Callable

from reco3.installers.host import Host
from reco3.installers.programs import Ran
from reco3.installers.troubles import InstallError
from reco3.installers.windows_access import system_program

NAME = "RECO3Agent"
DISPLAY_NAME = "RECO3 Agent"
DESCRIPTION = "Watches this PC for RECO3 and carries out what its own config allows."
ALREADY_RUNNING, TAKES_NO_CONTROL_NOW, MARKED_FOR_DELETION, ALREADY_THERE = 1056, 1061, 1072, 1073
NO_SUCH_SERVICE, NOT_RUNNING = 1060, 1062
# The third and later failures within a day are waited out for a minute.
RECOVERY = "restart/5000/restart/15000/restart/60000"
FORGET_FAILURES_AFTER_S = 86_400
STOPS_WITHIN_S = 30.0
GOES_WITHIN_S = 15.0
LOOK_EVERY_S = 0.5
EVENT_SOURCE = rf"HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\{NAME}"
_SERVICE_KEY = rf"HKLM\SYSTEM\CurrentControlSet\Services\{NAME}"
_STATE = re.compile(r":\s*[1-7]\s+(STOPPED|START_PENDING|STOP_PENDING|RUNNING|CONTINUE_PENDING|PAUSE_PENDING|PAUSED)\b")
_PROCESS = re.compile(r"^\s*PID\s*:\s*(\d+)", re.MULTILINE)
_IMAGE = re.compile(r"^\s*ImagePath\s+REG_(?:EXPAND_)?SZ\s+(.*?)\s*$", re.MULTILINE)
EVENTS = "look into the event log: Application, source RECO3Agent, and System, source Service Control Manager"
_MARKED = (
    "close every window of Services, Event Viewer and Task Manager; if it stays, restart the PC; then run the same "
    "again"
)


def is_there(host: Host) -> bool:
    """Whether the service manager knows the service."""
    return _state(host) is not None


def process_id(host: Host) -> str | None:
    """The process of the service while it runs."""
    ran = _ask(host)
    running = _STATE.search(ran.output)
    process = _PROCESS.search(ran.output)
    if not ran.is_ok or running is None or running[1] != "RUNNING" or process is None:
        return None
    return process[1]


def is_stopped(host: Host) -> bool:
    """Whether nothing of the service runs; one that is not there does not run."""
    return _state(host) in {None, "STOPPED"}


def command_line_of(host: Host) -> str | None:
    """What the service is started with, as it stands in the registry; None when there is none."""
    ran = host.ask([system_program("reg.exe"), "query", _SERVICE_KEY, "/v", "ImagePath"])
    found = _IMAGE.search(ran.output) if ran.is_ok else None
    return found[1] if found else None


def register(host: Host, command_line: str) -> None:
    """Make the service, or bring the one that is there up to date; started after the boot, restarted when it fails."""
    words = ["binPath=", command_line, *_HOW, "DisplayName=", DISPLAY_NAME]
    verb = "config" if is_there(host) else "create"
    ran = _sc(host, verb, NAME, *words)
    if ran.exit_code == ALREADY_THERE:
        ran = _sc(host, "config", NAME, *words)
    _must(ran, f"sc {verb}", "not_registered")
    for verb, words in _SETTINGS:
        _must(_sc(host, verb, NAME, *words), f"sc {verb}", "not_registered")


_HOW = ["type=", "own", "start=", "delayed-auto", "error=", "normal", "obj=", "LocalSystem"]
_SETTINGS: list[tuple[str, list[str]]] = [
    ("description", [DESCRIPTION]),
    ("failure", ["reset=", str(FORGET_FAILURES_AFTER_S), "actions=", RECOVERY]),
    # So that one that refused its config tries again; Windows heeds this from the next boot on. A crash needs no flag.
    ("failureflag", ["1"]),
]


def start(host: Host) -> None:
    """Start the service; it may not run yet when this returns."""
    ran = _sc(host, "start", NAME)
    if ran.exit_code != ALREADY_RUNNING:
        _must(ran, "sc start", "not_started")


def stop(host: Host) -> None:
    """Stop the service and wait until nothing of it runs."""
    if host.is_dry:
        _sc(host, "stop", NAME)
        return
    deadline = host.now_s() + STOPS_WITHIN_S
    while not is_stopped(host):
        if host.now_s() >= deadline:
            raise InstallError(
                "not_stopped",
                f"the service did not stop within {STOPS_WITHIN_S:.0f} s",
                f"end its process in the Task Manager, then run the same again; {EVENTS}",
            )
        ran = _sc(host, "stop", NAME)
        if ran.is_ok:
            _waited_for(host, lambda: is_stopped(host), until=deadline)
        elif ran.exit_code in {TAKES_NO_CONTROL_NOW, NOT_RUNNING, NO_SUCH_SERVICE}:
            host.sleep(LOOK_EVERY_S)  # It is being started or stopped just now, or has stopped meanwhile.
        else:
            _must(ran, "sc stop", "not_stopped")


def remove(host: Host) -> None:
    """Take the service out of the service manager, and wait until it is gone."""
    ran = _sc(host, "delete", NAME)
    if ran.exit_code not in {0, NO_SUCH_SERVICE, MARKED_FOR_DELETION}:
        _must(ran, "sc delete", "not_removed")
    if not host.is_dry and not _waited_for(host, lambda: not is_there(host), until=host.now_s() + GOES_WITHIN_S):
        raise InstallError(
            "marked_for_deletion", "the service is still shown by some window, and goes with it", _MARKED
        )


def has_event_source(host: Host) -> bool:
    """Whether the event log knows the service's events; the service itself has told it where their texts are."""
    return host.ask([system_program("reg.exe"), "query", EVENT_SOURCE]).is_ok


def forget_event_source(host: Host) -> None:
    """Take that out of the registry."""
    argv = [system_program("reg.exe"), "delete", EVENT_SOURCE, "/f"]
    host.must(argv, code="event_source_left", to_do="remove that key with regedit; nothing else depends on it")


def _state(host: Host) -> str | None:
    """The name of the service's state; None when there is no such service. Raises: InstallError."""
    ran = _ask(host)
    if ran.exit_code == NO_SUCH_SERVICE:
        return None
    found = _STATE.search(ran.output)
    if not ran.is_ok or found is None:
        _must(Ran(ran.exit_code or 1, ran.output), "sc queryex", "service_unknown")
        return None
    return found[1]


def _ask(host: Host) -> Ran:
    return host.ask([system_program("sc.exe"), "queryex", NAME])


def _sc(host: Host, verb: str, *words: str) -> Ran:
    return host.run([system_program("sc.exe"), verb, *words])


def _must(ran: Ran, what: str, code: str) -> None:
    if ran.is_ok:
        return
    to_do = _MARKED if ran.exit_code == MARKED_FOR_DELETION else EVENTS
    raise InstallError(code, f"{what} ended with {ran.exit_code}:\n{ran.output.strip()}", to_do)


def _waited_for(host: Host, is_so: Callable[[], bool], *, until: float) -> bool:
    while not is_so():
        if host.now_s() >= until:
            return False
        host.sleep(LOOK_EVERY_S)
    return True
