"""`reco3 swarm keys|run|load|verify`: plans a run, starts the workers, and tells what came of it.

It changes nothing on the server beyond what agents and an operator may say to it.
"""

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from reco3.swarm.arguments import parse_arguments
from reco3.swarm.fleets import Fleet, FleetResult
from reco3.swarm.ledger import Ledger, read_ledger, write_ledger
from reco3.swarm.loads import Load
from reco3.swarm.operators import CommandDesk, OperatorApi, read_operator_key
from reco3.swarm.plans import CommandPlan, FleetPlan, LoadPlan, shares
from reco3.swarm.reporting import load_report, load_text, run_report, run_text, verdict_text
from reco3.swarm.requests import agent_id, agent_key
from reco3.swarm.tallies import Tally
from reco3.swarm.targets import BadUsage, SwarmFailed
from reco3.swarm.verifying import ApiRecord, DatabaseRecord, Record, Verdict, verify
from reco3.swarm.workers import Workers, raise_descriptor_limit, workers_for

FORK_S = 0.3
SPARE_FOR_LAST_COMMAND_S = 5.0
KEYS_PER_WRITE = 1000


class Exit(IntEnum):
    """What a script learns from the exit code."""

    DONE = 0
    FAILED = 1
    BAD_USAGE = 2


def main(argv: Sequence[str]) -> int:
    """Carry out one verb; returns the exit code."""
    try:
        options = parse_arguments(argv)
        return _verbs[options.verb](options)
    except BadUsage as err:
        return _complain(str(err), Exit.BAD_USAGE)
    except SwarmFailed as err:
        return _complain(str(err), Exit.FAILED)
    except SystemExit as err:
        return int(err.code or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


def _keys(options: argparse.Namespace) -> Exit:
    for first in range(0, options.pcs, KEYS_PER_WRITE):
        numbers = range(first, min(first + KEYS_PER_WRITE, options.pcs))
        sys.stdout.write("".join(f"{agent_id(number)}={agent_key(options.seed, number)}\n" for number in numbers))
    return Exit.DONE


def _run(options: argparse.Namespace) -> Exit:
    plan = _fleet_plan(options)
    key = read_operator_key(options.operator_key_file, plan.target)
    record = _record(options, key)
    count = options.workers or workers_for(_sockets(plan), raise_descriptor_limit())
    jobs = [
        functools.partial(Fleet, _share_of_connections(plan, count), numbers, worker=worker)
        for worker, numbers in enumerate(shares(plan.pcs, count))
    ]
    workers = Workers(jobs)
    desk = CommandDesk(_command_plan(options, plan, key), plan.target, pcs=plan.pcs, seed=plan.seed)
    while not workers.wait(desk.wait_s()):
        desk.ask_due()
    desk.close()
    tally, ledger = _sum(plan.epoch, workers.results())
    ledger.asked = desk.asked
    if desk.refused:
        tally.errors["command refused"] += desk.refused
        sys.stderr.write(f"reco3 swarm: {desk.refused} commands were not taken; the last: {desk.last_refusal}\n")
    if options.ledger:
        _written(options.ledger, lambda: write_ledger(ledger, options.ledger))
    verdict = verify(ledger, record) if record else None
    report = run_report(tally, ledger, verdict, pcs=plan.pcs, workers=count)
    _tell(report, run_text(report), options.json)
    return _exit(tally, verdict)


def _load(options: argparse.Namespace) -> Exit:
    count = options.workers or workers_for(options.connections, raise_descriptor_limit())
    plan = _load_plan(options)
    jobs = [
        functools.partial(
            Load,
            plan,
            numbers,
            worker=worker,
            connections=len(connections),
            rate=None if plan.rate is None else plan.rate / count,
        )
        for worker, (numbers, connections) in enumerate(
            zip(shares(plan.pcs, count), shares(plan.connections, count), strict=True)
        )
    ]
    tally, _ = _sum(plan.epoch, Workers(jobs).results())
    report = load_report(tally, connections=plan.connections, rate=plan.rate, workers=count)
    _tell(report, load_text(report), options.json)
    return Exit.DONE if tally.answered else Exit.FAILED


def _verify(options: argparse.Namespace) -> Exit:
    ledger = read_ledger(options.ledger)
    options.verify = True
    key = read_operator_key(options.operator_key_file, options.target) if options.target else None
    record = _record(options, key)
    if record is None:
        raise BadUsage("expected --database FILE or --base-url URL")
    verdict = verify(ledger, record)
    sys.stdout.write(verdict_text(verdict) + "\n")
    return Exit.DONE if verdict.is_clean else Exit.FAILED


def _fleet_plan(options: argparse.Namespace) -> FleetPlan:
    return FleetPlan(
        target=options.target,
        pcs=options.pcs,
        seed=options.seed,
        seconds=options.seconds,
        epoch=_new_epoch(),
        starts_at=time.monotonic() + FORK_S + options.pcs / 100_000,
        start_spread_s=options.start_spread_s,
        heartbeat_s=options.heartbeat_s,
        pull_wait_s=options.pull_wait,
        held_pulls=options.held_pulls,
        logs_per_minute=options.logs_per_minute,
        failure_probability=options.failure_probability,
        shared_connections=options.connections,
    )


def _load_plan(options: argparse.Namespace) -> LoadPlan:
    return LoadPlan(
        target=options.target,
        pcs=options.pcs,
        seed=options.seed,
        seconds=options.seconds,
        warm_up_s=options.warm_up_s,
        starts_at=time.monotonic() + FORK_S + (options.pcs + options.connections) / 20_000,
        connections=options.connections,
        rate=options.rate,
        path=options.path,
        method=options.method,
        epoch=_new_epoch(),
    )


def _command_plan(options: argparse.Namespace, plan: FleetPlan, key: str | None) -> CommandPlan:
    # A PC must have been heard of before it can be given a command; the last ones need time to arrive, and a PC whose
    # pull is not held hears of it with its next heartbeat.
    spare_s = min(plan.heartbeat_s + SPARE_FOR_LAST_COMMAND_S, (plan.ends_at - plan.measured_from) / 2)
    return CommandPlan(options.commands, key, plan.measured_from, plan.ends_at - spare_s)


def _record(options: argparse.Namespace, key: str | None) -> Record | None:
    if options.database is not None:
        return DatabaseRecord(options.database)
    return ApiRecord(OperatorApi(options.target, key)) if options.verify or key else None


def _sockets(plan: FleetPlan) -> int:
    held = min(plan.held_pulls, plan.pcs)
    return 2 * plan.pcs if plan.shared_connections is None else plan.shared_connections * 2 + held


def _share_of_connections(plan: FleetPlan, workers: int) -> FleetPlan:
    if plan.shared_connections is None:
        return plan
    return replace(plan, shared_connections=max(1, plan.shared_connections // workers))


def _sum(epoch: str, results: Sequence[FleetResult]) -> tuple[Tally, Ledger]:
    tally, ledger = Tally(), Ledger(epoch)
    for result in results:
        tally.add(result.tally)
        ledger.append(result.ledger)
    return tally, ledger


def _tell(report: Mapping[str, Any], text: str, path: Path | None) -> None:
    sys.stdout.write(text + "\n")
    if path:
        _written(path, lambda: path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8"))


def _written(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as err:
        raise SwarmFailed(f"cannot write {path}: {err.strerror}") from err


def _exit(tally: Tally, verdict: Verdict | None) -> Exit:
    is_clean = verdict is None or verdict.is_clean
    return Exit.DONE if is_clean and tally.answered else Exit.FAILED


def _new_epoch() -> str:
    """A name for this run that no other run has: its books must not mix with those of the one before."""
    return f"{time.time_ns():x}"


def _complain(text: str, code: Exit) -> Exit:
    sys.stderr.write(f"reco3 swarm: {text}\n")
    return code


_verbs: Mapping[str, Callable[[argparse.Namespace], Exit]] = {
    "keys": _keys,
    "run": _run,
    "load": _load,
    "verify": _verify,
}
