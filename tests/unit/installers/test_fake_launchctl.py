"""What our launchd does to the programs that an agent leaves behind, so that the property list's word on it counts."""

import contextlib
import os
import plistlib
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from fake_pc import REPOSITORY

import fake_launchctl
from reco3.installers import macos

# A job that starts a program in its own process group, says which, and ends.
JOB = "import subprocess,sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); sys.exit(3)"


@pytest.mark.parametrize("is_abandoned", [True, False])
def test_programs_survive_their_agent_because_the_group_is_abandoned(tmp_path: Path, is_abandoned: bool) -> None:
    installed = plistlib.loads((REPOSITORY / macos.PLIST_SOURCE).read_bytes())
    assert installed["AbandonProcessGroup"] is True
    log = tmp_path / "launchd.log"
    job = installed | {
        "ProgramArguments": [sys.executable, "-I", "-c", JOB],
        "WorkingDirectory": str(tmp_path),
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
        "AbandonProcessGroup": is_abandoned,
    }
    umask = os.umask(0o022)

    try:
        fake_launchctl.keep(tmp_path / "job", job)
    finally:
        os.umask(umask)

    assert (tmp_path / "job").read_text() == "3"
    left = int(log.read_text())
    try:
        assert ends_within_s(left, 0.5 if is_abandoned else 10) != is_abandoned
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)


def ends_within_s(pid: int, limit_s: float) -> bool:
    """Whether a process that is not our child ends in time; a zombie that nobody fetched has ended."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
    return False
