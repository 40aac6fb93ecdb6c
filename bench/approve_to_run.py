"""Measures approve → running on the PC: `make bench`.

A real server, agent and demo service on loopback; the end is the clock that the restart command reads in its very
first statement. Beside it, in the same run, stand what no control plane can beat: starting that interpreter at all,
and one HTTP request to the same server.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

RUNS = 50
PORT = "5077"
URL = f"http://127.0.0.1:{PORT}"
TIMEOUT_S = 60.0


def main() -> int:
    """Run the measurement and print a table; exit code 1 when a command did not complete."""
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "demo.out").open("wb") as output:
            demo = subprocess.Popen(
                [sys.executable, "-m", "reco3.cli", "demo"],
                cwd=folder,
                env={**os.environ, "PORT": PORT},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_online(demo)
            latencies_ms = [_restart_once(Path(folder) / "instance/demo") for _ in range(RUNS)]
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(TIMEOUT_S)
    _print_table(latencies_ms, interpreter_ms=_interpreter_ms(), request_ms=_REQUEST_MS)
    return 0


_REQUEST_MS: list[float] = []


def _restart_once(folder: Path) -> float:
    _wait_seen(folder)
    command_id = _post(
        "/api/agent-commands",
        {
            "agent_id": "pc-001",
            "type": "RESTART_PROCESS",
            "payload": {"process": "reco3-demo"},
        },
    )["id"]
    _time_request()
    seen = len(_restarts(folder))
    approved_at_ns = time.time_ns()
    _post(f"/api/agent-commands/{command_id}/approve", {})
    _wait_completed(command_id)
    restarts = _restarts(folder)
    if len(restarts) != seen + 1:
        raise RuntimeError(f"expected one restart, the service counted {len(restarts) - seen}")
    return (restarts[-1] - approved_at_ns) / 1e6


def _time_request() -> None:
    began = time.perf_counter()
    _get("/health")
    _REQUEST_MS.append((time.perf_counter() - began) * 1000)


def _interpreter_ms() -> list[float]:
    argv = [sys.executable, "-S", "-E", "-c", "import time; print(time.time_ns())"]
    spans = []
    for _ in range(RUNS):
        began_ns = time.time_ns()
        done = subprocess.run(argv, capture_output=True, check=True)
        spans.append((int(done.stdout) - began_ns) / 1e6)
    return spans


def _print_table(
    latencies_ms: Sequence[float], *, interpreter_ms: Sequence[float], request_ms: Sequence[float]
) -> None:
    rows = {
        "approve -> restart command running": latencies_ms,
        "reference: start of that interpreter": interpreter_ms,
        "reference: one HTTP request": request_ms,
    }
    print(f"{RUNS} runs, loopback, milliseconds\n{'':38}{'p50':>8}{'p99':>8}")
    for name, values in rows.items():
        print(f"{name:38}{statistics.median(values):8.1f}{_p99(values):8.1f}")
    ratio = statistics.median(latencies_ms) / statistics.median(interpreter_ms)
    print(f"p50 is {ratio:.1f} times the bare start of the interpreter that the command runs in.")


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, round(len(values) * 0.99))]


def _restarts(folder: Path) -> list[int]:
    path = folder / "restarts.log"
    return [int(line.split()[1]) for line in path.read_text().splitlines()] if path.exists() else []


def _wait_online(demo: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and demo.poll() is None:
        try:
            if _get("/api/r3/agents")["online"] == 1:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the demo did not start")


def _wait_seen(folder: Path) -> None:
    """Until the server knows the process that runs now: an approval is for that one."""
    deadline = time.monotonic() + TIMEOUT_S
    pid = int((folder / "reco3-demo.pid").read_text())
    while time.monotonic() < deadline:
        if _get("/api/r3/agents")["agents"][0]["metrics"]["processes"][0]["pid"] == pid:
            return
        time.sleep(0.02)
    raise RuntimeError("the server does not know the new process")


def _wait_completed(command_id: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        newest = _get("/api/agent-commands?limit=1")["commands"][0]
        if newest["id"] == command_id and newest["status"] == "completed":
            return
        if newest["status"] == "failed":
            raise RuntimeError(f"the restart failed: {newest['result_json']}")
        time.sleep(0.02)
    raise RuntimeError("the restart did not complete")


def _get(path: str) -> dict:  # type: ignore[type-arg]
    with urllib.request.urlopen(URL + path, timeout=5) as answer:  # noqa: S310 - our own loopback server
        return json.load(answer)  # type: ignore[no-any-return]


def _post(path: str, body: object) -> dict:  # type: ignore[type-arg]
    request = urllib.request.Request(  # noqa: S310 - our own loopback server
        URL + path, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - likewise
        return json.load(answer)  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
