"""The program `launchctl` for a PATH in tests: a fake launchd whose jobs are real processes.

`FAKE_LAUNCHD` names the folder that it keeps its state in. It looks after its jobs when it is called, and so starts
one that ended again at the next call only.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from fake_launchd import FakeLaunchd, load
from fake_launchd_words import Job

LOOK_EVERY_S = 0.05
# A keeper that held the streams of `launchctl` would keep whoever reads them waiting.
_NO_STREAMS = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class RealJobs:
    """Processes of jobs: each has a keeper, which leaves the exit code in a file."""

    def __init__(self, folder: Path, launchd: FakeLaunchd) -> None:
        self._folder = folder
        self._launchd = launchd
        launchd.start, launchd.stop, launchd.signal = self.start, self.stop, self.signal
        launchd.refresh = self.refresh

    def start(self, label: str, job: Job) -> int:
        """Start it as its property list says; returns its pid."""
        plist = self._launchd.plist_of(label)
        result = self._result(label, job)
        keeper = [sys.executable, __file__, "--keep", str(result), json.dumps(plist)]
        subprocess.Popen(keeper, start_new_session=True, **_NO_STREAMS)
        started = _pid_file(result)
        while not started.exists():
            time.sleep(LOOK_EVERY_S)
        return int(started.read_text())

    def stop(self, label: str, job: Job) -> int:
        """SIGTERM, and after ExitTimeOut SIGKILL; returns the exit code."""
        self.signal(label, job)
        deadline = time.monotonic() + self._launchd.plist_of(label).get("ExitTimeOut", 20)
        while (code := self._exit_code(label, job)) is None:
            if time.monotonic() > deadline:
                os.kill(job.pid, signal.SIGKILL)
            time.sleep(LOOK_EVERY_S)
        return code

    def signal(self, _label: str, job: Job) -> None:
        """SIGTERM alone: booting out does not wait."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.pid, signal.SIGTERM)

    def refresh(self, label: str, job: Job) -> None:
        """See what became of it."""
        code = self._exit_code(label, job) if job.pid else None
        if job.looks_left is not None:
            job.looks_left = 1 if code is None else 0
        elif code is not None:
            self._launchd.ended(label, code)

    def _exit_code(self, label: str, job: Job) -> int | None:
        with contextlib.suppress(FileNotFoundError):
            return int(self._result(label, job).read_text())
        return None

    def _result(self, label: str, job: Job) -> Path:
        return self._folder / f"{label}.{job.loaded_at}.{job.runs}"


def keep(result: Path, plist: dict[str, object]) -> int:
    """Run one job to its end, in a process group of its own, which dies with it unless it is abandoned."""
    os.umask(int(str(plist["Umask"])))
    with Path(str(plist["StandardOutPath"])).open("ab") as out, Path(str(plist["StandardErrorPath"])).open("ab") as err:
        process = subprocess.Popen(
            [str(word) for word in plist["ProgramArguments"]],  # type: ignore[attr-defined]
            cwd=str(plist["WorkingDirectory"]),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "XPC_SERVICE_NAME": str(plist["Label"])},
            process_group=0,
        )
    _leave(_pid_file(result), str(process.pid))
    code = process.wait()
    if not plist.get("AbandonProcessGroup"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    _leave(result, str(code))
    return 0


def _pid_file(result: Path) -> Path:
    return result.with_name(f"{result.name}.pid")


def _leave(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text(text)
    unfinished.replace(path)


def main(words: list[str]) -> int:
    """Do what launchctl does; returns its exit code."""
    folder = Path(os.environ["FAKE_LAUNCHD"])
    state = folder / "state.json"
    launchd = load(state, Path("/"))
    RealJobs(folder, launchd)
    code, output = launchd.call(words)
    _leave(state, json.dumps(launchd.state()))
    if output:
        (sys.stdout if code == 0 else sys.stderr).write(f"{output}\n")
    return code


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[2]), json.loads(sys.argv[3])) if sys.argv[1] == "--keep" else main(sys.argv[1:]))
