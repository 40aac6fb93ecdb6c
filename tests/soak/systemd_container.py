"""A Debian whose systemd is booted in a container of our own: made by debootstrap, started by systemd-nspawn."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("systemd-nspawn", "debootstrap", "nsenter")
NEEDED = f"root and {', '.join(TOOLS)} are needed (apt-get install systemd-container debootstrap util-linux)"
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv"
BOOTED_WITHIN_S = 60.0


class Container:
    """One booted Debian with a network of its own; the working copy and our libraries are mounted read-only.

    What it writes is forgotten with its next boot, unless `is_kept`.
    """

    def __init__(self, root: Path, *, is_kept: bool = False, mounts: Sequence[str] = ()) -> None:
        self.root = root
        self._options = [*([] if is_kept else ["--volatile=overlay"]), *(f"--bind-ro={mount}" for mount in mounts)]
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init_pid = 0

    def boot(self, log: Path) -> None:
        libraries = Path(psutil.__file__).parents[1]
        argv = [
            *("systemd-nspawn", f"--directory={self.root}", "--boot", "--register=no", "--keep-unit"),
            *("--private-network", f"--machine=reco3-soak-{os.getpid()}", *self._options),
            *(f"--bind-ro={ROOT}:/mnt/reco3", f"--bind-ro={libraries}:/mnt/libraries"),
        ]
        with log.open("wb") as output:
            self._nspawn = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        self._wait_until_up(log)

    def reboot(self, log: Path) -> None:
        """Let its systemd reboot it, as a person would."""
        assert self._nspawn is not None
        before, self._init_pid = self._init_pid, 0
        self.call(["systemctl", "reboot"], init_pid=before)
        deadline = time.monotonic() + BOOTED_WITHIN_S
        while self._nspawn.poll() is None and self._first_child() in {0, before}:
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.3)
        if self._nspawn.poll() is None:
            self._wait_until_up(log)
        else:
            # Where /run is no tmpfs, nspawn gives up between shutting down and booting, and we do the latter.
            self.boot(log)

    def call(
        self, argv: Sequence[str], *, timeout_s: float = 60, init_pid: int | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run an argv within, as a process of the container's own."""
        enter = [
            "nsenter",
            f"--target={init_pid or self._init_pid}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
        ]
        return subprocess.run([*enter, *argv], capture_output=True, text=True, timeout=timeout_s, check=False)

    def stop(self) -> None:
        if self._nspawn is not None:
            self._nspawn.terminate()
            try:
                self._nspawn.wait(20)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()

    def _wait_until_up(self, log: Path) -> None:
        assert self._nspawn is not None
        deadline = time.monotonic() + BOOTED_WITHIN_S
        while not self._is_up():
            assert self._nspawn.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.3)

    def _first_child(self) -> int:
        assert self._nspawn is not None
        try:
            children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    def _is_up(self) -> bool:
        self._init_pid = self._init_pid or self._first_child()
        return self._init_pid != 0 and self.call(["systemctl", "is-system-running"]).stdout.strip() in {
            "running",
            "degraded",
        }


@contextlib.contextmanager
def booted(folder: Path, *, is_kept: bool = False, mounts: Sequence[str] = ()) -> Iterator[Container]:
    """A container that is up; the Debian in it is made once and kept in `RECO3_SOAK_DEBIAN`, if that is set.

    With `is_kept` what is written survives a reboot, and is forgotten in the end.
    """
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in TOOLS):
        if os.environ.get("CI"):
            pytest.fail(NEEDED)
        pytest.skip(NEEDED)
    root = Path(os.environ.get("RECO3_SOAK_DEBIAN") or folder / "debian")
    if not (root / "usr/share/doc/python3-venv").exists():
        argv = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)]
        made = subprocess.run(argv, capture_output=True, text=True, timeout=1_800, check=False)
        assert made.returncode == 0, made.stdout[-2_000:] + made.stderr[-2_000:]
    with _layered(root, folder) if is_kept else contextlib.nullcontext(root) as used:
        container = Container(used, is_kept=is_kept, mounts=mounts)
        try:
            container.boot(folder / "boot.log")
            yield container
        finally:
            container.stop()


@contextlib.contextmanager
def _layered(root: Path, folder: Path) -> Iterator[Path]:
    """A folder that looks like `root` and can be written, which changes nothing there."""
    layers = folder / "layers"
    layers.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", layers], check=True)
    try:
        upper, work, merged = (layers / name for name in ("upper", "work", "merged"))
        for each in (upper, work, merged):
            each.mkdir()
        options = f"lowerdir={root},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
        try:
            yield merged
        finally:
            subprocess.run(["umount", merged], check=True)
    finally:
        subprocess.run(["umount", layers], check=True)
