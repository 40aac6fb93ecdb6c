import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from reco3.agent import platform
from reco3.agent.metrics import Sampler, WatchedName, find_processes, needs_command_line, process_names
from reco3.agent.platform import linux, macos, windows
from reco3.agent.platform.readings import InterfaceReading as Counters
from reco3.agent.platform.readings import ProcessorReading
from reco3.protocol.messages import Metrics, WatchedProcess

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "process_matches.json").read_text("utf-8")
)
SYSTEMS = {"linux": linux, "windows": windows, "macos": macos}


def _sample(sampler: Sampler) -> Metrics:
    return sampler.sample(mode="NORMAL", apply_enabled=False)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_process_goes_by_its_programs_name_and_its_scripts(case: dict[str, Any]) -> None:
    fold = SYSTEMS[case.get("system", "linux")].fold_name
    wanted = {fold(name): name for name in [*case["matches"], *case["misses"]]}

    argv = case["argv"] if needs_command_line(case["program"], wanted) else []
    names = process_names(case["program"], argv, fold=fold)

    assert {fold(name) for name in case["matches"]} <= names
    assert not {fold(name) for name in case["misses"]} & names


def test_a_command_line_is_read_only_where_the_name_cannot_decide() -> None:
    wanted = {"nginx": "nginx", "prometheus-node-exporter": "prometheus-node-exporter"}

    needed = [
        name
        for name in ("nginx", "python3", "prometheus-node", "another-program", "x")
        if needs_command_line(name, wanted)
    ]

    assert needed == ["python3", "prometheus-node"]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _start_waiting(script: Path, started: list[subprocess.Popen[bytes]]) -> int:
    script.write_text("import signal\nprint(flush=True)\nsignal.pause()\n")
    process = subprocess.Popen([sys.executable, "-u", str(script), "unrelated-name"], stdout=subprocess.PIPE)
    started.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    return process.pid


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def test_every_process_of_a_name_is_found_oldest_first(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    pids = [_start_waiting(tmp_path / "senses-worker.py", started) for _ in range(3)]
    sampler = Sampler(
        [WatchedName("senses-worker", allow_restart=True), WatchedName("unrelated-name", allow_restart=False)]
    )

    worker, unrelated = _sample(sampler).processes

    created_at_ms = worker.create_time_ms
    assert created_at_ms is not None
    assert abs(created_at_ms - psutil.Process(pids[0]).create_time() * 1000) < 1_500
    assert worker == WatchedProcess(
        name="senses-worker",
        running=True,
        pid=pids[0],
        status="sleeping",
        count=3,
        pids=pids,
        allow_restart=True,
        create_time_ms=created_at_ms,
    )
    assert unrelated == WatchedProcess(name="unrelated-name", running=False, status="missing")


def test_a_restart_is_counted_when_the_process_is_back_and_not_while_it_is_missing(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    sampler = Sampler([WatchedName("senses-worker", allow_restart=False)])
    script = tmp_path / "senses-worker.py"
    seen = []

    _start_waiting(script, started)
    seen.append(_sample(sampler).processes[0].restarts)
    _stop(started[0])
    seen.append(_sample(sampler).processes[0].restarts)
    _start_waiting(script, started)
    seen.append(_sample(sampler).processes[0].restarts)
    seen.append(_sample(sampler).processes[0].restarts)

    assert seen == [0, 0, 1, 1]


def test_a_second_process_and_the_end_of_the_younger_one_are_no_restarts(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    sampler = Sampler([WatchedName("senses-worker", allow_restart=False)])
    script = tmp_path / "senses-worker.py"
    _start_waiting(script, started)
    _sample(sampler)
    _start_waiting(script, started)
    _sample(sampler)
    _stop(started[1])

    assert _sample(sampler).processes[0].restarts == 0


def test_an_older_process_that_comes_into_sight_is_no_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler([WatchedName("app", allow_restart=False)])
    seen = []

    for processes in ([(20, "app", 200.0)], [(10, "app", 100.0), (20, "app", 200.0)], [(20, "app", 200.0)]):
        monkeypatch.setattr(platform, "list_processes", lambda processes=processes: iter(processes))
        seen.append(_sample(sampler).processes[0].restarts)

    assert seen == [0, 0, 1]


def test_a_zombie_does_not_run(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    shutil.copy(shutil.which("sleep") or "", tmp_path / "senses-zombie")
    process = subprocess.Popen([tmp_path / "senses-zombie", "60"])
    started.append(process)
    before = len(find_processes(["senses-zombie"])["senses-zombie"])
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # It is dead, and nobody has asked after it yet.

    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert before == 1
    assert find_processes(["senses-zombie"])["senses-zombie"] == []


def test_the_agent_is_not_found_through_its_own_arguments(
    tmp_path: Path, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = _start_waiting(tmp_path / "senses-worker.py", started)
    found_as_another = find_processes(["senses-worker"])["senses-worker"]
    monkeypatch.setattr(os, "getpid", lambda: pid)

    found_as_itself = find_processes(["senses-worker"])["senses-worker"]

    assert [one.pid for one in found_as_another] == [pid]
    assert found_as_itself == []


def test_at_most_fifty_pids_are_listed_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "list_processes", lambda: ((pid, "app", float(pid)) for pid in range(100, 0, -1)))

    (process,) = _sample(Sampler([WatchedName("app", allow_restart=False)])).processes

    assert (process.count, process.pids) == (100, list(range(1, 51)))


def test_without_watched_names_no_process_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(platform, "list_processes", lambda: looked.append("looked") or iter(()))

    assert _sample(Sampler([])).processes == []
    assert looked == []


def test_a_sample_tells_this_machine_as_psutil_sees_it() -> None:
    sample = Sampler([]).sample(mode="SAFE", apply_enabled=True)

    disk = psutil.disk_usage("/")
    assert sample.cpu_count == psutil.cpu_count()
    assert sample.mem_total_mb == round(psutil.virtual_memory().total / 1024**2, 1)
    assert sample.disk_total_gb == round(disk.total / 1024**3, 2)
    assert sample.disk_percent == pytest.approx(disk.percent, abs=1)
    assert (sample.mode, sample.apply_enabled) == ("SAFE", True)
    assert (sample.platform, sample.hostname) == ("linux", os.uname().nodename)
    assert 0 < (sample.mem_percent or 0) < 100
    assert sample.mem_used_mb is not None
    assert sample.mem_percent == pytest.approx(100 * sample.mem_used_mb / sample.mem_total_mb, abs=0.2)


def test_the_first_sample_measures_the_processor(started: list[subprocess.Popen[bytes]]) -> None:
    started.append(
        subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    )
    assert started[0].stdout is not None
    started[0].stdout.readline()

    assert (_sample(Sampler([])).cpu_percent or 0) > 10


def test_the_processors_use_is_that_since_the_last_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([ProcessorReading(0, 0), ProcessorReading(2, 10), ProcessorReading(7, 20), ProcessorReading(7, 20)])
    monkeypatch.setattr(platform, "read_processor", lambda: next(readings))
    monkeypatch.setattr(time, "sleep", lambda _s: None)
    sampler = Sampler([])

    seen = [_sample(sampler).cpu_percent for _ in range(3)]

    # When no time has passed, what was is repeated.
    assert seen == [20.0, 50.0, 50.0]


def test_traffic_is_that_of_cards_without_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = {
        "lo": Counters(9_000, 9_000),
        "eth0": Counters(10, 20),
        "docker0": Counters(400, 400),
        "wlan0": Counters(1, 2),
        "eth0.7": Counters(5, 5),
    }
    monkeypatch.setattr(platform, "read_interfaces", lambda: counters)

    sample = _sample(Sampler([]))

    assert (sample.net_bytes_sent, sample.net_bytes_recv) == (11, 22)
    assert [one.name for one in sample.interfaces] == ["eth0", "wlan0", "docker0", "eth0.7"]


def test_where_no_interface_looks_like_a_card_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = {"lo": Counters(9, 9), "veth1": Counters(1, 2), "tun0": Counters(3, 4)}
    monkeypatch.setattr(platform, "read_interfaces", lambda: counters)

    assert _sample(Sampler([])).net_bytes_sent == 4


def test_at_most_sixty_four_interfaces_are_told_and_cards_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = {f"veth{n}": Counters(n, n) for n in range(100)} | {"eth0": Counters(0, 0)}
    monkeypatch.setattr(platform, "read_interfaces", lambda: counters)

    interfaces = _sample(Sampler([])).interfaces

    assert len(interfaces) == 64
    assert [one.name for one in interfaces[:2]] == ["eth0", "veth99"]


def test_what_cannot_be_read_is_unknown_and_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_named: object) -> None:
        raise PermissionError

    for name in ("read_interfaces", "read_disk", "read_memory", "read_processor"):
        monkeypatch.setattr(platform, name, refuse)

    sample = _sample(Sampler([]))

    assert (sample.net_bytes_sent, sample.disk_percent, sample.disk_total_gb) == (None, None, None)
    assert (sample.mem_percent, sample.mem_used_mb, sample.mem_total_mb, sample.cpu_percent) == (None,) * 4
    assert sample.interfaces == []
    assert sample.cpu_count is not None
