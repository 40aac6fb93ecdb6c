"""Measures the single-file agent against the same agent from a wheel: size, start, memory, in alternating runs.

A real server on loopback; each run starts one form of the agent, waits for its first heartbeat in the database, lets
it settle, and samples its whole process tree. It tunes neither form, and stops with an error when one does not come
ONLINE. Server and agent get a copy of the interpreter's library each, so that no page is shared between them.

    python bench/single_file.py --binary dist/reco3-agent --python VENV/bin/python
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from footprints import watch
from peers import own_library

ROOT = Path(__file__).parents[1]
AGENT_ID, AGENT_KEY = "pc-001", "devkey"
READY_TIMEOUT_S = 30.0
LOOK_EVERY_S = 0.002
SINGLE_FILE, WHEEL = "single file", "wheel"


@dataclass(frozen=True, slots=True)
class Run:
    """What one start of one form took."""

    first_heartbeat_s: float
    pss_mb: float
    rss_mb: float
    processes: int


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table, ratios first; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True, help="the single-file agent")
    parser.add_argument("--python", type=Path, required=True, help="the Python of the environment with the wheel")
    parser.add_argument("--runs", type=int, default=11, help="starts of each form (default: 11)")
    parser.add_argument("--settle", type=float, default=4.0, help="seconds before memory is looked at")
    options = parser.parse_args(argv)
    forms = {
        SINGLE_FILE: [str(options.binary.resolve())],
        WHEEL: [str(options.python.absolute()), "-m", "reco3", "agent"],
    }
    sizes = {SINGLE_FILE: options.binary.stat().st_size, WHEEL: _environment_size(options.python)}
    with tempfile.TemporaryDirectory(prefix="reco3-bench-") as name, _server(Path(name)) as url:
        runs = _alternate(forms, Path(name), url, runs=options.runs, settle_s=options.settle)
    print(_table(runs, sizes))
    return 0


def _alternate(
    forms: Mapping[str, Sequence[str]], folder: Path, url: str, *, runs: int, settle_s: float
) -> dict[str, list[Run]]:
    config = folder / "config.yaml"
    config.write_text(f'base_url: "{url}"\nagent_id: "{AGENT_ID}"\napi_key: "{AGENT_KEY}"\n', encoding="utf-8")
    environment = {**os.environ, **own_library(folder / "agent-lib")}
    taken: dict[str, list[Run]] = {name: [] for name in forms}
    for number in range(runs + 1):
        # The first round warms the disk's cache and compiles what is not compiled; it does not count.
        for name in random.sample(sorted(forms), len(forms)):
            # The single file brings its library along; one more would be charged to it.
            own = environment if name == WHEEL else None
            run = _run([*forms[name], str(config)], folder, settle_s, own)
            if number:
                taken[name].append(run)
    return taken


def _run(argv: Sequence[str], folder: Path, settle_s: float, environment: Mapping[str, str] | None) -> Run:
    database = sqlite3.connect(f"file:{folder}/reco3.db?mode=ro", uri=True)
    with contextlib.closing(database):
        before = _last_seen(database)
        began_s = time.monotonic()
        quiet = subprocess.DEVNULL
        agent = subprocess.Popen(argv, cwd=folder, env=environment, stdout=quiet, stderr=quiet)
        try:
            while _last_seen(database) == before:
                _demand(agent.poll() is None and time.monotonic() - began_s < READY_TIMEOUT_S, f"{argv[0]} came ONLINE")
                time.sleep(LOOK_EVERY_S)
            first_heartbeat_s = time.monotonic() - began_s
            time.sleep(settle_s)
            footprint = watch({"agent": agent.pid}, 1.0, every_s=0.5)["agent"]
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait(READY_TIMEOUT_S)
    return Run(first_heartbeat_s, footprint.pss_mb, footprint.rss_mb, footprint.processes)


def _last_seen(database: sqlite3.Connection) -> object:
    return database.execute("SELECT last_seen FROM agent_status").fetchone()


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"RECO3_TEST_MODE": "1", "RECO3_AGENT_KEYS": f"{AGENT_ID}={AGENT_KEY}", "PORT": str(port)}
    own = own_library(folder / "server-lib")
    environment = {**os.environ, **settings, **own, "RECO3_DB_PATH": str(folder / "reco3.db")}
    with (folder / "server.out").open("wb") as output:
        server = subprocess.Popen([sys.executable, ROOT / "app.py"], env=environment, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _answers(f"{url}/health"):
            _demand(time.monotonic() < deadline and server.poll() is None, "the server answers")
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(READY_TIMEOUT_S)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own loopback server
            json.load(answer)
    except (OSError, ValueError):
        return False
    return True


def _demand(is_so: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not is_so:
        raise SystemExit(f"expected: {what}")


def _environment_size(python: Path) -> int:
    """The bytes of an environment's libraries; the interpreter itself, which the PC must have, is not in it."""
    site = next((python.absolute().parents[1] / "lib").glob("python*/site-packages"))
    return sum(path.stat().st_size for path in site.rglob("*") if path.is_file())


def _table(runs: Mapping[str, Sequence[Run]], sizes: Mapping[str, int]) -> str:
    single, wheel = runs[SINGLE_FILE], runs[WHEEL]
    rows = [("size, MB (the wheel's: its libraries without Python)", *_pair(*(sizes[name] / 1e6 for name in runs)))]
    for title, values in {
        "start to first heartbeat, s (median)": [[run.first_heartbeat_s for run in form] for form in (single, wheel)],
        "PSS, MB (median)": [[run.pss_mb for run in form] for form in (single, wheel)],
        "RSS, MB (median)": [[run.rss_mb for run in form] for form in (single, wheel)],
        "processes": [[float(run.processes) for run in form] for form in (single, wheel)],
    }.items():
        rows.append((title, *_pair(*map(statistics.median, values))))
    starts = {name: sorted(run.first_heartbeat_s for run in form) for name, form in runs.items()}
    spread = ", ".join(f"{name}: {taken[0]:.2f} to {taken[-1]:.2f} s" for name, taken in starts.items())
    head = ("", f"{SINGLE_FILE} / {WHEEL}", SINGLE_FILE, WHEEL)
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows)]
    return "\n".join([*lines, "", f"{len(single)} starts of each, in turns; start: {spread}."])


def _pair(single: float, wheel: float) -> tuple[str, str, str]:
    return f"{single / wheel:.2f}x", f"{single:.2f}", f"{wheel:.2f}"


if __name__ == "__main__":
    if shutil.which("sh") is None or not Path("/proc").is_dir():
        raise SystemExit("it reads /proc: Linux only")
    sys.exit(main())
