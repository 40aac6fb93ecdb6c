"""Runs one configured argv to its end and says what came of it; the only file that starts processes.

It refuses shells, standard input, the agent's own environment, and to wait or to listen longer than it was told.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from reco3.agent import failpoints

if TYPE_CHECKING:
    import subprocess

KILL_GRACE_S = 2.0
MAX_FILE_BYTES = 8 * 1024 * 1024
_LOOK_EVERY_S = 0.5
_HEAD_START_S = 0.05
_COMMAND_ID_VARIABLE = "RECO3_COMMAND_ID"
_KEPT_VARIABLES = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"),
    *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "TEMP", "TMP", "USERNAME", "USERPROFILE"),
    *("APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES", "PROGRAMFILES(X86)", "NUMBER_OF_PROCESSORS"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """What to run; of its output the last `max_output_bytes` are kept.

    `command_id` goes into the environment of what runs, and by it `leftovers` finds what outlived a killed agent.
    `when_started` is called once it runs, and may take a moment: the process does not wait for it.
    """

    argv: tuple[str, ...]
    timeout_s: float
    max_output_bytes: int
    cwd: Path | None = None
    command_id: str = ""
    when_started: Callable[[], None] = field(default=lambda: None, compare=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    `exit_code` is None when the process could not be started (`output` says why) or was killed at its time limit; a
    negative one is the signal that ended it.
    """

    exit_code: int | None
    output: str
    was_cut: bool
    timed_out: bool
    duration_ms: int


def run(order: Run) -> Outcome:
    """Start the process and stay with it until it exits or its time is up, when it and its descendants are killed.

    What it leaves running after an exit of its own keeps running.
    """
    started_at = time.monotonic()
    with _Output.opened() as output:
        try:
            child = _start(order, output.write_fd)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return _outcome(None, (f"cannot start {order.argv[0]}: {reason}", False), started_at)
        failpoints.hit("during_act")
        # Two that start at once on a small PC slow each other down, and the process matters more.
        is_over = _wait(child, output, min(time.monotonic() + _HEAD_START_S, started_at + order.timeout_s))
        order.when_started()
        is_over = is_over or _wait(child, output, started_at + order.timeout_s)
        if not is_over:
            _kill_tree(child)
        kept = output.tail(order.max_output_bytes)
    return _outcome(child.returncode if is_over else None, kept, started_at, timed_out=not is_over)


def program_path(name: str) -> Path | None:
    """Where the program is that `run` would start under this name, executable or not; None when there is none."""
    import shutil  # noqa: PLC0415 - an agent that watches does not need it

    search_path = _environment(Run((name,), 0, 0)).get("PATH")
    found = shutil.which(name, path=search_path) or shutil.which(name, os.F_OK, search_path)
    return Path(found) if found else None


def leftovers(command_id: str) -> list[int]:
    """Return the pids of living processes that a command started, as far as the agent may look into them.

    A service that it restarted is among them when that was started directly, not by the system's service manager.
    """
    from reco3.agent import process_trees  # noqa: PLC0415 - needs psutil, which most agents never need

    return process_trees.find_with_variable(_COMMAND_ID_VARIABLE, command_id)


def _outcome(exit_code: int | None, kept: tuple[str, bool], started_at: float, *, timed_out: bool = False) -> Outcome:
    output, was_cut = kept
    return Outcome(exit_code, output, was_cut, timed_out, round((time.monotonic() - started_at) * 1000))


def _start(order: Run, write_fd: int) -> "subprocess.Popen[bytes]":
    import subprocess  # noqa: PLC0415 - most agents never run anything, and it costs them half a megabyte

    from reco3.agent.single_file import own_libraries_hidden  # noqa: PLC0415 - as above

    own_group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    with own_libraries_hidden():
        return subprocess.Popen(  # noqa: S603 - an argv of the PC's own config, never a shell
            order.argv,
            stdin=subprocess.DEVNULL,
            stdout=write_fd,
            stderr=subprocess.STDOUT,
            cwd=order.cwd,
            env=_environment(order),
            close_fds=True,
            **own_group,
        )


def _environment(order: Run) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {_COMMAND_ID_VARIABLE: order.command_id} if order.command_id else kept


def _wait(child: "subprocess.Popen[bytes]", output: "_Output", deadline: float) -> bool:
    import subprocess  # noqa: PLC0415 - as above

    while (remaining_s := deadline - time.monotonic()) > 0:
        try:
            child.wait(min(remaining_s, _LOOK_EVERY_S))
        except subprocess.TimeoutExpired:
            output.keep_small()
        else:
            return True
    return child.poll() is not None


def _kill_tree(child: "subprocess.Popen[bytes]") -> None:
    """Kill it and all that it left behind.

    The child is reaped last: until then its number cannot be given to a stranger.
    """
    import subprocess  # noqa: PLC0415 - as above

    from reco3.agent import process_trees  # noqa: PLC0415 - as above

    process_trees.kill(child.pid, within_s=KILL_GRACE_S)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(KILL_GRACE_S)


@dataclass(slots=True)
class _Output:
    """What a run prints, in a file without a name rather than in a pipe.

    A daemon that inherits it neither keeps the run waiting nor dies of a broken pipe once nobody listens.
    """

    write_fd: int
    reader: IO[bytes]
    was_dropped: bool = False

    @classmethod
    @contextlib.contextmanager
    def opened(cls) -> Iterator["_Output"]:
        import tempfile  # noqa: PLC0415 - most agents never run anything, and it costs them 0.6 MB

        # Two openings, because one would share its position: reading here would move where the process writes.
        write_fd, name = tempfile.mkstemp(prefix="reco3-")
        path = Path(name)
        os.close(write_fd)
        write_fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            with path.open("r+b", buffering=0) as reader:
                _unlink_early(path)
                yield cls(write_fd, reader)
        finally:
            os.close(write_fd)
            with contextlib.suppress(OSError):  # Windows keeps it while a daemon holds it open.
                path.unlink(missing_ok=True)

    def keep_small(self) -> None:
        """Drop output that would fill the disk; the process appends, so it goes on at the new end."""
        if self.reader.seek(0, os.SEEK_END) > MAX_FILE_BYTES:
            self.reader.truncate(0)
            self.was_dropped = True

    def tail(self, max_bytes: int) -> tuple[str, bool]:
        """The last bytes as text, and whether anything came before them."""
        start = max(0, self.reader.seek(0, os.SEEK_END) - max_bytes)
        self.reader.seek(start)
        return self.reader.read(max_bytes).decode("utf-8", "replace"), self.was_dropped or start > 0


def _unlink_early(path: Path) -> None:
    if sys.platform != "win32":
        path.unlink()
