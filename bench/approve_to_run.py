"""Measures approve → running on the PC: how long after an approval the approved command begins.

A real server, agent and demo service on loopback; the end is the clock that the restart command reads in its very
first statement. Beside it, in the same run, stand what no control plane can beat: starting that interpreter at all,
and one HTTP request to the same server. `--pcs N` connects N simulated PCs besides (`reco3 swarm`).
It stops with an error when a command does not complete, or when the service counts another number of restarts than one.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

TIMEOUT_S = 60.0
SWARM_TIMEOUT_S = 150.0
SWARM_S = 3600
# Above this many, two connections each would be more than the server's 20,000 descriptors.
MOST_OWN_PCS = 7_000
SHARED_CONNECTIONS = 256
LOOK_EVERY_S = 0.05
AGENT_ID = "pc-001"
_STARTED = re.compile(r"^(\S+Z) INFO command_started command_id=(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Options:
    """How often to measure, and beside how many simulated PCs."""

    runs: int
    pcs: int
    json_path: Path | None


@dataclass(slots=True)
class Spans:
    """What was measured, in milliseconds; grows with every run.

    `to_started` ends where the PC has recorded durably that the command begins, `to_first_statement` begins there.
    """

    total: list[float] = field(default_factory=list)
    to_started: list[float] = field(default_factory=list)
    to_first_statement: list[float] = field(default_factory=list)
    request: list[float] = field(default_factory=list)
    interpreter: list[float] = field(default_factory=list)


def main() -> int:
    """Run the measurement, print a table and, as the last line, everything as JSON."""
    options = _read_options()
    # Started in the background we ignore it, and so would the demo, which is stopped by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="reco3-approve-") as name, contextlib.ExitStack() as running:
        bench = _Bench(Path(name), _free_port())
        running.enter_context(bench.demo(options.pcs))
        if options.pcs:
            running.enter_context(bench.swarm(options.pcs))
        spans = bench.measure(options.runs)
    result = _result(spans, options)
    print(_table(result))
    if options.json_path is not None:
        options.json_path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


def _read_options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--pcs", type=int, default=0, help="simulated PCs that are connected besides")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    words = parser.parse_args()
    return Options(words.runs, words.pcs, words.json)


class _Bench:
    """A demo in a folder of its own, and whoever asks it."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._demo_folder = folder / "instance/demo"
        self._port = port
        self._url = f"http://127.0.0.1:{port}"

    @contextlib.contextmanager
    def demo(self, pcs: int) -> Iterator[None]:
        environment = {**os.environ, "PORT": str(self._port)}
        if pcs:
            keys_path = self._folder / "keys.txt"
            argv = _reco3("swarm", "keys", "--pcs", str(pcs))
            keys_path.write_bytes(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
            environment["RECO3_AGENT_KEYS_FILE"] = str(keys_path)
        with self._running("demo", _reco3("demo"), environment=environment) as process:
            self._wait(lambda: self._online() >= 1, process, "the demo did not start")
            yield

    @contextlib.contextmanager
    def swarm(self, pcs: int) -> Iterator[None]:
        lines = "own" if pcs <= MOST_OWN_PCS else f"shared:{SHARED_CONNECTIONS}"
        words = ("--base-url", self._url, "--pcs", str(pcs), "--seconds", str(SWARM_S), "--connections", lines)
        with self._running("swarm", _reco3("swarm", "run", *words)) as process:
            is_there = lambda: self._online() >= pcs + 1  # noqa: E731 - one expression with a name
            self._wait(is_there, process, "the simulated PCs did not all come", limit_s=SWARM_TIMEOUT_S)
            yield

    def measure(self, runs: int) -> Spans:
        spans = Spans()
        self._restart_once(Spans())  # The first one also loads what no later one has to.
        for _ in range(runs):
            spans.interpreter.append(_interpreter_ms())
            began_s = time.perf_counter()
            self._get("/health")
            spans.request.append((time.perf_counter() - began_s) * 1000)
            self._restart_once(spans)
        return spans

    def _restart_once(self, spans: Spans) -> None:
        self._wait_seen()
        payload = {"process": "reco3-demo"}
        wanted = {"agent_id": AGENT_ID, "type": "RESTART_PROCESS", "payload": payload}
        command_id = self._post("/api/agent-commands", wanted)["id"]
        seen = len(self._restarts_ns())
        approved_ns = time.time_ns()
        self._post(f"/api/agent-commands/{command_id}/approve", {})
        self._wait_completed(command_id)
        restarts_ns = self._restarts_ns()
        if len(restarts_ns) != seen + 1:
            raise RuntimeError(f"expected one restart, the service counted {len(restarts_ns) - seen}")
        started_ns = self._started_ns(command_id)
        spans.total.append((restarts_ns[-1] - approved_ns) / 1e6)
        spans.to_started.append((started_ns - approved_ns) / 1e6)
        spans.to_first_statement.append((restarts_ns[-1] - started_ns) / 1e6)

    def _started_ns(self, command_id: str) -> int:
        """When the agent logged the beginning, which is right after it has recorded it; to the millisecond."""
        log = (self._demo_folder / "agent.out").read_text(encoding="utf-8")
        [moment] = [found[1] for found in _STARTED.finditer(log) if found[2] == command_id]
        return round(datetime.fromisoformat(moment).timestamp() * 1e9)

    def _restarts_ns(self) -> list[int]:
        path = self._demo_folder / "restarts.log"
        return [int(line.split()[1]) for line in path.read_text().splitlines()] if path.exists() else []

    def _wait_seen(self) -> None:
        """Until the server knows the process that runs now: an approval is for that one."""

        def is_seen() -> bool:
            [agent] = self._get("/api/r3/agents?limit=1")["agents"]  # Ids are in order, and ours is the first.
            pid = int((self._demo_folder / "reco3-demo.pid").read_text() or 0)
            return bool(agent["agent_id"] == AGENT_ID and agent["metrics"]["processes"][0]["pid"] == pid)

        self._wait(is_seen, None, "the server does not know the new process")

    def _wait_completed(self, command_id: str) -> None:
        def is_completed() -> bool:
            command = self._get(f"/api/agent-commands/{command_id}")
            if command["status"] == "failed":
                raise RuntimeError(f"the restart failed: {command['result_json']}")
            return bool(command["status"] == "completed")

        self._wait(is_completed, None, "the restart did not complete")

    def _online(self) -> int:
        try:
            return int(self._get("/api/r3/agents?limit=1")["online"])
        except OSError:
            return 0

    @contextlib.contextmanager
    def _running(
        self, name: str, argv: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        with (self._folder / f"{name}.out").open("wb") as output:
            process = subprocess.Popen(
                argv, cwd=self._folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            yield process
        finally:
            _end(process)

    def _wait(
        self,
        is_over: Callable[[], bool],
        process: "subprocess.Popen[bytes] | None",
        problem: str,
        *,
        limit_s: float = TIMEOUT_S,
    ) -> None:
        deadline_s = time.monotonic() + limit_s
        while not is_over():
            if time.monotonic() > deadline_s or (process is not None and process.poll() is not None):
                outputs = [path.read_text(errors="replace")[-1000:] for path in self._folder.glob("*.out")]
                raise RuntimeError("\n".join((problem, *outputs)))
            time.sleep(LOOK_EVERY_S)

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=TIMEOUT_S) as answer:  # noqa: S310 - our own server
            return json.load(answer)

    def _post(self, path: str, body: object) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own server
            self._url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - likewise
            return json.load(answer)


def _reco3(*words: str) -> list[str]:
    return [sys.executable, "-m", "reco3.cli", *words]


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _interpreter_ms() -> float:
    argv = [sys.executable, "-S", "-E", "-c", "import time; print(time.time_ns())"]
    began_ns = time.time_ns()
    done = subprocess.run(argv, capture_output=True, check=True)
    return (int(done.stdout) - began_ns) / 1e6


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _result(spans: Spans, options: Options) -> dict[str, Any]:
    return {
        "runs": options.runs,
        "pcs": options.pcs,
        "approve_to_run": _figures(spans.total),
        "approve_to_started": _figures(spans.to_started),
        "started_to_first_statement": _figures(spans.to_first_statement),
        "interpreter_start": _figures(spans.interpreter),
        "http_request": _figures(spans.request),
    }


def _figures(values_ms: Sequence[float]) -> dict[str, float]:
    p99 = sorted(values_ms)[min(len(values_ms) - 1, round(len(values_ms) * 0.99))]
    return {
        "p50_ms": round(statistics.median(values_ms), 2),
        "p99_ms": round(p99, 2),
        "min_ms": round(min(values_ms), 2),
    }


def _table(result: Mapping[str, Any]) -> str:
    rows = {
        "approve -> restart command running": "approve_to_run",
        "  approve -> recorded as begun on the PC": "approve_to_started",
        "  from there -> its first statement": "started_to_first_statement",
        "reference: start of that interpreter": "interpreter_start",
        "reference: one HTTP request": "http_request",
    }
    head = f"{result['runs']} runs, loopback, {result['pcs']} other PCs connected, milliseconds\n"
    lines = [head + f"{'':42}{'min':>8}{'p50':>8}{'p99':>8}"]
    for title, name in rows.items():
        each = result[name]
        lines.append(f"{title:42}{each['min_ms']:8.1f}{each['p50_ms']:8.1f}{each['p99_ms']:8.1f}")
    ratio = result["approve_to_run"]["p50_ms"] / result["interpreter_start"]["p50_ms"]
    lines.append(f"p50 is {ratio:.1f} times the bare start of the interpreter that the command runs in.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
