"""The macOS installer with its real payload, and killed for real at each of its steps; launchd is played.

RECO3_SOAK=1 runs it (some minutes); it needs mount namespaces and, for the payload, the package index.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mac_root import REPOSITORY, MacRoot, need_mount_namespaces

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.environ.get("RECO3_SOAK") != "1", reason="make soak runs it"),
]

WORDS = ("devkey", "http://127.0.0.1:9", "pc-001")
STEPS = 14


@pytest.fixture
def mac(tmp_path: Path) -> Iterator[MacRoot]:
    need_mount_namespaces()
    mac = MacRoot(tmp_path)
    yield mac
    mac.stop_all()


@pytest.fixture
def whole_mac(tmp_path: Path) -> Iterator[MacRoot]:
    need_mount_namespaces()
    mac = MacRoot(tmp_path, is_pip_played=False)
    yield mac
    mac.stop_all()


def installed(mac: MacRoot) -> dict[str, str]:
    """What is installed, but for what the agent itself writes."""
    return {name: text for name, text in mac.files().items() if not name.startswith("opt/reco3-agent/state/")}


def test_the_real_packages_are_installed_and_run(whole_mac: MacRoot) -> None:
    before = whole_mac.files()

    done = whole_mac.script("install_launchd.sh", *WORDS)

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(whole_mac.processes()) == 1
    packages = {path.name for path in (whole_mac.root / "opt/reco3-agent/app/lib").glob("*/site-packages/*")}
    assert {"psutil", "yaml", "cryptography", "reco3", "pip"} <= packages
    assert whole_mac.script("uninstall_launchd.sh").returncode == 0
    assert whole_mac.files() == before
    assert whole_mac.processes() == []


def test_killed_within_each_step_the_next_run_ends_the_same(mac: MacRoot) -> None:
    before = mac.files()
    assert mac.script("install_launchd.sh", *WORDS).returncode == 0
    expected = installed(mac)
    assert mac.script("uninstall_launchd.sh").returncode == 0

    for step in range(1, STEPS + 1):
        kill_in_step(mac, step)
        done = mac.script("install_launchd.sh", *WORDS)
        assert done.returncode == 0, (step, done.stdout + done.stderr)
        assert installed(mac) == expected, step
        assert len(mac.processes()) == 1, step
        kill_in_step(mac, step)
        done = mac.script("uninstall_launchd.sh")
        assert done.returncode == 0, (step, done.stdout + done.stderr)
        assert mac.files() == before, step
        assert mac.processes() == [], step


def kill_in_step(mac: MacRoot, step: int) -> None:
    """Start an installation, and kill all of it once it says that it has come to a step."""
    process = subprocess.Popen(
        mac.argv(["sh", str(REPOSITORY / "agent/macos/install_launchd.sh"), *WORDS]),
        env=mac.environment(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process:
        reached = any(line.startswith(f"[{step}/{STEPS}]") for line in process.stdout)
        os.killpg(process.pid, signal.SIGKILL)
    assert reached, step
    assert process.returncode == -signal.SIGKILL
