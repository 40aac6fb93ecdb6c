"""The PC as installers see it: its files, its programs, its clock; the only installer file that starts processes.

It refuses shells, and in a dry run it refuses to change anything: it says what it would have done.
"""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from reco3.installers.programs import NO_SUCH_PROGRAM, TOOK_TOO_LONG, Call, Programs, Ran, Word, is_of_the_pc, shown
from reco3.installers.troubles import InstallError

LIMIT_S = 900
MAX_SHOWN_CHARS = 2_000
PRIVATE = 0o600
TRY_AGAIN_AFTER_S = 0.25
Owners = Callable[[Path, str], None]


def run_program(call: Call) -> Ran:
    """Run a program to its end; never through a shell."""
    try:
        done = subprocess.run(  # noqa: S603 - an argv of our own
            call.real_argv,
            input=call.stdin or "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        return Ran(NO_SUCH_PROGRAM, f"{call.argv[0]}: there is no such program")
    except subprocess.TimeoutExpired:
        return Ran(TOOK_TOO_LONG, f"{call.argv[0]}: was stopped after {LIMIT_S} s")
    return Ran(done.returncode, done.stdout + done.stderr)


def set_owner(path: Path, owner: str) -> None:
    """Give a file, or a folder with all that is in it, to a user and the group of the same name; links themselves.

    Folders are held open while their files are given away: whoever may write in them cannot lead us elsewhere.
    """
    if sys.platform == "win32":
        return  # Access lists say it there: see windows.py.
    import grp  # noqa: PLC0415 - not on Windows
    import pwd  # noqa: PLC0415 - not on Windows

    try:
        user_id = pwd.getpwnam(owner).pw_uid
        group_id = grp.getgrnam(owner).gr_gid if owner != "root" else 0
    except KeyError:
        raise InstallError("no_such_user", f"there is no user and group {owner}", "run the installer again") from None
    _give(str(path), user_id, group_id, folder=None)
    if path.is_symlink():
        return
    for _, folders, files, folder in os.fwalk(path, follow_symlinks=False):
        for name in (*folders, *files):
            _give(name, user_id, group_id, folder=folder)


def _give(name: str, user_id: int, group_id: int, *, folder: int | None) -> None:
    """Change one owner; of a file only when it is the very one that was looked at, and has no other name.

    Whoever may write in a folder could have put another name of somebody else's file there.
    """
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.chown(name, user_id, group_id, dir_fd=folder, follow_symlinks=False)
        return
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        if os.fstat(descriptor).st_nlink > 1:
            raise InstallError(
                "several_names", f"{name} has several names (hard links), so it is given to nobody", f"remove {name}"
            )
        os.fchown(descriptor, user_id, group_id)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Host:
    """The PC; with a `root` other than None its files are those below it, for tests.

    A pure path is a file of the PC, a real `Path` one of the source tree.
    """

    say: Callable[[str], None]
    root: Path | None = None
    is_dry: bool = False
    programs: Programs = run_program
    owners: Owners = set_owner
    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    # On Windows what a process had open, or a virus scanner has, can be moved and removed only a little later.
    patience_s: float = 10.0 if sys.platform == "win32" else 0.0

    def real(self, path: PurePath) -> Path:
        """Where a file of the PC is for us."""
        if self.root is None or not is_of_the_pc(path):
            return Path(path)
        return self.root.joinpath(*path.parts[1:] if path.anchor else path.parts)

    def exists(self, path: PurePath) -> bool:
        """Whether there is anything of that name, a broken link too."""
        return os.path.lexists(self.real(path))

    def text(self, path: PurePath) -> str | None:
        """What is in a file, with the line ends it has; None when there is none."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return self.real(path).read_bytes().decode("utf-8", "replace")
        return None

    def names(self, folder: PurePath) -> list[str]:
        """What is in a folder; nothing when there is none."""
        real = self.real(folder)
        return sorted(each.name for each in real.iterdir()) if real.is_dir() else []

    def ask(self, argv: Sequence[Word]) -> Ran:
        """Run a program that changes nothing, in a dry run too."""
        return self.programs(self._call(argv, None))

    def run(self, argv: Sequence[Word], *, stdin: str | None = None) -> Ran:
        """Run a program; a dry run says so, and that it worked."""
        call = self._call(argv, stdin)
        if self._would(f"run {shown(call)}"):
            return Ran(0)
        return self.programs(call)

    def must(self, argv: Sequence[Word], *, code: str, to_do: str, stdin: str | None = None) -> str:
        """Run a program that has to work; returns what it printed. Raises: InstallError."""
        ran = self.run(argv, stdin=stdin)
        if ran.is_ok:
            return ran.output
        words = shown(self._call(argv, stdin))
        output = ran.output.strip()[-MAX_SHOWN_CHARS:]
        if stdin and stdin.strip():
            output = output.replace(stdin.strip(), "***")
        raise InstallError(code, f"{words} ended with {ran.exit_code}:\n{output}", to_do)

    def make_folder(self, path: PurePath, mode: int = 0o755) -> None:
        """Make a folder and those above it, unless it is there; its mode is set in any case."""
        if self._would(f"make the folder {path} (mode {mode:04o})"):
            return
        real = self.real(path)
        real.mkdir(parents=True, exist_ok=True)
        real.chmod(mode)

    def write(self, path: PurePath, text: str, mode: int = 0o644) -> None:
        """Write a file, whole or not at all; nobody else can read it before it has its mode."""
        if self._would(f"write {path} (mode {mode:04o})"):
            return
        real = self.real(path)
        unfinished = real.with_name(f"{real.name}.tmp")
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
            if sys.platform != "win32":
                os.fchmod(file.fileno(), mode)
        unfinished.replace(real)

    def rename(self, source: PurePath, target: PurePath) -> None:
        """Give a file or a folder another name; a file takes the place of the one that is there."""
        if not self._would(f"rename {source} to {target}"):
            self._patiently(lambda: self.real(source).replace(self.real(target)))

    def remove(self, path: PurePath) -> None:
        """Remove a file, or a folder with all that is in it, unless it is gone; a link's target stays."""
        if not self.exists(path) or self._would(f"remove {path}"):
            return
        real = self.real(path)
        if real.is_dir() and not real.is_symlink():
            self._patiently(lambda: shutil.rmtree(real))
        else:
            self._patiently(real.unlink)

    def remove_if_empty(self, folder: PurePath) -> None:
        """Remove a folder that holds nothing."""
        real = self.real(folder)
        if real.is_dir() and not any(real.iterdir()) and not self._would(f"remove {folder}"):
            real.rmdir()

    def copy_tree(self, source: Path, target: PurePath) -> None:
        """Copy a folder of the source tree, without what Python compiled in it."""
        if not self._would(f"copy {source} to {target}"):
            shutil.copytree(
                source, self.real(target), ignore=shutil.ignore_patterns("__pycache__"), copy_function=_copy_readable
            )

    def copy(self, source: Path, target: PurePath) -> None:
        """Copy a file of the source tree, for everybody to read."""
        if not self._would(f"copy {source} to {target}"):
            _copy_readable(str(source), str(self.real(target)))

    def give(self, path: PurePath, owner: str, *, mode: int | None = None) -> None:
        """Give a file or a folder, with all that is in it, to a user and the group of the same name; not through links.

        The mode is that of `path` itself. Where access lists say it, do not call this.
        """
        if not self.exists(path) or self._would(f"give {path} to {owner}"):
            return
        real = self.real(path)
        if mode is not None and not real.is_symlink():
            real.chmod(mode)
        self.owners(real, owner)

    def _patiently(self, act: Callable[[], object]) -> None:
        deadline = self.now_s() + self.patience_s
        while True:
            try:
                act()
            except PermissionError:
                if self.now_s() >= deadline:
                    raise
                self.sleep(TRY_AGAIN_AFTER_S)
            else:
                return

    def _call(self, argv: Sequence[Word], stdin: str | None) -> Call:
        real_argv = tuple(str(self.real(word)) if isinstance(word, PurePath) else word for word in argv)
        return Call(tuple(map(str, argv)), real_argv, stdin)

    def _would(self, change: str) -> bool:
        if self.is_dry:
            self.say(f"      would {change}")
        return self.is_dry


def _copy_readable(source: str, target: str) -> str:
    shutil.copyfile(source, target)
    Path(target).chmod(0o644)
    return target
