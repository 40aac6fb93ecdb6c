"""A Debian whose systemd is booted in a container of our own: made by debootstrap, started by systemd-nspawn."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("systemd-nspawn", "debootstrap", "nsenter")
NEEDED = f"root and {', '.join(TOOLS)} are needed (apt-get install systemd-container debootstrap util-linux)"
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3"
BOOTED_WITHIN_S = 60.0


class Container:
    """One booted Debian with a network of its own; the working copy and our libraries are mounted read-only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init_pid = 0

    def boot(self, log: Path) -> None:
        libraries = next(path for path in sys.path if path.endswith("site-packages"))
        argv = [
            *("systemd-nspawn", f"--directory={self.root}", "--boot", "--register=no", "--keep-unit"),
            *("--private-network", "--volatile=overlay", f"--machine=reco3-soak-{os.getpid()}"),
            *(f"--bind-ro={ROOT}:/mnt/reco3", f"--bind-ro={libraries}:/mnt/libraries"),
        ]
        with log.open("wb") as output:
            self._nspawn = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + BOOTED_WITHIN_S
        while not self._is_up():
            assert self._nspawn.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.3)

    def call(self, argv: Sequence[str], *, timeout_s: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run an argv within, as a process of the container's own."""
        enter = ["nsenter", f"--target={self._init_pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        return subprocess.run([*enter, *argv], capture_output=True, text=True, timeout=timeout_s, check=False)

    def stop(self) -> None:
        if self._nspawn is not None:
            self._nspawn.terminate()
            try:
                self._nspawn.wait(20)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()

    def _is_up(self) -> bool:
        if not self._init_pid:
            assert self._nspawn is not None
            children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
            if not children:
                return False
            self._init_pid = int(children[0])
        return self.call(["systemctl", "is-system-running"]).stdout.strip() in {"running", "degraded"}


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Container]:
    """A container that is up; the Debian in it is made once and kept in `RECO3_SOAK_DEBIAN`, if that is set."""
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in TOOLS):
        if os.environ.get("CI"):
            pytest.fail(NEEDED)
        pytest.skip(NEEDED)
    root = Path(os.environ.get("RECO3_SOAK_DEBIAN") or folder / "debian")
    if not (root / "usr/bin/python3").exists():
        argv = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)]
        made = subprocess.run(argv, capture_output=True, text=True, timeout=1_800, check=False)
        assert made.returncode == 0, made.stdout[-2_000:] + made.stderr[-2_000:]
    container = Container(root)
    try:
        container.boot(folder / "boot.log")
        yield container
    finally:
        container.stop()
