import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reco3.agent.log_lines import extract_entry
from reco3.agent.metrics import find_processes
from reco3.demo import service

DEADLINE_S = 20


@dataclass
class Demo:
    folder: Path

    def do(self, action: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            service.command(action, str(self.folder)), capture_output=True, text=True, check=False, timeout=30
        )

    def pid(self) -> int:
        return int((self.folder / "reco3-demo.pid").read_text())

    def log(self) -> str:
        """What it has logged: nothing at first, as `start` answers before the service has opened its file."""
        path = self.folder / "reco3-demo.log"
        return path.read_text() if path.exists() else ""

    def starts(self) -> list[tuple[int, int]]:
        return self._numbers("starts.log")

    def restarts(self) -> list[tuple[int, int]]:
        return self._numbers("restarts.log")

    def _numbers(self, name: str) -> list[tuple[int, int]]:
        pairs = [line.split() for line in (self.folder / name).read_text().splitlines()]
        return [(int(pid), int(at_ns)) for pid, at_ns in pairs]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path / "demo")
    yield demo
    demo.do("stop")


def _wait_for(what: Callable[[], bool]) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < until_s, "it did not happen in time"
        os.sched_yield()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_started_service_runs_under_its_own_name(demo: Demo) -> None:
    answer = demo.do("start")
    _wait_for(lambda: "started" in demo.log())

    assert answer.stdout == f"started reco3-demo: pid {demo.pid()}\n"
    assert [pid for pid, _ in demo.starts()] == [demo.pid()]
    assert demo.pid() in [one.pid for one in find_processes(["reco3-demo"])["reco3-demo"]]


def test_a_restart_ends_the_old_process_and_starts_a_new_one(demo: Demo) -> None:
    demo.do("start")
    old = demo.pid()

    answer = demo.do("restart")

    new = demo.pid()
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == f"restarted reco3-demo: pid {old} -> {new}\n"
    assert old != new
    assert not _is_alive(old)
    assert _is_alive(new)
    assert [pid for pid, _ in demo.starts()] == [old, new]
    assert len(demo.restarts()) == 1


def test_a_new_service_starts_quickly_after_the_restart_was_asked_for(demo: Demo) -> None:
    demo.do("start")
    for _ in range(10):
        demo.do("restart")

    asked = [at_ns for _, at_ns in demo.restarts()]
    began = [at_ns for _, at_ns in demo.starts()[1:]]
    took_ms = [(start - ask) / 1e6 for ask, start in zip(asked, began, strict=True)]

    assert min(took_ms) < max(300, 10 * _bare_start_ms())


def _bare_start_ms() -> float:
    """How long an interpreter that does nothing takes here and now: on a busy machine everything takes longer."""
    took_ms = []
    for _ in range(10):
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-S", "-E", "-c", "pass"], check=True)
        took_ms.append((time.perf_counter() - began_s) * 1000)
    return statistics.median(took_ms)


def test_a_restart_starts_what_did_not_run(demo: Demo) -> None:
    answer = demo.do("restart")

    assert answer.stdout == f"restarted reco3-demo: pid none -> {demo.pid()}\n"


def test_the_restarter_leaves_no_pipe_open(demo: Demo) -> None:
    demo.do("restart")  # `run` returned at the end of both pipes, though the service lives on.

    targets = {str(Path(f"/proc/{demo.pid()}/fd/{n}").readlink()) for n in (0, 1, 2)}

    assert targets == {"/dev/null"}
    assert os.getsid(demo.pid()) == demo.pid()


def test_it_stops_at_once_when_told(demo: Demo) -> None:
    demo.do("start")
    pid = demo.pid()
    _wait_for(lambda: "served" in demo.log())

    began_s = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    _wait_for(lambda: not _is_alive(pid))

    assert time.monotonic() - began_s < 5
    assert f"INFO reco3-demo stopped, pid {pid}" in demo.log()


def test_stop_and_status_tell_what_is_so(demo: Demo) -> None:
    before = demo.do("status")
    demo.do("start")
    pid = demo.pid()
    running = demo.do("status")
    again = demo.do("start")
    stopped = demo.do("stop")
    after = demo.do("stop")

    assert (before.returncode, before.stdout) == (3, "reco3-demo is not running\n")
    assert (running.returncode, running.stdout) == (0, f"reco3-demo is running: pid {pid}\n")
    assert again.stdout == f"reco3-demo is already running: pid {pid}\n"
    assert stopped.stdout == f"stopped reco3-demo: pid {pid}\n"
    assert after.stdout == "reco3-demo is not running\n"


def test_another_process_under_the_old_pid_is_left_alone(demo: Demo) -> None:
    demo.do("start")
    demo.do("stop")
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()", "run", "--dir", str(demo.folder)]
    )
    (demo.folder / "reco3-demo.pid").write_text(f"{stranger.pid}\n")

    answer = demo.do("restart")
    is_stranger_alive = stranger.poll() is None
    stranger.kill()
    stranger.wait()

    assert answer.stdout.startswith("restarted reco3-demo: pid none -> ")
    assert is_stranger_alive


def test_the_service_of_another_folder_is_left_alone(demo: Demo, tmp_path: Path) -> None:
    other = Demo(tmp_path / "other")
    other.do("start")
    demo.do("start")
    demo.do("stop")
    (demo.folder / "reco3-demo.pid").write_text(f"{other.pid()}\n")

    answer = demo.do("stop")
    is_other_alive = _is_alive(other.pid())
    other.do("stop")

    assert answer.stdout == "reco3-demo is not running\n"
    assert is_other_alive


def test_a_killed_service_is_not_taken_for_a_running_one(demo: Demo) -> None:
    demo.do("start")
    pid = demo.pid()
    os.kill(pid, signal.SIGKILL)
    _wait_for(lambda: not _is_alive(pid))

    assert demo.do("status").returncode == 3
    assert demo.do("start").stdout.startswith("started reco3-demo")


def test_two_services_in_one_folder_are_refused(demo: Demo) -> None:
    demo.do("start")

    second = demo.do("run")

    assert (second.returncode, second.stderr) == (1, f"reco3-demo is already running in {demo.folder}\n")


def test_a_failure_that_a_person_asks_for_is_an_error_line(demo: Demo) -> None:
    demo.do("fail")

    entry = extract_entry(demo.log().splitlines()[-1].encode(), now=datetime.now(UTC))

    assert entry is not None
    assert (entry.level, entry.code) == ("ERROR", "DEMO_FAILURE")


def test_it_obeys_the_rate_limit_it_finds_and_says_when_it_changes(demo: Demo) -> None:
    demo.folder.mkdir()
    (demo.folder / "rate-limit.json").write_text(json.dumps({"/api": 4}))

    demo.do("start")
    _wait_for(lambda: "served" in demo.log())

    assert "INFO rate limit of /api: none -> 4 requests/s" in demo.log()
    assert "INFO served 12 requests, turned away 48" in demo.log()


@pytest.mark.parametrize(
    "found", [{"/api": 5}, {"limits": {"/api": {"limit_rps": 5}}}, {"/api": {"limit_rps": 5}, "note": "x"}]
)
def test_a_rate_limit_file_is_understood_in_either_form(found: object) -> None:
    assert service._parse_limits(found) == {"/api": 5.0}


@pytest.mark.parametrize("found", [[], {"limits": 3}, {"/api": "5"}, {"/api": True}, {"/api": -1}, {"/api": {}}])
def test_a_rate_limit_file_that_is_not_understood_is_refused(found: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        service._parse_limits(found)


def test_a_slow_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FirstBeatIsOver(Exception):
        pass

    def stop_working(_s: float) -> None:
        raise FirstBeatIsOver

    monkeypatch.setattr(service, "_SLOW_DISK_MS", 0.0)
    monkeypatch.setattr(service.time, "sleep", stop_working)

    with pytest.raises(FirstBeatIsOver):
        service._work(str(tmp_path))

    assert " WARN code=SLOW_DISK writing 4092 bytes to the disk took " in (tmp_path / "reco3-demo.log").read_text()


def test_without_a_name_of_its_own_it_runs_under_its_scripts_name(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    demo.folder.mkdir()
    monkeypatch.setattr(service, "_OWN_NAME_PATH", "/no/such/file")

    script = Path(service._script_to_run(str(demo.folder)))

    assert script == demo.folder / "reco3-demo.py"
    assert script.read_bytes() == Path(service.__file__).read_bytes()


@pytest.mark.parametrize("argv", [[], ["start"], ["dance", "--dir", "x"], ["start", "--folder", "x"]])
def test_a_command_line_that_is_not_understood_is_told_how_it_goes(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert service.main(argv) == 2
    assert capsys.readouterr().err.startswith("usage: ")
