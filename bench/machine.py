"""Says what machine a run was measured on: processor, memory, kernel, what a synced write costs, versions.

It changes nothing but one scratch file, and it names no host and no user.
"""

import os
import platform
import sqlite3
import statistics
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from results import percentile

SYNCED_WRITES = 200
BLOCK = b"\0" * 4096
BUSY_SHARE = 0.25
_OURS = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "msgspec", "SQLAlchemy", "psutil")


def machine_facts(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the facts as pairs; `folder` lies on the disk that the measured databases use."""
    return (
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("processor", cpu_model(Path("/proc/cpuinfo").read_text())),
        ("cores", str(os.cpu_count())),
        ("memory", memory_total(Path("/proc/meminfo").read_text())),
        ("system", f"{_system_name()}, kernel {platform.release()}"),
        ("disk", _synced_writes(folder)),
        ("load before the run", f"{os.getloadavg()[0]:.2f}"),
        ("Python", platform.python_version()),
        ("SQLite", sqlite3.sqlite_version),
        ("RECO3", metadata.version("reco3")),
        ("its parts", ", ".join(f"{name} {metadata.version(name)}" for name in _OURS)),
    )


def busy_warning(load: float, cores: int) -> str:
    """Return what must be said when others used the machine before the run, or "" when they hardly did."""
    if load <= BUSY_SHARE * cores:
        return ""
    return (
        f"The machine was busy before the run (load {load:.1f} on {cores} cores): "
        "figures and ratios are those of a crowded machine. Run it again on a quiet one."
    )


def cpu_model(cpuinfo: str) -> str:
    """Return the processor's name from the text of /proc/cpuinfo."""
    found = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return found[0] if found else "unknown"


def memory_total(meminfo: str) -> str:
    """Return the memory's size from the text of /proc/meminfo."""
    found = [line.split()[1] for line in meminfo.splitlines() if line.startswith("MemTotal:")]
    return f"{int(found[0]) / 1024 / 1024:.1f} GiB" if found else "unknown"


def _synced_writes(folder: Path) -> str:
    path = folder / "fdatasync.probe"
    spans_ms = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for _ in range(SYNCED_WRITES):
            began_s = time.perf_counter()
            os.write(descriptor, BLOCK)
            os.fdatasync(descriptor)
            spans_ms.append((time.perf_counter() - began_s) * 1000)
    finally:
        os.close(descriptor)
        path.unlink()
    middle, worst = statistics.median(spans_ms), percentile(spans_ms, 0.99)
    return f"{SYNCED_WRITES} x 4 KiB write + fdatasync: p50 {middle:.2f} ms, p99 {worst:.2f} ms"


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
