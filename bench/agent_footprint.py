"""Measures what the agent costs an idle PC, beside node_exporter in the same window.

A real server, demo service and agent on loopback: one watched process, two log files with a trickle of lines, a
heartbeat every ten seconds and a held pull; node_exporter is scraped every ten seconds. It tunes neither of them, and
it stops with an error when one of them dies, is not ONLINE or was not scraped.

Every Python process on a machine shares the interpreter's pages, which PSS divides among them. So that the agent does
not look smaller here than on a PC where it is the only one, the demo service is a shell script, and RSS and the memory
that is the agent's alone (USS) stand beside PSS; `--server-python` and `--agent-python` name other interpreters.
"""

import argparse
import compileall
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from footprints import PROC, Footprint, footprint_table, tree_pids, watch

ROOT = Path(__file__).parents[1]
AGENT_ID, AGENT_KEY, SERVICE = "pc-001", "devkey", "trickler"
SCRAPE_EVERY_S = 10.0
LINE_EVERY_S = 2.0
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
AGENT, EXPORTER = "reco3 agent", "node_exporter"


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure; paths are those of programs."""

    seconds: float
    settle_s: float
    json_path: Path | None
    exporter: str
    server_python: str
    agent_python: str


def main() -> int:
    """Measure, print a table and, on request, write it as JSON."""
    options = _read_options()
    # As an installation does: a start that compiles leaves memory behind that no installed agent has.
    compileall.compile_dir(ROOT / "src/reco3", quiet=1)
    with tempfile.TemporaryDirectory(prefix="reco3-footprint-") as folder, contextlib.ExitStack() as running:
        trees, scraped = _start_all(Path(folder), options, running)
        _let_pass(options.settle_s, trees)
        footprints = watch(trees, options.seconds)
        uss_mb = {name: _private_mb(pid) for name, pid in trees.items()}
        _check(f"http://127.0.0.1:{scraped.server_port}", scraped)
    print(footprint_table(footprints, baseline=EXPORTER))
    print("\n" + ", ".join(f"USS of {name}: {size_mb:.1f} MB" for name, size_mb in uss_mb.items()))
    result = _result(footprints, uss_mb)
    if options.json_path is not None:
        options.json_path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


def _read_options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="length of the window")
    parser.add_argument("--settle", type=float, default=45, help="seconds before the window")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--exporter", default="prometheus-node-exporter")
    parser.add_argument("--server-python", default=sys.executable)
    parser.add_argument("--agent-python", default=sys.executable)
    words = parser.parse_args()
    exporter = shutil.which(words.exporter)
    if exporter is None:
        parser.error(f"{words.exporter} is not installed (apt-get install prometheus-node-exporter)")
    return Options(words.seconds, words.settle, words.json, exporter, words.server_python, words.agent_python)


@dataclass(slots=True)
class _Scraped:
    """How often node_exporter was scraped, and where everything listens."""

    server_port: int
    exporter_port: int
    count: int = 0


def _start_all(folder: Path, options: Options, running: contextlib.ExitStack) -> tuple[Mapping[str, int], _Scraped]:
    scraped = _Scraped(_free_port(), _free_port())
    url = f"http://127.0.0.1:{scraped.server_port}"
    environment = {
        **os.environ,
        "RECO3_TEST_MODE": "1",
        "RECO3_AGENT_KEYS": f"{AGENT_ID}={AGENT_KEY}",
        "RECO3_DB_PATH": str(folder / "reco3.db"),
        "RECO3_HOST": "127.0.0.1",
        "PORT": str(scraped.server_port),
    }
    server_argv = [options.server_python, "-m", "reco3.cli", "server"]
    running.enter_context(_child(server_argv, folder, environment=environment))
    _wait(lambda: _get(url + "/health"), "the server")
    running.enter_context(_child(["/bin/sh", str(_service_script(folder))], folder))
    agent_argv = [options.agent_python, str(ROOT / "agent/common/reco_agent.py"), str(_agent_config(folder, url))]
    agent = running.enter_context(_child(agent_argv, folder))
    exporter_argv = [options.exporter, f"--web.listen-address=127.0.0.1:{scraped.exporter_port}"]
    exporter = running.enter_context(_child(exporter_argv, folder))
    running.enter_context(_scraping(scraped))
    return {AGENT: agent.pid, EXPORTER: exporter.pid}, scraped


def _service_script(folder: Path) -> Path:
    """Make the watched process; it also writes both logs, a line with an error among ten."""
    path = folder / SERVICE
    path.write_text(
        "n=0\nwhile :; do n=$((n+1)); level=INFO; [ $((n % 10)) = 0 ] && level=ERROR\n"
        f'for log in one two; do echo "$(date +%FT%T) $level line $n" >> {folder}/$log.log; done\n'
        f"sleep {LINE_EVERY_S}; done\n",
        encoding="utf-8",
    )
    return path


def _agent_config(folder: Path, url: str) -> Path:
    path = folder / "agent.yaml"
    path.write_text(
        f'base_url: "{url}"\nagent_id: "{AGENT_ID}"\napi_key: "{AGENT_KEY}"\n'
        f"watch:\n  processes: [{{name: {SERVICE}}}]\n  log_files: [one.log, two.log]\n"
        "logging: {file: agent.log}\n",
        encoding="utf-8",
    )
    path.chmod(0o600)
    for name in ("one.log", "two.log"):
        (folder / name).touch()
    return path


@contextlib.contextmanager
def _child(
    argv: list[str], folder: Path, *, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / f"{Path(argv[0]).name}.out").open("ab") as output:
        child = subprocess.Popen(
            argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def _scraping(scraped: _Scraped) -> Iterator[None]:
    stop = threading.Event()
    url = f"http://127.0.0.1:{scraped.exporter_port}/metrics"

    def scrape() -> None:
        while not stop.is_set():
            scraped.count += _get(url)
            stop.wait(SCRAPE_EVERY_S)

    thread = threading.Thread(target=scrape, daemon=True)
    _wait(lambda: _get(url), EXPORTER)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_TIMEOUT_S)


def _let_pass(seconds: float, trees: Mapping[str, int]) -> None:
    watch(trees, seconds)


def _check(url: str, scraped: _Scraped) -> None:
    with urllib.request.urlopen(url + "/api/r3/agents", timeout=5) as answer:  # noqa: S310 - loopback
        [agent] = json.load(answer)["agents"]
    [process] = agent["metrics"]["processes"]
    if agent["status"] != "ONLINE" or not process["running"] or not agent["recent_error_count"]:
        raise RuntimeError(f"the agent did not do its work: {agent}")
    if not scraped.count:
        raise RuntimeError(f"{EXPORTER} was never scraped")


def _private_mb(root_pid: int) -> float:
    """Add up what would be free if the tree ended."""
    size_kb = 0
    for pid in tree_pids(root_pid):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Private_"):
                size_kb += int(line.split()[1])
    return size_kb / 1024


def _result(footprints: Mapping[str, Footprint], uss_mb: Mapping[str, float]) -> dict[str, object]:
    ours, theirs = footprints[AGENT], footprints[EXPORTER]
    return {
        "footprints": {name: {**asdict(each), "uss_mb": uss_mb[name]} for name, each in footprints.items()},
        "pss_ratio": ours.pss_mb / theirs.pss_mb,
        "cpu_ratio": ours.cpu_pct / theirs.cpu_pct if theirs.cpu_pct else None,
    }


def _wait(is_ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not is_ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.1)


def _get(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
            return bool(answer.read())
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
