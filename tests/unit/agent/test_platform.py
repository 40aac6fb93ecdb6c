import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType

import psutil
import pytest

from reco3.agent import platform
from reco3.agent.platform import linux, macos, psutil_readings, windows
from reco3.agent.platform.readings import InterfaceReading, MemoryReading, ProcessorReading

SYSTEMS = [linux, macos, windows]
# Recorded from /proc: fields 3 to 22 of a line, up to the start time.
AFTER_NAME = "1 7 7 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 {started} 1000 200"


def _record(proc: Path, pid: int, name: str, *, state: str = "S", parent: str = "1", started: int = 500) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    fields = AFTER_NAME.format(started=started).split()
    (folder / "stat").write_text(f"{pid} ({name}) {state} {parent} {' '.join(fields[1:])}\n")


def test_every_system_offers_the_same_names() -> None:
    for system in SYSTEMS:
        assert [name for name in platform.__all__ if not hasattr(system, name)] == []


def test_this_system_is_the_one_chosen() -> None:
    chosen = {"linux": linux, "darwin": macos, "win32": windows}[sys.platform]

    assert all(getattr(platform, name) is getattr(chosen, name) for name in platform.__all__)


def test_processes_are_read_from_their_stat_lines(tmp_path: Path) -> None:
    _record(tmp_path, 10, "nginx", started=900)
    _record(tmp_path, 11, "odd) R 1 (name", started=901)
    (tmp_path / "self").mkdir()

    assert sorted(linux.list_processes(str(tmp_path))) == [(10, "nginx", 900.0), (11, "odd) R 1 (name", 901.0)]


def test_zombies_kernel_threads_and_what_vanished_are_left_out(tmp_path: Path) -> None:
    _record(tmp_path, 10, "dead", state="Z")
    _record(tmp_path, 11, "kworker/0:1", state="I", parent="2")
    (tmp_path / "12").mkdir()
    _record(tmp_path, 13, "nginx")
    (tmp_path / "14").mkdir()
    (tmp_path / "14" / "stat").write_text("14 (cut")

    assert [pid for pid, _, _ in linux.list_processes(str(tmp_path))] == [13]


def test_a_name_that_is_no_text_is_still_a_name(tmp_path: Path) -> None:
    _record(tmp_path, 10, "x")
    (tmp_path / "10" / "stat").write_bytes(
        b"10 (\xff\xfe) S 1 " + AFTER_NAME.format(started=5).partition(" ")[2].encode()
    )

    ((_, name, _),) = linux.list_processes(str(tmp_path))

    assert os.fsencode(name) == b"\xff\xfe"


def test_a_command_line_is_cut_at_its_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "10").mkdir()
    (tmp_path / "10" / "cmdline").write_bytes(b"python3\0a b.py\0\xff\0")
    (tmp_path / "11").mkdir()
    (tmp_path / "11" / "cmdline").write_bytes(b"")

    assert linux.read_command_line(10, str(tmp_path)) == ["python3", "a b.py", os.fsdecode(b"\xff")]
    assert linux.read_command_line(11, str(tmp_path)) == []
    assert linux.read_command_line(12, str(tmp_path)) == []


def test_a_status_is_told_in_psutils_words(tmp_path: Path) -> None:
    _record(tmp_path, 10, "a) Z (", state="T")

    assert linux.read_status(10, str(tmp_path)) == psutil.STATUS_STOPPED
    assert linux.read_status(11, str(tmp_path)) == ""
    assert linux.read_status(os.getpid()) == psutil.STATUS_RUNNING


@pytest.mark.skipif(sys.platform != "linux", reason="compares /proc with psutil")
def test_linux_and_psutil_see_the_same_processes() -> None:
    own = os.getpid()

    mine = {pid: name for pid, name, _ in linux.list_processes()}

    assert mine[own] == psutil.Process(own).name()[:15]
    assert linux.read_command_line(own) == psutil.Process(own).cmdline()


@pytest.mark.parametrize("system", [macos, windows], ids=["macos", "windows"])
def test_processes_come_from_psutil_where_there_is_no_proc(system: ModuleType) -> None:
    own = psutil.Process()

    found = {pid: (name, started) for pid, name, started in system.list_processes()}

    assert found[own.pid] == (own.name(), own.create_time())
    assert system.read_command_line(own.pid) == own.cmdline()
    assert system.read_status(own.pid) == own.status()


class RecordedProcess:
    """A process as psutil shows it on a system that is not this one."""

    def __init__(self, pid: int, name: str | psutil.Error, status: str = psutil.STATUS_RUNNING) -> None:
        self.pid = pid
        self._name = name
        self._status = status

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        return None

    def oneshot(self) -> "RecordedProcess":
        return self

    def name(self) -> str:
        if isinstance(self._name, psutil.Error):
            raise self._name
        return self._name

    def status(self) -> str:
        return self._status

    def create_time(self) -> float:
        return float(self.pid)


@pytest.mark.parametrize("system", [macos, windows], ids=["macos", "windows"])
def test_a_process_that_vanishes_or_denies_access_is_left_out(
    system: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = [
        RecordedProcess(1, "launchd"),
        RecordedProcess(2, psutil.NoSuchProcess(2)),
        RecordedProcess(3, psutil.AccessDenied(3)),
        RecordedProcess(4, "nginx"),
    ]
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(recorded))

    assert list(system.list_processes()) == [(1, "launchd", 1.0), (4, "nginx", 4.0)]


def test_a_zombie_on_macos_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = [RecordedProcess(1, "dead", psutil.STATUS_ZOMBIE), RecordedProcess(2, "alive")]
    monkeypatch.setattr(psutil, "process_iter", lambda: iter(recorded))

    assert [pid for pid, _, _ in macos.list_processes()] == [2]


@pytest.mark.parametrize("system", [macos, windows], ids=["macos", "windows"])
def test_a_process_that_has_gone_has_neither_status_nor_arguments(system: ModuleType) -> None:
    gone = max(psutil.pids()) + 100_000

    assert system.read_status(gone) == ""
    assert system.read_command_line(gone) == []


@pytest.mark.parametrize(
    ("system", "physical", "virtual"),
    [
        (
            linux,
            ["eth0", "enp0s3", "wlan0", "wlp2s0", "ens5", "eno1"],
            ["lo", "docker0", "br-1a2b", "veth12", "bond0", "eth0.7"],
        ),
        (macos, ["en0", "en12"], ["lo0", "utun3", "awdl0", "bridge0", "llw0", "gif0"]),
        (
            windows,
            ["Ethernet", "Wi-Fi", "Ethernet 2"],
            ["Loopback Pseudo-Interface 1", "vEthernet (WSL)", "Local Area Connection* 9", "My VPN link"],
        ),
    ],
    ids=["linux", "macos", "windows"],
)
def test_cards_are_told_from_what_only_looks_like_one(
    system: ModuleType, physical: list[str], virtual: list[str]
) -> None:
    assert [name for name in physical if not system.is_physical_interface(name)] == []
    assert [name for name in virtual if system.is_physical_interface(name)] == []


def test_the_disk_is_that_which_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SystemDrive", "D:")

    assert linux.system_disk_path() == "/"
    assert windows.system_disk_path() == "D:\\"
    assert macos.system_disk_path(tmp_path) == str(tmp_path)
    assert macos.system_disk_path(tmp_path / "missing") == "/"


def test_case_does_not_matter_on_windows_alone() -> None:
    assert [system.fold_name("NGINX") for system in SYSTEMS] == ["NGINX", "NGINX", "nginx"]


def test_the_host_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPUTERNAME", "PC-7")

    assert [system.host_name() for system in SYSTEMS] == [os.uname().nodename, os.uname().nodename, "PC-7"]


@pytest.mark.parametrize("system", SYSTEMS, ids=["linux", "macos", "windows"])
def test_a_file_opened_for_following_can_be_deleted_and_still_be_read(system: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"line\n")

    with system.open_shared(str(path)) as file:
        path.unlink()
        assert file.read() == b"line\n"


@pytest.mark.parametrize("system", SYSTEMS, ids=["linux", "macos", "windows"])
def test_a_child_is_found_with_its_start(system: ModuleType) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        starts = {pid: started for pid, _, started in system.list_processes()}

        children = system.list_children(os.getpid())
        child.kill()

    assert (child.pid, starts[child.pid]) in children
    assert system.list_children(child.pid) == []


@pytest.mark.parametrize("system", SYSTEMS, ids=["linux", "macos", "windows"])
def test_a_start_is_told_as_unix_time(system: ModuleType) -> None:
    started = next(started for pid, _, started in system.list_processes() if pid == os.getpid())

    assert abs(system.created_at_ms(started) - psutil.Process().create_time() * 1000) < 1_500


@pytest.mark.parametrize("system", SYSTEMS, ids=["linux", "macos", "windows"])
def test_this_run_of_the_system_has_one_id(system: ModuleType) -> None:
    assert system.boot_id()
    assert system.boot_id() == system.boot_id()


def test_memory_is_read_from_meminfo(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\nHugePages_Total: 0\n")

    assert linux.read_memory(str(path)) == MemoryReading(1000 * 1024, 400 * 1024)


def test_the_processors_use_has_no_waiting_for_disks_in_it_and_a_guests_time_once(tmp_path: Path) -> None:
    path, per_s = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    ticks = [each * per_s for each in (6, 0, 1, 12, 1, 0, 0, 0, 5, 0)]
    path.write_text(f"cpu  {' '.join(map(str, ticks))}\ncpu0 1 1 1 1\n")

    assert linux.read_processor(str(path)) == ProcessorReading(busy_s=7, total_s=20)


def test_interfaces_are_read_from_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "dev"
    path.write_text(
        "Inter-|   Receive  |  Transmit\n face |bytes ...\n"
        "    lo:     900 1 0 0 0 0 0 0      901 1 0 0 0 0 0 0\n"
        "eth0:1:20 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0\n"
    )

    assert linux.read_interfaces(str(path)) == {"lo": InterfaceReading(901, 900), "eth0:1": InterfaceReading(10, 20)}


@pytest.mark.parametrize("read", [linux.read_memory, linux.read_processor, linux.read_interfaces])
def test_what_proc_does_not_tell_is_an_error_and_not_a_zero(read: Callable[[str], object], tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        read(str(tmp_path / "nothing"))


@pytest.mark.skipif(sys.platform != "linux", reason="compares /proc with psutil")
def test_linux_and_psutil_read_the_same_numbers() -> None:
    mine, theirs = linux.read_processor(), psutil_readings.read_processor()

    assert linux.read_memory().total_bytes == psutil_readings.read_memory().total_bytes
    assert linux.read_disk("/").total_bytes == psutil_readings.read_disk("/").total_bytes
    assert mine.total_s == pytest.approx(theirs.total_s, rel=0.01)
    assert set(linux.read_interfaces()) == set(psutil_readings.read_interfaces())


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's own")
def test_a_file_keeps_its_birth_mark_when_it_is_renamed_or_written(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    with linux.open_shared(str(path)) as file:
        before = linux.birth_mark(file)
        path.write_text("other content")
        path.rename(tmp_path / "b")
        after = linux.birth_mark(file)

    assert before == after


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's own")
def test_where_the_filesystem_gives_no_birth_mark_there_is_none() -> None:
    with linux.open_shared("/proc/version") as file:
        assert linux.birth_mark(file) == 0
