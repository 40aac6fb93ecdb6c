"""Restarts a server under a fleet, once politely and once by SIGKILL, and measures until every PC is back.

A PC is back when a heartbeat that it sent after the signal was acknowledged. Log lines flow all the time; afterwards
the swarm's ledger is held against the database. Usage: `python bench/restart_storm.py [--pcs 20000]`.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fleet_server import FleetServer, spread_s, tell

SETTLE_S = 5.0
WARM_UP_S = 5.0
MOST_S = 60.0
HEAD = ("stop", "server away s", "PCs back", "p50 s", "p99 s", "all back s", "after it was up s")


@dataclass(frozen=True, slots=True)
class Stop:
    """One end of the server: `signalled_at` and `up_at` are Unix time."""

    how: str
    signalled_at: float
    up_at: float


def main() -> int:
    """Measure; exit code 1 when a PC stayed away, a 5xx came late, or something acknowledged is lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pcs", type=int, default=20_000)
    parser.add_argument("--logs-per-minute", type=float, default=2.0, help="lines of each PC")
    parser.add_argument("--back-s", type=float, default=MOST_S, help="how long to wait for the PCs after each stop")
    parser.add_argument("--no-pin", action="store_true", help="give server and generator no core of their own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reco3-storm-") as folder:
        server = FleetServer(Path(folder), pcs=options.pcs, is_pinned=not options.no_pin)
        try:
            server.start()
            stops, report = _storm(server, logs_per_minute=options.logs_per_minute, back_s=options.back_s)
        finally:
            server.close()
    return _tell(stops, report)


def _storm(server: FleetServer, *, logs_per_minute: float, back_s: float) -> tuple[list[Stop], dict[str, Any]]:
    report_path = server.folder / "report.json"
    # The restarts themselves take seconds too; the swarm is told to stop when everything is done.
    seconds = spread_s(server.pcs) + SETTLE_S + 2 * (back_s + MOST_S)
    more = ["--logs-per-minute", f"{logs_per_minute:g}", "--start-spread-s", f"{spread_s(server.pcs):g}"]
    argv = server.swarm_argv(seconds=seconds, report=report_path, more=more)
    swarm = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    time.sleep(spread_s(server.pcs) + SETTLE_S)
    stops = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        stops.append(_stop_and_start(server, swarm, number))
        time.sleep(back_s)
    swarm.send_signal(signal.SIGTERM)
    swarm.wait()
    return stops, json.loads(report_path.read_text())


def _stop_and_start(server: FleetServer, swarm: subprocess.Popen[bytes], number: signal.Signals) -> Stop:
    tell(f"storm: {number.name} for the server of {server.pcs} PCs")
    swarm.send_signal(signal.SIGUSR1)
    signalled_at = time.time()
    server.signal(number)
    server.start()
    return Stop(number.name, signalled_at, time.time())


def _tell(stops: list[Stop], report: dict[str, Any]) -> int:
    late_errors = _late_errors(stops, report)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    is_whole = True
    for stop, mark in zip(stops, report["marks"], strict=True):
        away_s, back = stop.up_at - stop.signalled_at, mark["back_s"]
        is_whole &= mark["pcs_back"] == mark["pcs"] and (back["max"] or 0) <= MOST_S + away_s
        spans = f"{back['p50']:.2f} | {back['p99']:.2f} | {back['max']:.2f} | {max(0.0, back['max'] - away_s):.2f}"
        print(f"| {stop.how} | {away_s:.2f} | {mark['pcs_back']:,} of {mark['pcs']:,} | {spans} |")
    ledger = report["ledger"]
    all_errors = sum(counts.get("server_errors", 0) for counts in report["timeline"].values())
    print(f"\n5xx: {all_errors} in all, {late_errors} later than {WARM_UP_S:g} s after a start")
    print(
        f"ledger: {ledger['lines_acked']:,} log lines acknowledged, {ledger['lines_lost']} lost, "
        f"{ledger['lines_duplicated']} stored twice; {ledger['heartbeats_lost']} last heartbeats lost"
    )
    print(f"errors that the PCs met and got over: {report['errors']}")
    print(json.dumps({"stops": [asdict(stop) for stop in stops], "late_5xx": late_errors, "report": report}))
    return 0 if is_whole and not late_errors and ledger["is_clean"] else 1


def _late_errors(stops: list[Stop], report: dict[str, Any]) -> int:
    """How many 5xx came while the server had been up for a while and had not been told to stop."""
    return sum(
        counts.get("server_errors", 0)
        for second, counts in report["timeline"].items()
        if not any(
            stop.signalled_at - 1 <= report["started_at"] + int(second) <= stop.up_at + WARM_UP_S for stop in stops
        )
    )


if __name__ == "__main__":
    sys.exit(main())
