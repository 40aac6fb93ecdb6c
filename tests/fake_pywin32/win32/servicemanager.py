"""A service manager within the service's own process, for pywin32's module of that name.

As in life it calls the service's main function on a thread of its own and the control handler on the thread that
called `StartServiceCtrlDispatcher`, reports what pywin32's host reports by itself (starting, stopped, stopped by an
exception), and refuses a control that the last reported status does not accept. Controls are lines of standard input.
Source: the documentation comments of pywin32's PythonService.cpp, and learn.microsoft.com/windows/win32/services.
"""

import contextlib
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable

if "pywin32_bootstrap" not in sys.modules:
    raise ImportError("DLL load failed while importing servicemanager: The specified module could not be found.")

import win32service
import winerror
from pywintypes import error
from win32service import tell

EVENTLOG_ERROR_TYPE = 1
EVENTLOG_WARNING_TYPE = 2
EVENTLOG_INFORMATION_TYPE = 4
PYS_SERVICE_STARTED = 0x40001002
PYS_SERVICE_STOPPED = 0x40001004

_CONTROLS = {
    "STOP": (win32service.SERVICE_CONTROL_STOP, win32service.SERVICE_ACCEPT_STOP),
    "SHUTDOWN": (win32service.SERVICE_CONTROL_SHUTDOWN, win32service.SERVICE_ACCEPT_SHUTDOWN),
    "INTERROGATE": (win32service.SERVICE_CONTROL_INTERROGATE, 0),
}

_source = "Python Service"
_service: Callable[[list[str]], object] | None = None
_handler: Callable[[int, int, object], int | None] | None = None


class startup_error(Exception):  # noqa: N801 - pywin32's name
    """A class may raise it to say that the service shall not start, without an event."""


def Initialize(source: str | None = None, file: str | None = None) -> None:  # noqa: N802, ARG001 - pywin32's names
    """Name the source of the events."""
    if source:
        SetEventSourceName(source)


def SetEventSourceName(name: str, register_now: bool = False) -> None:  # noqa: N802, ARG001, FBT002 - likewise
    """Name the source of the events."""
    global _source  # noqa: PLW0603 - as global as the real one
    _source = name


def PrepareToHostSingle(klass: Callable[[list[str]], object]) -> None:  # noqa: N802 - likewise
    """Say what is to be called with the service's arguments once it starts."""
    global _service  # noqa: PLW0603 - likewise
    _service = klass


def RegisterServiceCtrlHandler(  # noqa: N802 - likewise
    name: str,  # noqa: ARG001 - the only service of its process may have any
    callback: Callable[[int, int, object], int | None],
    extra_args: bool = False,  # noqa: FBT002 - likewise
) -> int:
    """Say who takes controls; returns the handle that statuses are reported with."""
    global _handler  # noqa: PLW0603 - likewise
    assert extra_args, "this fake calls handlers with three arguments only"
    _handler = callback
    return win32service.HANDLE


def LogMsg(kind: int, event_id: int, inserts: tuple[str, ...]) -> None:  # noqa: N802 - likewise
    """Write an event with a text of pywin32's."""
    assert all(isinstance(insert, str) for insert in inserts)
    tell(event=kind, source=_source, id=event_id, text=inserts[0])


def LogErrorMsg(text: str) -> None:  # noqa: N802 - likewise
    """Write an error with a text of the service's own."""
    tell(event=EVENTLOG_ERROR_TYPE, source=_source, text=text)


def LogWarningMsg(text: str) -> None:  # noqa: N802 - likewise
    """Write a warning with a text of the service's own."""
    tell(event=EVENTLOG_WARNING_TYPE, source=_source, text=text)


def StartServiceCtrlDispatcher() -> None:  # noqa: N802 - likewise
    """Be the service manager until the service has stopped; fails at once in a process that it did not start."""
    if "FAKE_SERVICE_NAME" not in os.environ:
        number = winerror.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT
        raise error(number, "StartServiceCtrlDispatcher", "The service process could not connect to the controller.")
    threading.Thread(target=_service_main, args=([os.environ["FAKE_SERVICE_NAME"]],), daemon=True).start()
    controls: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: [controls.put(line.strip()) for line in sys.stdin], daemon=True).start()
    while not win32service.has_stopped.is_set():
        with contextlib.suppress(queue.Empty):
            _hand_over(controls.get(timeout=0.02))


def _hand_over(control: str) -> None:
    number, needed = _CONTROLS[control]
    if _handler is None or needed & ~win32service.last_status["accepts"]:
        tell(refused=control, because=winerror.ERROR_SERVICE_CANNOT_ACCEPT_CTRL)
        return
    tell(control=control)
    try:
        _handler(number, 0, None)
    except Exception:  # noqa: BLE001 - the real one writes an event and goes on
        LogErrorMsg(traceback.format_exc())
    tell(handled=control)


def _service_main(arguments: list[str]) -> None:
    assert _service is not None
    try:
        instance = _service(arguments)
    except Exception:  # noqa: BLE001 - likewise
        LogErrorMsg(traceback.format_exc())
        _report(win32service.SERVICE_STOPPED, winerror.ERROR_SERVICE_SPECIFIC_ERROR, 1)
        return
    _report(win32service.SERVICE_START_PENDING, 0, 0, wait_hint_ms=5000)
    try:
        instance.SvcRun()  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - likewise
        LogErrorMsg(traceback.format_exc())
        _report(win32service.SERVICE_STOPPED, winerror.ERROR_SERVICE_SPECIFIC_ERROR, 0x20000001)
    else:
        _report(win32service.SERVICE_STOPPED, 0, 0)


def _report(state: int, win32_exit: int, own_exit: int, *, wait_hint_ms: int = 0) -> None:
    own_process = win32service.SERVICE_WIN32_OWN_PROCESS
    win32service.SetServiceStatus(win32service.HANDLE, (own_process, state, 0, win32_exit, own_exit, 0, wait_hint_ms))
