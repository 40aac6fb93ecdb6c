"""Pushes 15 values for each of many groups to a pushgateway, in a closed loop over kept connections.

Usage: `python bench/pushes.py PORT [--groups N] [--connections C] [--seconds T] [--filled]`.
It prints JSON.
First every group is pushed once (unless `--filled`), then the clock starts:
the cost of a push grows with the groups that are there.
It measures pushes that were answered 200 and fails on any other answer.
"""

import argparse
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

VALUES = (
    *("cpu_percent", "cpu_count", "mem_percent", "mem_used_mb", "mem_total_mb", "disk_percent", "disk_used_gb"),
    *("disk_total_gb", "net_bytes_sent", "net_bytes_recv", "process_running", "process_pid", "process_count"),
    *("process_restarts", "agent_started_ms"),
)
GOOD = (200, 202)


@dataclass(slots=True)
class Tally:
    """What one connection's thread saw; each thread has its own."""

    spans_ms: list[float] = field(default_factory=list)
    error: str = ""


def main() -> None:
    """Fill the groups, push for a while, print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--groups", type=int, default=2_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--filled", action="store_true", help="the groups are there already")
    options = parser.parse_args()
    fill_s = 0.0 if options.filled else _fill(options.port, options.groups, options.connections)
    began_s = time.perf_counter()
    tallies = _in_threads(options, until_s=began_s + options.seconds)
    lasted_s = time.perf_counter() - began_s
    spans_ms = sorted(span for tally in tallies for span in tally.spans_ms)
    summary = {"groups": options.groups, "connections": options.connections, "fill_s": fill_s, "seconds": lasted_s}
    summary |= {"pushes": len(spans_ms), "pushes_per_s": len(spans_ms) / lasted_s}
    print(json.dumps(summary | {"p50_ms": spans_ms[len(spans_ms) // 2], "p99_ms": spans_ms[len(spans_ms) * 99 // 100]}))


def body(random_source: random.Random) -> bytes:
    """Return one push: 15 values in the text format."""
    return "".join(f"{name} {random_source.uniform(0, 100):.2f}\n" for name in VALUES).encode()


def _fill(port: int, groups: int, connections: int) -> float:
    began_s = time.perf_counter()
    shares = [range(start, groups, connections) for start in range(connections)]
    _run([partial(_push_each, port, iter(share)) for share in shares])
    return time.perf_counter() - began_s


def _in_threads(options: argparse.Namespace, *, until_s: float) -> Sequence[Tally]:
    def endless(start: int) -> Iterator[int]:
        group = start
        while time.perf_counter() < until_s:
            yield group % options.groups
            group += options.connections

    return _run([partial(_push_each, options.port, endless(start)) for start in range(options.connections)])


def _run(jobs: Sequence[Callable[[Tally], None]]) -> Sequence[Tally]:
    tallies = [Tally() for _ in jobs]
    threads = [threading.Thread(target=job, args=(tally,)) for job, tally in zip(jobs, tallies, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for tally in tallies:
        if tally.error:
            raise SystemExit(tally.error)
    return tallies


def _push_each(port: int, groups: Iterator[int], tally: Tally) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    random_source = random.Random(port)  # noqa: S311 - no secret: numbers that vary
    try:
        for group in groups:
            began_s = time.perf_counter()
            connection.request("PUT", f"/metrics/job/bench/instance/sim-{group:06d}", body=body(random_source))
            answer = connection.getresponse()
            answer.read()
            if answer.status not in GOOD:
                tally.error = f"the pushgateway answered {answer.status}"
                return
            tally.spans_ms.append((time.perf_counter() - began_s) * 1000)
    except (OSError, http.client.HTTPException) as err:
        tally.error = f"a push failed: {type(err).__name__}: {err}"
    finally:
        connection.close()


if __name__ == "__main__":
    main()
