"""The agent as a single file: what a PyInstaller build starts with.

Such a file unpacks itself into a folder for each run, and what unpacked it waits beside the agent until the agent ends.
This lets both end together, keeps the folder from being cleaned away under a running agent, and removes the folders of
runs that were killed. It refuses to remove a folder that is another user's, another program's or in use.
"""

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reco3 import __version__

MARK = "reco3-agent.run"
UNPACKED = "_MEI*"


def main(words: Sequence[str]) -> int:
    """Run the agent or one of its verbs; returns the exit code."""
    if list(words) in (["--version"], ["version"]):
        sys.stdout.write(f"{__version__}\n")
        return 0
    from reco3.agent.agent import main as run_agent  # noqa: PLC0415 - the version needs none of it

    unpacked = unpacked_folder()
    if unpacked is None or sys.platform == "win32":
        return run_agent(words)
    end_with(os.getppid())
    remove_abandoned(unpacked.parent)
    with held(unpacked):
        return run_agent(words)


def unpacked_folder() -> Path | None:
    """Where this run's files are; None in an ordinary Python."""
    folder: str | None = getattr(sys, "_MEIPASS", None)
    return Path(folder) if folder and getattr(sys, "frozen", False) else None


@contextlib.contextmanager
def own_libraries_hidden(set_folder: Callable[[str | None], object] | None = None) -> Iterator[None]:
    """Keep our libraries out of the way of a program that is started meanwhile.

    Only Windows hands a process's library folder on. Elsewhere it travels in variables that `runner` does not pass.
    """
    unpacked = unpacked_folder()
    set_folder = set_folder or _windows_library_folder()
    if unpacked is None or set_folder is None:
        yield
        return
    set_folder(None)
    try:
        yield
    finally:
        set_folder(str(unpacked))


def _windows_library_folder() -> Callable[[str | None], object] | None:
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415 - for Windows alone

        set_folder: Callable[[str | None], object] = ctypes.windll.kernel32.SetDllDirectoryW
        return set_folder
    return None


def end_with(pid: int) -> None:
    """Die as soon as that process has: who kills what unpacked us means us."""
    threading.Thread(target=_die_after, args=(pid,), name="unpacker", daemon=True).start()


def _die_after(pid: int) -> None:
    with contextlib.suppress(OSError):  # A system that cannot tell leaves it to its service manager.
        _wait_for_end(pid)
        os.kill(os.getpid(), signal.SIGKILL)


def _wait_for_end(pid: int) -> None:
    import select  # noqa: PLC0415 - for single files alone

    if sys.platform == "linux":
        select.select([os.pidfd_open(pid)], [], [])
    elif sys.platform == "darwin":
        event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
        select.kqueue().control([event], 1)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Mark a folder as ours and in use: systemd-tmpfiles leaves a locked one alone, and so does the next run."""
    handle = _locked(folder, is_shared=True)
    try:
        (folder / MARK).touch()
        yield
    finally:
        if handle is not None:
            os.close(handle)


def remove_abandoned(parent: Path) -> None:
    """Remove what killed runs of this user left unpacked there."""
    for folder in sorted(parent.glob(UNPACKED)):
        with contextlib.suppress(OSError):
            if _is_ours(folder) and (handle := _locked(folder, is_shared=False)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)


def _is_ours(folder: Path) -> bool:
    status = folder.lstat()
    is_own_folder = folder.is_dir() and not folder.is_symlink() and status.st_uid == _user_id()
    return is_own_folder and (folder / MARK).is_file()


def _user_id() -> int:
    return -1 if sys.platform == "win32" else os.geteuid()


def _locked(folder: Path, *, is_shared: bool) -> int | None:
    """A handle that holds the folder's lock; None when somebody else has it."""
    if sys.platform == "win32":
        return None
    import fcntl  # noqa: PLC0415 - not on Windows

    handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
