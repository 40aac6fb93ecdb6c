"""Measures what a fleet costs the server: for each size a fresh server, a swarm of real behaviour, and one table row.

Every PC beats every ten seconds, asks for commands as a real agent does, and writes log lines; some get a command.
Usage: `python bench/fleet.py --pcs 1000,10000,50000,100000:600`, where the last size is measured for ten minutes. It
ends with its figures as JSON; `--write FILE` keeps the table, the machine and the command line as markdown.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fleet_server import FleetServer, spread_s, tell
from machine import busy_warning, machine_facts
from processes import shown
from results import Table

SETTLE_S = 2.0
COMMANDS_PER_S = 2
DAY_S = 86_400
GIB = 1024**3
HEAD = (
    *("PCs", "for s", "heartbeats/s", "pulls/s", "log lines/s", "p50 ms", "p99 ms", "errors", "false OFFLINE"),
    *(
        "commands",
        "their p99 ms",
        "server CPU %",
        "own MiB",
        "RSS MiB",
        "peak MiB",
        "GiB/day",
        "ledger",
        "generator the limit",
    ),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for; each of `sizes` is a number of PCs and for how many seconds."""

    sizes: tuple[tuple[int, float], ...]
    logs_per_minute: float
    commands: int | None
    held_pulls: str
    workers: int | None
    is_pinned: bool
    report_path: Path | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One size of fleet."""

    pcs: int
    seconds: float
    server_cpu_pct: float
    own_mib: float
    rss_mib: float
    peak_rss_mib: float
    database_gib_per_day: float
    false_offline: int
    report: dict[str, Any]


def main() -> int:
    """Measure every size; exit code 1 when a ledger was not clean."""
    options = _read_options()
    measured: list[Measured] = []
    warning = busy_warning(os.getloadavg()[0], os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="reco3-fleet-") as folder:
        facts = Table("Machine and versions", ("fact", "value"), machine_facts(Path(folder)))
    for pcs, seconds in options.sizes:
        tell(f"fleet: {pcs} PCs for {seconds:g} s")
        with tempfile.TemporaryDirectory(prefix="reco3-fleet-") as folder:
            measured.append(_measure(Path(folder), pcs, seconds, options))
        tell(_line(measured[-1]))
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for each in measured:
        print(_line(each))
    if options.report_path is not None:
        options.report_path.write_text(_report(options, measured, facts, warning), encoding="utf-8")
    print(json.dumps([asdict(each) for each in measured]))
    return 0 if all(each.report["ledger"]["is_clean"] for each in measured) else 1


def _read_options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pcs", default="1000,10000", help="sizes of the fleet, with commas; N or N:SECONDS")
    parser.add_argument("--seconds", type=float, default=60.0, help="measured for each other size, once all have begun")
    parser.add_argument("--logs-per-minute", type=float, default=0.2, help="lines of each PC")
    parser.add_argument(
        "--commands", type=int, help="one each for so many random PCs; default: 1 %% of them, two a second at most"
    )
    parser.add_argument("--held-pulls", default="all", help="how many PCs hold a pull open")
    parser.add_argument("--workers", type=int, help="processes of the generator; default: as many as it takes")
    parser.add_argument("--no-pin", action="store_true", help="give server and generator no core of their own")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the results there as markdown")
    words = parser.parse_args()
    try:
        sizes = tuple(_size(text, words.seconds) for text in words.pcs.split(","))
    except ValueError:
        parser.error(f"--pcs: expected sizes such as 1000,10000:600, got {words.pcs!r}")
    if min(seconds for _, seconds in sizes) <= SETTLE_S:
        parser.error(f"expected more than {SETTLE_S:g} seconds for each size")
    return Options(
        sizes=sizes,
        logs_per_minute=words.logs_per_minute,
        commands=words.commands,
        held_pulls=words.held_pulls,
        workers=words.workers,
        is_pinned=not words.no_pin,
        report_path=words.write,
    )


def _size(text: str, otherwise_s: float) -> tuple[int, float]:
    pcs, _, seconds = text.partition(":")
    return int(pcs), float(seconds) if seconds else otherwise_s


def _measure(folder: Path, pcs: int, seconds: float, options: Options) -> Measured:
    server = FleetServer(folder, pcs=pcs, is_pinned=options.is_pinned)
    server.start()
    report_path = folder / "report.json"
    # In proportion: a thousand commands within a minute cost more than the heartbeats of a thousand PCs.
    some = min(1000, pcs // 100, int(seconds * COMMANDS_PER_S))
    commands = some if options.commands is None else min(pcs, options.commands)
    more = ["--logs-per-minute", f"{options.logs_per_minute:g}", "--commands", str(commands)]
    more += ["--held-pulls", options.held_pulls, "--start-spread-s", f"{spread_s(pcs):g}"]
    more += ["--workers", str(options.workers)] if options.workers else []
    try:
        argv = server.swarm_argv(seconds=spread_s(pcs) + seconds, report=report_path, more=more)
        swarm = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        time.sleep(spread_s(pcs) + SETTLE_S)
        began_at, before, size_before = time.monotonic(), server.usage(), server.database_bytes()
        _wait(swarm, seconds - SETTLE_S)
        wall_s, after, size_after = time.monotonic() - began_at, server.usage(), server.database_bytes()
        swarm.wait()
        false_offline = server.count_events("agent_offline")
    finally:
        server.close()
    return Measured(
        pcs=pcs,
        seconds=seconds,
        server_cpu_pct=round(100 * (after.cpu_s - before.cpu_s) / wall_s, 1),
        own_mib=round(after.own_mib, 1),
        rss_mib=round(after.rss_mib, 1),
        peak_rss_mib=round(after.peak_rss_mib, 1),
        database_gib_per_day=round((size_after - size_before) / wall_s * DAY_S / GIB, 3),
        false_offline=false_offline,
        report=_without_timeline(report_path),
    )


def _wait(swarm: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        swarm.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return
    raise RuntimeError(f"the swarm ended too soon, with exit code {swarm.returncode}")


def _without_timeline(path: Path) -> dict[str, Any]:
    return {name: value for name, value in json.loads(path.read_text()).items() if name != "timeline"}


def _report(options: Options, measured: Sequence[Measured], facts: Table, warning: str) -> str:
    places = (
        "Server and generator had a core each."
        if options.is_pinned
        else "Server and generator shared the machine's cores; nothing else ran."
    )
    blocks = [
        "# Whole fleets on one server",
        "Written by `bench/fleet.py`; do not edit. `README.md` beside this file says how to read it.",
        *([f"**{warning}**"] if warning else []),
        Table("Once all PCs had begun", HEAD, tuple(_row(each) for each in measured)).markdown(),
        "- One server process on SQLite, `synchronous=FULL`: a heartbeat is answered when it is on the disk.\n"
        f"- {places}\n"
        "- CPU is that of the whole server process, in percent of one core.\n"
        "- RSS holds the pages of the database that the server has mapped, which the system takes back at will: "
        "own memory is without them.\n"
        "- A PC whose pull is not held hears of a command with its next heartbeat, within ten seconds.\n"
        "- Processor time of the generator: "
        + ", ".join(f"{each.report['own_cpu_cores']:g} cores at {each.pcs:,} PCs" for each in measured)
        + ".",
        facts.markdown(),
        "Command:\n\n```sh\n" + shown([".venv/bin/python", "bench/fleet.py", *sys.argv[1:]]) + "\n```",
    ]
    return "\n\n".join(blocks) + "\n"


def _line(measured: Measured) -> str:
    return f"| {' | '.join(_row(measured))} |"


def _row(measured: Measured) -> tuple[str, ...]:
    report = measured.report
    rates, commands = report["rates_per_s"], report["commands"]
    beats = report["latency_ms"]["heartbeat"]
    cells: Sequence[object] = (
        f"{measured.pcs:,}",
        f"{measured.seconds:g}",
        *(f"{rates['heartbeat']:,.0f}", f"{rates['pull']:,.0f}", f"{report['log_lines_per_s']:,.0f}"),
        *(f"{beats['p50']:.1f}", f"{beats['p99']:.1f}", sum(report["errors"].values()), measured.false_offline),
        *(f"{commands['arrived']}/{commands['asked']}", commands["arrival_ms"]["p99"]),
        *(
            measured.server_cpu_pct,
            measured.own_mib,
            measured.rss_mib,
            measured.peak_rss_mib,
            measured.database_gib_per_day,
        ),
        "clean" if report["ledger"]["is_clean"] else "NOT CLEAN",
        "yes" if report["was_generator_the_bottleneck"] else "no",
    )
    return tuple(map(str, cells))


if __name__ == "__main__":
    sys.exit(main())
