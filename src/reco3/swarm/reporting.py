"""What a run is told as: a table for a person, JSON for a program.

It says plainly when the swarm itself was what held the figures down.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from reco3.swarm.connections import Kind
from reco3.swarm.histograms import Histogram
from reco3.swarm.ledger import Ledger
from reco3.swarm.tallies import Tally
from reco3.swarm.verifying import Verdict

LATE_S = 0.05
SATURATED = 0.97
BOTTLENECK = "the generator was the bottleneck"
_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
_MIB = 1024 * 1024

Json = dict[str, Any]


def run_report(tally: Tally, ledger: Ledger, verdict: Verdict | None, *, pcs: int, workers: int) -> Json:
    """Everything about a run of a fleet."""
    seconds = max(tally.measured_s, 1e-9)
    report: Json = {
        "pcs": pcs,
        "workers": workers,
        "started_at": round(tally.started_at, 3),
        "measured_s": round(tally.measured_s, 3),
        "rates_per_s": {kind: round(tally.answered[kind] / seconds, 2) for kind in Kind},
        "log_lines_acked": tally.lines_acked,
        "log_lines_per_s": round(tally.lines_acked / max(tally.wall_s, 1e-9), 2),
        "latency_ms": {kind: _spans(tally.latencies[kind]) for kind in Kind if tally.latencies[kind].count},
        **_health(tally, workers=workers, pcs=pcs),
        "connections": {"opened": tally.opened, "reopened_stale": tally.stale},
        "heartbeats_held_up": tally.held_up,
        "commands": _commands(ledger),
        "marks": [_mark(mark.back, pcs) for mark in tally.marks],
        "timeline": {str(second): dict(counts) for second, counts in sorted(tally.timeline.items())},
    }
    if verdict is not None:
        report["ledger"] = {**asdict(verdict), "is_clean": verdict.is_clean}
    return report


def load_report(tally: Tally, *, connections: int, rate: float | None, workers: int) -> Json:
    """Everything about a load."""
    seconds = max(tally.measured_s, 1e-9)
    return {
        "mode": "closed" if rate is None else "open",
        "asked_per_s": rate,
        "connections": connections,
        "workers": workers,
        "measured_s": round(tally.measured_s, 3),
        "answered_per_s": round(tally.answered[Kind.HEARTBEAT] / seconds, 1),
        "latency_ms": _spans(tally.latencies[Kind.HEARTBEAT]),
        "unsent_at_the_end": tally.backlog,
        **_health(tally, workers=workers, pcs=connections),
    }


def run_text(report: Mapping[str, Any]) -> str:
    """A fleet's report for a person."""
    rates = report["rates_per_s"]
    lines = [
        f"{report['pcs']} PCs, {report['workers']} worker(s), {report['measured_s']:.1f} s measured",
        f"per second: {rates['heartbeat']:g} heartbeats, {rates['pull']:g} pulls, {rates['report']:g} reports",
        f"log lines acknowledged: {report['log_lines_acked']}, {report['log_lines_per_s']} per second",
        *_latency_lines(report["latency_ms"]),
        *_health_lines(report),
        f"connections: {_listed(report['connections'])}",
        *_command_lines(report["commands"]),
        *_mark_lines(report["marks"]),
        *_ledger_lines(report.get("ledger")),
    ]
    return "\n".join(lines)


def load_text(report: Mapping[str, Any]) -> str:
    """A load's report for a person."""
    asked = "" if report["asked_per_s"] is None else f" of {report['asked_per_s']:g} asked"
    lines = [
        f"{report['answered_per_s']:.0f} answers/s{asked}, measured for {report['measured_s']:.1f} s",
        f"{report['mode']} loop over {report['connections']} connections from {report['workers']} worker(s)",
        *_latency_lines({"request": report["latency_ms"]}),
        *_health_lines(report),
    ]
    if report["unsent_at_the_end"]:
        lines.append(f"{report['unsent_at_the_end']} requests that were due had not even been sent at the end")
    return "\n".join(lines)


def verdict_text(verdict: Verdict) -> str:
    """A verdict for a person."""
    return "\n".join(_ledger_lines({**asdict(verdict), "is_clean": verdict.is_clean}))


def _health(tally: Tally, *, workers: int, pcs: int) -> Json:
    lag_p99_s = tally.lags.percentile_s(99.0) or 0.0
    busy = tally.cpu_s / max(tally.wall_s, 1e-9) / workers
    return {
        "errors": dict(tally.errors.most_common()),
        "own_lag_ms": _spans(tally.lags),
        "own_cpu_cores": round(tally.cpu_s / max(tally.wall_s, 1e-9), 3),
        "own_rss_mib": round(tally.rss_bytes / _MIB, 1),
        "own_rss_kib_per_pc": round(max(0, tally.rss_bytes - tally.idle_rss_bytes) / 1024 / max(1, pcs), 2),
        "was_generator_the_bottleneck": lag_p99_s > LATE_S or busy > SATURATED,
    }


def _spans(histogram: Histogram) -> Json:
    spans = {name: histogram.percentile_s(percent) for name, percent in _PERCENTILES.items()}
    return {name: None if span is None else round(span * 1000, 3) for name, span in spans.items()}


def _commands(ledger: Ledger) -> Json:
    arrived = Histogram()
    for name, asked in ledger.asked.items():
        if name in ledger.arrivals:
            arrived.record(ledger.arrivals[name].arrived_at - asked.asked_at)
    return {
        "asked": len(ledger.asked),
        "arrived": arrived.count,
        "arrived_without_being_asked_here": sum(1 for name in ledger.arrivals if name not in ledger.asked),
        "reported": sum(1 for arrival in ledger.arrivals.values() if arrival.is_reported),
        "delivered_again": sum(1 for arrival in ledger.arrivals.values() if arrival.deliveries > 1),
        "arrival_ms": _spans(arrived),
    }


def _mark(back: Histogram, pcs: int) -> Json:
    return {"pcs_back": back.count, "pcs": pcs, "back_s": {k: v and v / 1000 for k, v in _spans(back).items()}}


def _latency_lines(latencies: Mapping[str, Mapping[str, float | None]]) -> Iterator[str]:
    yield f"{'latency, ms':14}" + "".join(f"{name:>11}" for name in _PERCENTILES)
    for kind, spans in latencies.items():
        yield f"  {kind:12}" + "".join(f"{_shown(spans[name]):>11}" for name in _PERCENTILES)


def _health_lines(report: Mapping[str, Any]) -> Iterator[str]:
    errors = report["errors"]
    yield "errors: " + (", ".join(f"{count} {kind}" for kind, count in errors.items()) if errors else "none")
    lag = report["own_lag_ms"]
    yield (
        f"the swarm itself: {report['own_cpu_cores']:.2f} cores, {report['own_rss_mib']:.0f} MiB "
        f"({report['own_rss_kib_per_pc']:.1f} KiB more for each), late by {_shown(lag['p99'])} ms at p99"
    )
    if report["was_generator_the_bottleneck"]:
        yield BOTTLENECK


def _command_lines(commands: Mapping[str, Any]) -> Iterator[str]:
    if commands["asked"]:
        spans = commands["arrival_ms"]
        yield (
            f"commands: {commands['arrived']} of {commands['asked']} arrived, "
            f"p50 {_shown(spans['p50'])} ms, p99 {_shown(spans['p99'])} ms, max {_shown(spans['max'])} ms; "
            f"{commands['reported']} reported, {commands['delivered_again']} delivered more than once"
        )


def _mark_lines(marks: list[Mapping[str, Any]]) -> Iterator[str]:
    for mark in marks:
        back = mark["back_s"]
        yield (
            f"after the mark: {mark['pcs_back']} of {mark['pcs']} PCs had a heartbeat acknowledged, "
            f"p50 {back['p50']} s, p99 {back['p99']} s, the last after {back['max']} s"
        )


def _ledger_lines(ledger: Mapping[str, Any] | None) -> Iterator[str]:
    if ledger is None:
        yield "ledger: not verified (give --database FILE or --operator-key-file FILE with --verify)"
        return
    yield (
        f"ledger: {ledger['lines_acked']} log lines acknowledged, {ledger['lines_lost']} lost, "
        f"{ledger['lines_duplicated']} stored twice"
    )
    yield f"  last heartbeats of {ledger['heartbeats_checked']} PCs, {ledger['heartbeats_lost']} lost"
    yield (
        f"  {ledger['commands_asked']} commands asked, {ledger['commands_not_arrived']} not arrived; "
        f"{ledger['reports_acked']} reports acknowledged, {ledger['reports_lost']} lost"
    )
    yield from (f"  {example}" for example in ledger["examples"])
    yield "ledger: clean" if ledger["is_clean"] else "ledger: NOT CLEAN"


def _listed(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{count:g} {name.replace('_', ' ')}" for name, count in counts.items())


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"
