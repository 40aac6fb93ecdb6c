"""Finds and kills what a run left behind: its descendants, its session, and whoever carries its mark.

It refuses to start anything, and to take a process that is only still listed for a living one.
"""

import contextlib
import os
import sys
import time

import psutil

_KILL_AGAIN_S = 0.02


def find_with_variable(name: str, value: str) -> list[int]:
    """Return the pids of living processes with an environment variable, as far as we may look into them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(name) == value and _is_alive(process):
                found.append(process.pid)
    return found


def kill(pid: int, *, within_s: float) -> None:
    """Kill a process and its tree until nothing of it is left: while one is being killed another may be born."""
    deadline = time.monotonic() + within_s
    while (doomed := _tree(pid)) and time.monotonic() < deadline:
        for process in doomed:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(_KILL_AGAIN_S)


def _tree(pid: int) -> list[psutil.Process]:
    """The process, its descendants, and what else lives in the session it was given."""
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        found = {process.pid: process for process in [root, *root.children(recursive=True)]}
    if sys.platform != "win32":
        found |= {member.pid: member for member in _session(pid)}
    return [process for process in found.values() if _is_alive(process)]


def _session(pid: int) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) == pid:
                members.append(process)
    return members


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
