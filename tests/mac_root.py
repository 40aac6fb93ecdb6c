"""A Mac's file system on Linux: a root of its own, by a mount namespace, in which /opt, /Library and /var/log are new.

Files, owners, modes and processes are real; programs that only macOS has are played (`fake_launchctl` and a few lines
of sh). What is mounted there is nowhere else, and gone with the last process in it.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

TESTS = Path(__file__).parent
REPOSITORY = TESTS.parent
_OWN = ("opt", "Library", "var", "lost+found", "boot", "media", "mnt")
_ENTER = r"""
set -eu
root=$1; shift
for entry in /*; do
    name=${entry#/}
    case " $OWN " in *" $name "*) continue ;; esac
    if [ -L "$entry" ]; then [ -L "$root/$name" ] || cp -P "$entry" "$root/$name"
    elif [ -d "$entry" ]; then mkdir -p "$root/$name"; mount --rbind "$entry" "$root/$name"
    fi
done
[ -z "$HIDE" ] || [ ! -d "/$HIDE" ] || mount --bind "$root/var/empty" "$root/$HIDE"
exec chroot "$root" "$@"
"""
_PLAYED = {
    "sw_vers": "echo 'ProductName: macOS'",
    "dscl": 'echo "$*" >>"$FAKE_LAUNCHD/dscl.calls"; exit 56',
    "chgrp": 'echo "$*" >>"$FAKE_LAUNCHD/chgrp.calls"',
}


class MacRoot:
    """The file system in a folder; `run` runs a program in it."""

    def __init__(self, folder: Path, *, is_pip_played: bool = True) -> None:
        self.root, self._bin, self.launchd = folder / "root", folder / "bin", folder / "launchd"
        self.python = str(self._bin / "python3.14")
        self.hidden = ""
        for path in ("Library/LaunchDaemons", "opt", "var/log", "var/tmp", "var/empty"):
            (self.root / path).mkdir(parents=True)
        self._bin.mkdir()
        self.launchd.mkdir()
        for name, line in _PLAYED.items():
            self.play(name, line)
        self.play("launchctl", f'exec "{sys.executable}" "{TESTS}/fake_launchctl.py" "$@"')
        engine = (
            f'case ${{2:-}} in */install.py) shift 2; exec "{sys.executable}" "{TESTS}/mac_engine.py" "$@" ;; esac\n'
        )
        self.play("python3.14", (engine if is_pip_played else "") + f'exec "{sys.executable}" "$@"')

    def play(self, name: str, line: str) -> None:
        """Let a program of the PATH be this line of sh."""
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def argv(self, words: Sequence[str]) -> list[str]:
        """The argv that runs a program in it."""
        as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        enter = ["unshare", *as_root, "--mount", "--propagation", "private", "sh", "-c", _ENTER, "sh", str(self.root)]
        return [*enter, *words]

    def environment(self) -> dict[str, str]:
        """What programs in it see."""
        path = f"{self._bin}:/usr/bin:/bin:/usr/sbin:/sbin"
        own = {"PATH": path, "HOME": "/var/empty", "OWN": " ".join(_OWN), "HIDE": self.hidden}
        return own | {"FAKE_LAUNCHD": str(self.launchd), "RECO3_PYTHON": self.python}

    def run(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a program in it to its end."""
        return subprocess.run(
            self.argv(words),
            env=self.environment(),
            cwd="/",
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def script(self, name: str, *words: str, shell: str = "sh", stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run one of the scripts."""
        return self.run(shell, str(REPOSITORY / "agent/macos" / name), *words, stdin=stdin)

    def files(self) -> dict[str, str]:
        """Mode and owner of all that an installer may make, but for what is in the application."""
        listing = {}
        for top in ("opt", "Library", "var"):
            for path in sorted((self.root / top).rglob("*")):
                name = str(path.relative_to(self.root))
                about = path.lstat()
                if "/app/" not in name:
                    owner = "root" if about.st_uid == os.geteuid() else str(about.st_uid)
                    listing[name] = f"{stat.S_IMODE(about.st_mode):04o} {owner}"
        return listing

    def lines(self, name: str) -> list[str]:
        """What a played program was called with."""
        path = self.launchd / f"{name}.calls"
        return path.read_text().splitlines() if path.exists() else []

    def processes(self) -> list[int]:
        """The agents that run in it."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if (
                words[-1:] == ["/opt/reco3-agent/config.yaml"]
                and Path(f"/proc/{process.pid}/root").readlink() == self.root
            ):
                found.append(process.pid)
        return found

    def stop_all(self) -> None:
        """Leave nothing running."""
        if (self.launchd / "state.json").exists():
            self.run("launchctl", "bootout", "system/com.reco3.agent")
        for pid in self.processes():
            psutil.Process(pid).kill()


def need_mount_namespaces() -> None:
    """Skip where there are none; in CI that is a failure."""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    argv = ["unshare", *as_root, "--mount", "--propagation", "private", "true"]
    if shutil.which("unshare") and subprocess.run(argv, capture_output=True, check=False).returncode == 0:
        return
    if os.environ.get("CI"):
        pytest.fail("mount namespaces are missing: unshare (util-linux), as root or with user namespaces")
    pytest.skip("mount namespaces are missing: unshare (util-linux), as root or with user namespaces")
