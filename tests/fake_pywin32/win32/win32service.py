"""The part of pywin32's win32service that a running service uses; every status it reports becomes a line of JSON.

Source: SERVICE_STATUS and SetServiceStatus at learn.microsoft.com/windows/win32/api/winsvc.
"""

import json
import sys
import threading
import time
from collections.abc import Sequence

from pywintypes import error as error  # noqa: PLC0414 - pywin32 has it under this name too

SERVICE_WIN32_OWN_PROCESS = 0x10

SERVICE_STOPPED = 1
SERVICE_START_PENDING = 2
SERVICE_STOP_PENDING = 3
SERVICE_RUNNING = 4

SERVICE_ACCEPT_STOP = 0x1
SERVICE_ACCEPT_PAUSE_CONTINUE = 0x2
SERVICE_ACCEPT_SHUTDOWN = 0x4

SERVICE_CONTROL_STOP = 1
SERVICE_CONTROL_PAUSE = 2
SERVICE_CONTROL_CONTINUE = 3
SERVICE_CONTROL_INTERROGATE = 4
SERVICE_CONTROL_SHUTDOWN = 5

HANDLE = 4711
FIELDS = ("type", "state", "accepts", "win32_exit", "own_exit", "checkpoint", "wait_hint_ms")

last_status = dict.fromkeys(FIELDS, 0)
has_stopped = threading.Event()
_lock = threading.Lock()


def SetServiceStatus(handle: int, status: Sequence[int]) -> None:  # noqa: N802 - pywin32's name
    """Take a status as the service manager would; seven numbers, from a handle that was registered."""
    if handle != HANDLE:
        raise error(6, "SetServiceStatus", "The handle is invalid.")
    if len(status) != len(FIELDS) or not all(isinstance(number, int) for number in status):
        raise TypeError("SERVICE_STATUS must be seven integers")
    with _lock:
        last_status.update(zip(FIELDS, status, strict=True))
        tell(**last_status)
    if last_status["state"] == SERVICE_STOPPED:
        has_stopped.set()


def tell(**record: object) -> None:
    """Let the test read what happened, and when."""
    sys.__stdout__.write(json.dumps({"at": time.monotonic()} | record) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]
