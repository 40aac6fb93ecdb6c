"""The Windows service in a process of its own, under a fake pywin32, and a judge of what it tells the service manager.

The folder is laid out as the installer lays it out: the script beside `Lib/site-packages`, started by a Python that
knows no packages (`-I -S`).
"""

import itertools
import json
import os
import queue
import shutil
import site
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "agent" / "windows" / "reco3_agent_service.py"
FAKE_PYWIN32 = ROOT / "tests" / "fake_pywin32"
STOPPED, START_PENDING, STOP_PENDING, RUNNING = 1, 2, 3, 4
ERROR, WARNING, INFORMATION = 1, 2, 4
SPECIFIC_ERROR = 1066

Record = dict[str, Any]


class ServiceProcess:
    """What the service manager has started, its records as they come, and its end."""

    def __init__(self, folder: Path, *, script: str | None = None, fault: str = "", packages: bool = True) -> None:
        self.folder = folder
        self.config_path = folder / "config folder" / "config.yaml"
        self.config_path.parent.mkdir(parents=True)
        self._script = folder / "v env" / "reco3_agent_service.py"
        lib = self._script.parent / "Lib" / "site-packages"
        shutil.copytree(FAKE_PYWIN32, lib, ignore=shutil.ignore_patterns("__pycache__"))
        if packages:
            (lib / "packages.pth").write_text("\n".join([str(ROOT / "src"), *site_packages()]), encoding="utf-8")
        if fault:
            (lib / "fault.py").write_text(fault, encoding="utf-8")
            (lib / "zz_fault.pth").write_text("import fault\n", encoding="utf-8")
        self._script.write_text(script or SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
        self.records: list[Record] = []
        self._incoming: queue.SimpleQueue[Record | None] = queue.SimpleQueue()

    def configure(self, **changes: object) -> None:
        config = {
            "base_url": "http://127.0.0.1:1",
            "agent_id": "pc-001",
            "api_key": "the-key-of-this-pc",
            "logging": {"file": str(self.folder / "agent.log")},
        } | changes
        self.config_path.write_text(json.dumps(config), encoding="utf-8")

    def start(self, *arguments: str, by_service_manager: bool = True) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(self._script), *(arguments or (str(self.config_path),))],
            env=os.environ | ({"FAKE_SERVICE_NAME": "RECO3Agent"} if by_service_manager else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def control(self, name: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()

    def wait_for(self, is_it: Callable[[Record], bool], *, within_s: float = 20) -> Record:
        """The first record that has not been waited for yet and is what is meant."""
        deadline = time.monotonic() + within_s
        while (record := self._incoming.get(timeout=max(0.01, deadline - time.monotonic()))) is not None:
            self.records.append(record)
            if is_it(record):
                return record
        raise AssertionError(f"it ended before: {self.records}")

    def wait_for_state(self, state: int) -> Record:
        return self.wait_for(lambda record: record.get("state") == state)

    def wait_for_end(self, *, within_s: float = 20) -> int:
        while (record := self._incoming.get(timeout=within_s)) is not None:
            self.records.append(record)
        code = self.process.wait(within_s)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            self.errors = stream.read()
        return code

    def statuses(self) -> list[Record]:
        return [record for record in self.records if "state" in record]

    def events(self, kind: int) -> list[str]:
        return [record["text"] for record in self.records if record.get("event") == kind]

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._incoming.put(json.loads(line))
        self._incoming.put(None)


def site_packages() -> list[str]:
    """Where this test run has its packages; the service's own Python looks nowhere by itself."""
    return [*site.getsitepackages(), *(path for path in sys.path if path.endswith("site-packages"))]


def complaints(statuses: list[Record]) -> list[str]:
    """What a service manager would hold against a service; Source: SERVICE_STATUS and SetServiceStatus, Microsoft."""
    found = []
    if statuses[0]["state"] != START_PENDING:
        found.append("it did not begin with START_PENDING")
    if statuses[-1]["state"] != STOPPED:
        found.append("it did not end with STOPPED")
    for before, after in itertools.pairwise(statuses):
        found += _complaints_of_two(before, after)
    for status in statuses:
        if status["own_exit"] and status["win32_exit"] != SPECIFIC_ERROR:
            found.append("a service-specific exit code without ERROR_SERVICE_SPECIFIC_ERROR")
        if status["state"] in {RUNNING, STOPPED} and status["checkpoint"]:
            found.append("a checkpoint although nothing is pending")
    return found


_FOLLOWING = {
    START_PENDING: {START_PENDING, RUNNING, STOPPED},
    RUNNING: {RUNNING, STOP_PENDING, STOPPED},
    STOP_PENDING: {STOP_PENDING, STOPPED},
    STOPPED: set[int](),
}


def _complaints_of_two(before: Record, after: Record) -> list[str]:
    found = []
    if after["state"] not in _FOLLOWING[before["state"]]:
        found.append(f"state {after['state']} after {before['state']}")
    if before["state"] in {START_PENDING, STOP_PENDING}:
        if (after["at"] - before["at"]) * 1000 > before["wait_hint_ms"]:
            found.append(f"silent for longer than the wait hint of {before['wait_hint_ms']} ms")
        if after["state"] == before["state"] and after["checkpoint"] <= before["checkpoint"]:
            found.append("a pending state whose checkpoint did not rise")
    return found
