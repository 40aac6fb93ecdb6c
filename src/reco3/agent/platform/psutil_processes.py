"""What psutil tells of one process, for systems that have no quicker way.

It knows no system by name; a process that is gone or denies access is told as nothing, never as an error.
"""

import psutil


def read_status(pid: int) -> str:
    """Return psutil's word for what a process does now, or an empty string when it has gone."""
    try:
        return str(psutil.Process(pid).status())
    except psutil.Error:
        return ""


def read_process(pid: int) -> tuple[str, float] | None:
    """Return the name and the start of one process, or None when it has gone or denies access."""
    try:
        process = psutil.Process(pid)
        return process.name(), process.create_time()
    except psutil.Error:
        return None


def moment() -> float | None:
    """Return None: starts are told by the clock of the day, which may be set back."""
    return None


def read_command_line(pid: int) -> list[str]:
    """Return a process's arguments, empty when it has gone or denies access."""
    try:
        return psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return []


def list_children(parent: int) -> list[tuple[int, float]]:
    """Return the pid and start of every living child of a process."""
    try:
        children = psutil.Process(parent).children()
        return [(child.pid, child.create_time()) for child in children]
    except psutil.Error:
        return []


def created_at_ms(started: float) -> int:
    """Return the Unix time in milliseconds of a start that `list_processes` told."""
    return round(started * 1000)
