"""Looks at the world before a command and, when a crash hid how it ended, after it: (before, now) → what is true.

It refuses to guess: what cannot be told from the two looks is unknown, and a person decides.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

from reco3.agent import limit_drivers, platform, rate_limits, runner, targets, verification
from reco3.agent.config import ControlConfig, WatchedProgram
from reco3.agent.jobs import Job
from reco3.agent.journal import Journal, Undo
from reco3.agent.lifecycle import Outcome, Verdict
from reco3.agent.metrics import Sighting
from reco3.agent.nginx_limits import NginxDriver
from reco3.agent.platform.service_states import Condition
from reco3.agent.rate_limits import RateLimitError
from reco3.agent.security import (
    Action,
    NotifyOps,
    Rollback,
    RollbackProgram,
    RunProgram,
    SetMode,
    SetRateLimit,
)
from reco3.agent.targets import Sight
from reco3.agent.verification import Aim, Senses
from reco3.agent.waiting import Stopwatch
from reco3.protocol.commands import CommandType

LOOK_EVERY_S = 0.25
NOT_RUN_AGAIN = "it will not be run again: request it anew if it is still wanted"


def capture(
    action: Action, control: ControlConfig, *, known: Callable[[str], Sequence[Sighting]] = lambda _name: ()
) -> dict[str, Any]:
    """Look at what a command is going to act on; of processes the oldest, all pids, and the service's state.

    `known` tells which processes of a name there were a moment ago, which makes the look a short one.
    """
    match action:
        case RunProgram() | RollbackProgram():
            program = action.program or WatchedProgram(action.process)
            return targets.look(program.name, program.service, known=known(program.name)).record()
        case SetRateLimit() | Rollback():
            return {"boot_id": platform.boot_id(), "rate_limits": _digest_now(control)}
        case SetMode() | NotifyOps():
            return {}
        case _:
            assert_never(action)


def probe(
    action: Action, before: dict[str, Any], *, control: ControlConfig, journal: Journal, command_id: str
) -> Verdict:
    """Say what became of a command that was begun and whose end nobody saw.

    What the killed agent had started may still be running: as long as that could change the answer it is waited for,
    at most for the time limit of commands.
    Raises: JournalError.
    """
    job = Job(command_id, "", control, journal, before=before)
    match action:
        case RunProgram() | RollbackProgram():
            return _probe_program(action, job)
        case SetRateLimit():
            return _probe_limit(journal.undo_of(command_id), job, is_undoing=False)
        case Rollback():
            return _probe_undo(action, job)
        case SetMode() | NotifyOps():
            return _verdict(Outcome.FAILED, f"nothing was changed; {NOT_RUN_AGAIN}", before, {})
        case _:
            assert_never(action)


@dataclass(frozen=True, slots=True)
class Finding:
    """What two looks at a target tell; `is_final` says that what still runs could not change it."""

    outcome: Outcome
    reason: str
    code: str = "interrupted"
    is_final: bool = False


def judge_restart(before: Sight, now: Sight) -> Finding:
    """Tell whether a restart took place between two looks, by the oldest process and by the service's own."""
    new_pid = _new_pid(before, now)
    if new_pid is not None:
        return Finding(Outcome.COMPLETED, f"it was restarted: process {new_pid} was not there before", is_final=True)
    if _is_same(before, now):
        return Finding(Outcome.FAILED, f"it was not restarted: it runs as it did before; {NOT_RUN_AGAIN}")
    if now.is_up:
        return Finding(Outcome.UNKNOWN, "it runs, but it cannot be told whether it was restarted; look at the PC")
    if not before.is_up:
        return Finding(Outcome.FAILED, f"it was not running before and is not running now; {NOT_RUN_AGAIN}")
    return Finding(Outcome.FAILED, "it was stopped and not started again: look at the PC", code="partial")


def judge_stop(before: Sight, now: Sight) -> Finding:
    """Tell whether a process was stopped between two looks."""
    left = now.left_from(before)
    if left:
        return Finding(Outcome.FAILED, f"it was not stopped: process {left[0].pid} runs as before; {NOT_RUN_AGAIN}")
    if now.is_up:
        return Finding(Outcome.UNKNOWN, "the processes of before are gone, but it runs again; look at the PC")
    if not before.is_up:
        return Finding(Outcome.COMPLETED, "it was not running before and is not running now", is_final=True)
    return Finding(Outcome.COMPLETED, "it is gone, by the command or by itself", is_final=True)


def judge_limit(now: str | None, *, target: str | None, former: str | None, is_loaded: bool | None) -> Finding:
    """Tell by digests whether the limits are those that were to be, or still the former ones.

    `is_loaded` says whether nginx serves with what the file holds, None where nobody has to load it.
    """
    if now not in {target, former}:
        return Finding(Outcome.UNKNOWN, "the limits are neither what they were nor what they were to be")
    if is_loaded is False:
        return Finding(Outcome.UNKNOWN, "the files are in place, but nginx does not serve with them")
    if now == target:
        return Finding(Outcome.COMPLETED, "the limits are what they were to be", is_final=True)
    return Finding(Outcome.FAILED, f"the limits are what they were before; {NOT_RUN_AGAIN}")


def _new_pid(before: Sight, now: Sight) -> int | None:
    new = now.new_since(before)
    if new and (not before.seen or before.seen[0] not in now.seen):
        return new[0].pid
    if now.service is None or before.service is None or now.service.condition is not Condition.RUNNING:
        return None
    return now.service.pid if now.service.pid != before.service.pid else None


def _is_same(before: Sight, now: Sight) -> bool:
    if before.seen:
        return before.seen[0] in now.seen
    is_known = before.service is not None and before.service.pid is not None
    return is_known and now.service is not None and now.service == before.service


def _probe_program(action: RunProgram | RollbackProgram, job: Job) -> Verdict:
    try:
        before = Sight.from_record(job.before or {})
    except (KeyError, TypeError, ValueError):
        return _verdict(Outcome.UNKNOWN, "it is not known what there was before; look at the PC", job.before, {})
    find = functools.partial(_find, action, before)
    finding, now, running = settled(
        find,
        look=functools.partial(targets.look, before.process, before.service_name),
        leftovers=functools.partial(runner.leftovers, job.command_id),
        watch=job.watch,
        settle_s=job.control.command_timeout_s,
    )
    after = now.record() | {"still_running": running}
    if finding.outcome is Outcome.COMPLETED and isinstance(action, RunProgram) and action.program is not None:
        return _verified(action.type, action.program, before=before, after=after, finding=finding, job=job)
    return _verdict(finding.outcome, finding.reason, job.before, after, code=finding.code)


def _verified(
    command_type: CommandType,
    program: WatchedProgram,
    *,
    before: Sight,
    after: dict[str, Any],
    finding: Finding,
    job: Job,
) -> Verdict:
    """It took place; whether it also worked is looked at as it would have been. Nothing is undone after a crash."""
    aim = Aim.STOPPED if command_type is CommandType.STOP_PROCESS else Aim.RESTARTED
    look = functools.partial(targets.look, program.name, program.service, job.run)
    found = verification.verify(aim, program, before=before, senses=Senses(look, job.run_argv, job.watch))
    after = after | {"verification": found.record()}
    if found.is_ok:
        return _verdict(Outcome.COMPLETED, finding.reason, job.before, after)
    reason = f"{finding.reason}; but {program.name} is not as it should be: {found.problem}"
    return _verdict(Outcome.FAILED, reason, job.before, after, code="verification_failed")


def _find(action: RunProgram | RollbackProgram, before: Sight, now: Sight) -> Finding:
    if isinstance(action, RollbackProgram):
        return Finding(Outcome.UNKNOWN, "nobody saw the end of the rollback; compare before and after, look at the PC")
    if before.boot_id != now.boot_id:
        return Finding(Outcome.UNKNOWN, "the PC was started anew meanwhile, which hides what the command did")
    return judge_stop(before, now) if action.type is CommandType.STOP_PROCESS else judge_restart(before, now)


def settled(
    find: Callable[[Sight], Finding],
    *,
    look: Callable[[], Sight],
    leftovers: Callable[[], list[int]],
    watch: Stopwatch,
    settle_s: float,
) -> tuple[Finding, Sight, list[int]]:
    """Look until nothing that the command started still runs beside its target, or until the time is over.

    What then still runs may yet change what was found, so nothing is known.
    """
    deadline_s = watch.now_s() + settle_s
    while True:
        # Asked before looking: what ends in between has had its effect by the time of the look.
        running = leftovers()
        now = look()
        others = [pid for pid in running if pid not in {one.pid for one in now.seen}]
        finding = find(now)
        is_moving = bool(others) or (now.service is not None and now.service.condition is Condition.CHANGING)
        if finding.is_final or not is_moving:
            return finding, now, others
        if watch.remaining_s(deadline_s) <= 0:
            reason = f"what it started still runs after {settle_s:g} s, and may yet have its effect; look at the PC"
            return Finding(Outcome.UNKNOWN, reason), now, others
        watch.pause(LOOK_EVERY_S)


def _probe_undo(action: Rollback, job: Job) -> Verdict:
    undo = job.journal.last_undo() if action.command_id is None else job.journal.undo_of(action.command_id)
    if undo is not None and undo.kind == CommandType.SET_RATE_LIMIT:
        verdict = _probe_limit(undo, job, is_undoing=True)
        # Used up, or the next rollback would undo the same change once more and leave the older one in force.
        return replace(verdict, undone=undo.id) if verdict.outcome is Outcome.COMPLETED else verdict
    # A mode changes in the moment in which the journal notes the end, and that did not come.
    return _verdict(Outcome.FAILED, f"nothing was undone; {NOT_RUN_AGAIN}", job.before, {})


def _probe_limit(undo: Undo | None, job: Job, *, is_undoing: bool) -> Verdict:
    if undo is None:
        return _verdict(Outcome.FAILED, f"no limit was changed; {NOT_RUN_AGAIN}", job.before, {})
    set_sha256, former_sha256 = undo.before.get("after_sha256"), rate_limits.digest(undo.before.get("text"))
    target, former = (former_sha256, set_sha256) if is_undoing else (set_sha256, former_sha256)
    driver = limit_drivers.driver_of(job)
    is_loaded = driver.is_loaded() if isinstance(driver, NginxDriver) else None
    now = _digest_now(job.control)
    finding = judge_limit(now.get("sha256"), target=target, former=former, is_loaded=is_loaded)
    if job.control.rate_limit.command is not None and finding.outcome is Outcome.FAILED:
        finding = Finding(Outcome.UNKNOWN, "the command may have run before its effect could be remembered")
    after = {"rate_limits": now, "is_loaded": is_loaded, "target_sha256": target, "former_sha256": former}
    return _verdict(finding.outcome, finding.reason, job.before, after)


def _digest_now(control: ControlConfig) -> dict[str, Any]:
    limits = control.rate_limit
    try:
        return {"path": str(limits.path), "sha256": rate_limits.digest(rate_limits.read_text(limits.path))}
    except RateLimitError as error:
        return {"path": str(limits.path), "error": str(error)}


def _verdict(
    outcome: Outcome, reason: str, before: Mapping[str, Any] | None, after: dict[str, Any], *, code: str = "interrupted"
) -> Verdict:
    evidence = {"before": dict(before or {}), "after": after, "boot_id": platform.boot_id()}
    return Verdict(outcome, reason, evidence, code)
