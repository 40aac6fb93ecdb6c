"""Section *ingest*: durable heartbeats a second, beside what bounds them and beside a pushgateway.

One generator on its own core sends the same heartbeats to three servers in turns: ours, ours with the storing cut out,
and a bare echo server that shows how far the generator itself goes. Then ours at 80 % of its own rate, open loop.
"""

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from ground import SEED, Ground, our_server, write_keys
from peers import PeerMissing, pushgateway
from processes import (
    BIN,
    GENERATOR_CORE,
    ROOT,
    SERVER_CORE,
    PartDied,
    ScriptFailed,
    free_port,
    last_json,
    listens,
    on_core,
    run_script,
    shown,
    started,
    wait_until,
)
from results import Headline, Section, Table, spread, times

PCS = 10_000
CONNECTIONS = 64
REPEATS = 3
OPEN_LOOP_SHARE = 0.8
FEW_GROUPS, GROUPS = 100, 2_000
DURABLE, BARE, ASGI, ECHO = (
    "durable heartbeats",
    "the same heartbeats, nothing stored",
    "an ASGI route of the server that stores nothing (GET /health)",
    "bare echo server",
)


class Pushed(NamedTuple):
    """What a pushgateway took."""

    what: str
    figures: dict[str, Any]
    commands: tuple[str, ...]


def ingest(ground: Ground) -> Section:
    """Measure ours, its bounds, and the pushgateway."""
    missing: list[str] = []
    pushed: tuple[Pushed, ...] = ()
    ours, open_loops, commands = _measure_ours(ground)
    try:
        pushed = _measure_pushes(ground)
    except (PeerMissing, PartDied, ScriptFailed) as err:
        missing.append(f"pushgateway: {err}")
    rates = {name: [run["answered_per_s"] for run in runs] for name, runs in ours.items()}
    return Section(
        name="ingest",
        title="Ingest: durable heartbeats",
        headlines=(*_headlines(rates), *_push_headlines(rates[DURABLE], pushed)),
        tables=(_closed_table(ours, rates), _open_table(open_loops), *_push_tables(pushed)),
        notes=_notes(ours, open_loops),
        commands=(*commands, *(line for each in pushed for line in each.commands)),
        missing=tuple(missing),
    )


def _measure_ours(ground: Ground) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]], tuple[str, ...]]:
    folder = ground.folder / "ingest"
    folder.mkdir(parents=True)
    keys = folder / "keys.txt"
    write_keys(keys, PCS)
    port = free_port()
    echo_argv = on_core(SERVER_CORE, [str(BIN / "python"), str(ROOT / "bench/echo_server.py"), str(port)])
    with ExitStack() as running:
        ours = running.enter_context(our_server(folder / "durable", "app.py", keys_file=keys))
        bare = running.enter_context(our_server(folder / "bare", "bench/bare_server.py", keys_file=keys))
        echo = running.enter_context(started(echo_argv, folder / "echo.log"))
        wait_until(listens(port), echo, "the echo server")
        aims = {
            DURABLE: (ours.base_url, ["--closed"]),
            BARE: (bare.base_url, ["--closed"]),
            ASGI: (bare.base_url, ["--closed", "--path", "/health", "--method", "GET"]),
            ECHO: (f"http://127.0.0.1:{port}", ["--closed"]),
        }
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in aims}
        open_loops: list[dict[str, Any]] = []
        commands = [ours.command, bare.command, shown(echo_argv)]
        for _ in range(1 if ground.is_quick else REPEATS):
            for name, (url, pace) in aims.items():
                runs[name].append(_load(ground, url, pace, commands))
                if name == DURABLE:
                    # At once, so that the share is one of the very rate that this machine has at the moment.
                    rate = OPEN_LOOP_SHARE * runs[DURABLE][-1]["answered_per_s"]
                    open_loops.append(_load(ground, ours.base_url, ["--rate", f"{rate:.0f}"], commands))
        if bare.agent_count():
            raise ScriptFailed("the server with its storing cut out has stored something: the comparison is void")
    return runs, open_loops, tuple(dict.fromkeys(commands))


def _load(ground: Ground, url: str, pace: Sequence[str], commands: list[str]) -> dict[str, Any]:
    """Run the generator once; appends its command line."""
    report = ground.folder / "ingest/load.json"
    warm_up_s, seconds = (1, 3) if ground.is_quick else (2, 8)
    argv = [str(BIN / "reco3"), "swarm", "load", "--base-url", url, "--pcs", str(PCS), "--seed", SEED]
    argv += ["--connections", str(CONNECTIONS), "--seconds", str(seconds), "--warm-up-s", str(warm_up_s)]
    argv = on_core(GENERATOR_CORE, [*argv, "--workers", "1", "--json", str(report), *pace])
    commands.append(run_script(argv, limit_s=seconds + 60).command)
    return dict(last_json(report.read_text()))


def _measure_pushes(ground: Ground) -> tuple[Pushed, ...]:
    folder = ground.folder / "pushgateway"
    folder.mkdir(parents=True)
    seconds = ground.seconds(8, 3)
    pushed = []
    # The check costs more with every group, so few groups come first. Filling many is quick only without the check;
    # they stay in the gateway's file for the last.
    for groups, is_checked, is_filled in ((FEW_GROUPS, True, False), (GROUPS, False, False), (GROUPS, True, True)):
        with pushgateway(folder, is_checked=is_checked) as gateway:
            argv = [str(BIN / "python"), str(ROOT / "bench/pushes.py"), str(gateway.port), "--groups", str(groups)]
            argv += ["--connections", "8", "--seconds", f"{seconds:g}", *(["--filled"] if is_filled else [])]
            ran = run_script(on_core(GENERATOR_CORE, argv), limit_s=seconds + 90)
        what = "pushgateway, as delivered" if is_checked else "pushgateway --push.disable-consistency-check"
        pushed.append(Pushed(f"{what}, {groups:,} groups", last_json(ran.output), (*gateway.commands, ran.command)))
    return tuple(pushed)


def _headlines(rates: dict[str, list[float]]) -> tuple[Headline, ...]:
    durable = statistics.median(rates[DURABLE])
    figure = f"{durable:,.0f}/s"
    return tuple(
        Headline("heartbeats, one process", figure, name, f"{base:,.0f}/s", times(durable, base))
        for name in (BARE, ASGI, ECHO)
        for base in (statistics.median(rates[name]),)
    )


def _push_headlines(durable: Sequence[float], pushed: Sequence[Pushed]) -> tuple[Headline, ...]:
    ours = statistics.median(durable)
    return tuple(
        Headline(
            "15 values taken from one PC",
            f"{ours:,.0f}/s, on disk before the answer",
            each.what,
            f"{each.figures['pushes_per_s']:,.0f}/s, in memory",
            times(ours, each.figures["pushes_per_s"]),
        )
        for each in pushed
    )


def _closed_table(runs: dict[str, list[dict[str, Any]]], rates: dict[str, list[float]]) -> Table:
    durable = statistics.median(rates[DURABLE])
    rows = tuple(
        (
            name,
            spread(rates[name]),
            times(durable, statistics.median(rates[name])),
            _latency(runs[name], "p50"),
            _latency(runs[name], "p99"),
            _errors(runs[name]),
            "yes" if any(run["was_generator_the_bottleneck"] for run in runs[name]) else "no",
        )
        for name in runs
    )
    head = ("closed loop", "answers/s", "durable / this", "p50 ms", "p99 ms", "errors", "was the generator the limit")
    return Table(f"{CONNECTIONS} connections, median of {len(rates[DURABLE])} (range)", head, rows)


def _open_table(runs: Sequence[dict[str, Any]]) -> Table:
    row = (
        spread([run["asked_per_s"] for run in runs]),
        spread([run["answered_per_s"] for run in runs]),
        *(_latency(runs, name) for name in ("p50", "p99", "p99.9", "max")),
        _errors(runs),
    )
    head = ("asked/s", "answered/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "errors")
    title = f"Open loop at {OPEN_LOOP_SHARE:.0%} of the closed loop just before, from the moment each was due; median"
    return Table(f"{title} of {len(runs)} (range)", head, (row,))


def _push_tables(pushed: Sequence[Pushed]) -> tuple[Table, ...]:
    rows = tuple(
        (each.what, *(f"{each.figures[name]:,.1f}" for name in ("pushes_per_s", "p50_ms", "p99_ms"))) for each in pushed
    )
    head = ("pushgateway", "pushes/s", "p50 ms", "p99 ms")
    return (Table("15 values a push, 8 connections", head, rows),) if rows else ()


def _latency(runs: Sequence[dict[str, Any]], name: str) -> str:
    """Render one percentile of all runs; where nobody was answered there is none."""
    known = [run["latency_ms"][name] for run in runs if run["latency_ms"][name] is not None]
    return spread(known, digits=1) if known else "-"


def _errors(runs: Sequence[dict[str, Any]]) -> str:
    return str(sum(count for run in runs for count in run["errors"].values()))


def _notes(runs: dict[str, list[dict[str, Any]]], open_loops: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    own_cores = max(run["own_cpu_cores"] for each in runs.values() for run in each)
    return (
        f"{PCS:,} PCs in turn; a heartbeat is answered after its commit reached the disk (`synchronous=FULL`).",
        "Server and generator have a core each; the pushgateway may use both.",
        "The server without storing is the same code with the one call that stores replaced; it kept nothing.",
        f"The generator used {own_cores:.2f} cores at most.",
        f"{sum(run['unsent_at_the_end'] for run in open_loops)} requests of the open loops were never sent.",
        "A pushgateway checks each push against everything it holds, so its cost grows with the groups.",
        "A pushgateway keeps the newest values of each group in memory, and writes its file now and then.",
    )
