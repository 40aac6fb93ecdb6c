"""Runs the agent as the Windows service RECO3Agent: `python.exe -I -S reco3_agent_service.py CONFIG`.

It refuses to run without the service manager (`reco3 agent CONFIG` does that), to stay when the agent cannot use its
config, and to live on when a part of the agent has died. README_windows.md says why it is started in this way.
"""

import contextlib
import importlib
import os
import site
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

# Without `-S` the packages of the PC's own Python would come first; this also runs pywin32's own start-up line, which
# makes its DLLs known. Somewhere else than in the installed folder there is nothing to add.
_PACKAGES = Path(__file__).resolve().parent / "Lib" / "site-packages"
if _PACKAGES.is_dir():
    site.addsitedir(str(_PACKAGES))

# Only now can they be found.
import servicemanager  # noqa: E402
import win32service  # noqa: E402
import win32serviceutil  # noqa: E402
import winerror  # noqa: E402

NAME = "RECO3Agent"
REPORT_EVERY_S = 1.0
WAIT_HINT_MS = 5000
START_WITHIN_S = 60.0
STOP_WITHIN_S = 9.0
# ReportEvent takes no string of 32,000 characters.
MAX_EVENT_CHARS = 30_000
# Bit 29 marks codes of an application's own: without it the event log would explain 2 as "file not found".
OWN_CODE = 0x20000000
EXIT_STOPPED = 0
EXIT_UNUSABLE = 2
EXIT_CRASHED = 3
EXIT_SLOW_START = 4

_PENDING = (win32service.SERVICE_START_PENDING, win32service.SERVICE_STOP_PENDING)


class UnusableError(Exception):
    """The agent refused to start; the text says to the PC's administrator what to mend."""


class Progress:
    """What the service manager was told last; while something is pending it is told every second that it goes on."""

    def __init__(self, report: Callable[[int], None], when_late: Callable[[int], None]) -> None:
        self._report = report
        self._when_late = when_late
        self._lock = threading.RLock()
        self._state = win32service.SERVICE_START_PENDING
        self._deadline = 0.0
        self._is_over = threading.Event()

    def tell(self, state: int, *, within_s: float = 0.0) -> None:
        """Report a state; a pending one must be left within so long."""
        with self._lock:
            if self._is_over.is_set() or self._state == win32service.SERVICE_STOP_PENDING:
                return  # Nothing comes after it but the end.
            self._state = state
            self._deadline = time.monotonic() + within_s
            self._report(state)

    def repeat(self) -> None:
        """Report the same state again, as the service manager asks now and then."""
        with self._lock:
            if not self._is_over.is_set():
                self._report(self._state)

    def end(self) -> bool:
        """Report nothing more: what is left to say is that the service has stopped, and the first who ends says it."""
        with self._lock:
            is_first = not self._is_over.is_set()
            self._is_over.set()
            return is_first

    def keep_telling(self) -> None:
        """Repeat pending states until the end; for a thread of its own."""
        while not self._is_over.wait(REPORT_EVERY_S):
            with self._lock:
                if self._state in _PENDING and not self._is_over.is_set():
                    self._report(self._state)
                    is_late = time.monotonic() > self._deadline
                else:
                    is_late = False
            if is_late:
                self._when_late(self._state)


class Reco3AgentService(win32serviceutil.ServiceFramework):
    """The service; its methods have the names that pywin32 calls, controls on one thread and `SvcRun` on another."""

    _svc_name_ = NAME
    _svc_display_name_ = "RECO3 Agent"
    config_path = Path()

    def __init__(self, args: list[str]) -> None:
        super().__init__(args)
        self._progress = Progress(self._report, self._give_up)
        self._stop_asked = threading.Event()
        self._stop_reason = ""

    def SvcRun(self) -> None:  # noqa: N802 - pywin32's name
        """Run the agent from start to stop; pywin32 itself reports SERVICE_STOPPED once this returns."""
        self._progress.tell(win32service.SERVICE_START_PENDING, within_s=START_WITHIN_S)
        threading.Thread(target=self._progress.keep_telling, name="progress", daemon=True).start()
        threading.excepthook = self._thread_has_died
        try:
            _run_agent(self.config_path, self._wait_for_stop)
        except UnusableError as error:
            _log_error(f"{error}\n\nThe agent cannot run like this. Mend it, then: sc start {NAME}")
            self._stop_at_once(EXIT_UNUSABLE)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the service manager must hear of it
            self._fall(EXIT_CRASHED, _told_of_crash(error))
        self._progress.end()
        _log_state(servicemanager.PYS_SERVICE_STOPPED)

    def SvcStop(self) -> None:  # noqa: N802 - pywin32's name
        """Ask the agent to stop; called while `SvcRun` runs, and returns at once."""
        self._ask_to_stop("SERVICE_CONTROL_STOP")

    def SvcShutdown(self) -> None:  # noqa: N802 - pywin32's name
        """Do as for a stop: the PC is being shut down, and gives services a few seconds."""
        self._ask_to_stop("SERVICE_CONTROL_SHUTDOWN")

    def SvcInterrogate(self) -> None:  # noqa: N802 - pywin32's name
        """Tell the state once more; pywin32's own answer would be RUNNING, whatever is true."""
        self._progress.repeat()

    def _ask_to_stop(self, reason: str) -> None:
        self._progress.tell(win32service.SERVICE_STOP_PENDING, within_s=STOP_WITHIN_S)
        self._stop_reason = self._stop_reason or reason
        self._stop_asked.set()

    def _wait_for_stop(self) -> str:
        # The agent calls this when it runs.
        self._progress.tell(win32service.SERVICE_RUNNING)
        _log_state(servicemanager.PYS_SERVICE_STARTED)
        self._stop_asked.wait()
        return self._stop_reason

    def _report(self, state: int) -> None:
        self.ReportServiceStatus(state, waitHint=WAIT_HINT_MS if state in _PENDING else 0)

    def _thread_has_died(self, args: threading.ExceptHookArgs) -> None:
        # It would be an agent without ears or without a voice that calls itself running.
        self._fall(EXIT_CRASHED, _told_of_crash(args.exc_value))

    def _give_up(self, state: int) -> None:
        if state == win32service.SERVICE_START_PENDING:
            self._fall(EXIT_SLOW_START, f"The agent did not start within {START_WITHIN_S:g} s.")
        # Its journal is made for being cut off, and whoever waits for the stop must not wait for longer.
        with contextlib.suppress(win32service.error):
            servicemanager.LogWarningMsg(f"The agent did not stop within {STOP_WITHIN_S:g} s and was cut off.")
        self._stop_at_once(EXIT_STOPPED)

    def _fall(self, code: int, message: str) -> NoReturn:
        """End without a SERVICE_STOPPED: that is a failure to every service manager, and restarts the service.

        One that reports its failure is restarted only by `sc failureflag`, which takes effect with the next boot.
        """
        _log_error(message)
        if self._stop_asked.is_set():
            self._stop_at_once(EXIT_STOPPED)  # Who asked for a stop does not want a restart.
        self._progress.end()
        os._exit(code)

    def _stop_at_once(self, code: int) -> NoReturn:
        """Report SERVICE_STOPPED with a code and be gone, before pywin32 can report it once more without one."""
        is_first = self._progress.end()
        win32_code, own_code = (winerror.ERROR_SERVICE_SPECIFIC_ERROR, OWN_CODE | code) if code else (0, 0)
        if is_first:
            self.ReportServiceStatus(
                win32service.SERVICE_STOPPED, waitHint=0, win32ExitCode=win32_code, svcExitCode=own_code
            )
        os._exit(code)


def _run_agent(config_path: Path, wait_for_stop: Callable[[], str]) -> None:
    # Only now, with the service manager waiting patiently, and with an event log for what is missing.
    from reco3.agent.agent import run_service  # noqa: PLC0415 - see above
    from reco3.agent.config import ConfigError  # noqa: PLC0415 - likewise
    from reco3.agent.local_state import StartError  # noqa: PLC0415 - likewise

    try:
        run_service(config_path, wait_for_stop)
    except (ConfigError, StartError) as error:
        raise UnusableError(str(error)) from error


def _log_state(event_id: int) -> None:
    with contextlib.suppress(win32service.error):  # A full event log is no reason to fail.
        servicemanager.LogMsg(servicemanager.EVENTLOG_INFORMATION_TYPE, event_id, (NAME, ""))


def _log_error(message: str) -> None:
    with contextlib.suppress(win32service.error):
        servicemanager.LogErrorMsg(message[:MAX_EVENT_CHARS])


def _told_of_crash(error: BaseException | None) -> str:
    # Not the text of the error, which may hold what nobody knows, such as a key: the event log is read by many.
    where = "".join(traceback.format_tb(error.__traceback__)) if error is not None else ""
    what = f"{type(error).__name__}: {error}" if isinstance(error, ImportError) else type(error).__name__
    return f"The agent crashed with {what}; the service manager starts it again.\n\n{where}"


def main(argv: list[str]) -> int:
    """Hand this process over to the service manager; returns when the service has stopped.

    With `--check` it only sees, for the installer, whether everything that the service needs can be imported.
    """
    if len(argv) != 1:
        _say("usage: reco3_agent_service.py CONFIG, started by the service manager: sc start RECO3Agent")
        return EXIT_UNUSABLE
    if argv == ["--check"]:
        importlib.import_module("reco3.agent.agent")
        return EXIT_STOPPED
    Reco3AgentService.config_path = Path(argv[0])
    servicemanager.Initialize(NAME, None)
    servicemanager.PrepareToHostSingle(Reco3AgentService)
    try:
        servicemanager.StartServiceCtrlDispatcher()  # type: ignore[no-untyped-call]  # as in its stubs
    except win32service.error as error:
        if error.winerror != winerror.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT:
            raise
        _say(f"The service manager starts this: sc start {NAME}. Without it, run: reco3 agent {argv[0]}")
        return EXIT_UNUSABLE
    return EXIT_STOPPED


def _say(line: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
