"""Does what was decided: one small function a command type.

It refuses to decide: whoever calls it has an `Allowed` in hand and has recorded in the journal that acting begins.
"""

import logging
from dataclasses import replace
from typing import Any, assert_never

from reco3.agent import failpoints, limit_drivers, programs, rate_limits
from reco3.agent.jobs import Job, failed, succeeded
from reco3.agent.journal import ChosenMode, Ending, Undo
from reco3.agent.log_file import log_event
from reco3.agent.rate_limits import Change, Driver, RateLimitError
from reco3.agent.security import Action, NotifyOps, Rollback, RollbackProgram, RunProgram, SetMode, SetRateLimit
from reco3.protocol.commands import CommandType, Mode, Severity

__all__ = ["Job", "carry_out", "failed"]

_severity_levels = {
    Severity.INFO: logging.INFO,
    Severity.WARN: logging.WARNING,
    Severity.ERROR: logging.ERROR,
    Severity.CRITICAL: logging.CRITICAL,
}


def carry_out(action: Action, job: Job) -> Ending:
    """Act, and say how it ended. Raises: JournalError, before anything was changed."""
    match action:
        case SetMode():
            return _set_mode(action, job)
        case NotifyOps():
            return _notify_ops(action, job)
        case SetRateLimit():
            return _set_rate_limit(action, job)
        case RunProgram():
            return programs.run_program(action, job)
        case Rollback():
            return _roll_back(action, job)
        case RollbackProgram():
            return programs.roll_back_program(action, job)
        case _:
            assert_never(action)


def _set_mode(action: SetMode, job: Job) -> Ending:
    before = job.journal.mode().mode
    result = succeeded(f"mode is {action.mode} (was {before})", mode=action.mode, previous_mode=before)
    return Ending(is_success=True, result=result, new_mode=ChosenMode(action.mode, job.command_id))


def _notify_ops(action: NotifyOps, job: Job) -> Ending:
    level = _severity_levels[action.severity]
    log_event("notify_ops", level, command_id=job.command_id, severity=action.severity, message=action.message)
    result = succeeded("written to the agent's log", severity=action.severity, message=action.message)
    return Ending(is_success=True, result=result)


def _set_rate_limit(action: SetRateLimit, job: Job) -> Ending:
    driver = limit_drivers.driver_of(job)
    try:
        change = rate_limits.plan_limit(driver, action, command_id=job.command_id, set_at=job.now_utc)
        driver.rehearse(change)
    except RateLimitError as error:
        return failed(error.code, str(error))
    # Remembered before it is made: should the PC lose power in between, undoing what was not done changes nothing.
    record = rate_limits.undo_record(driver, change)
    job.journal.remember_undo(job.command_id, kind=CommandType.SET_RATE_LIMIT, before=record)
    try:
        driver.apply(change)
    except RateLimitError as error:
        return replace(failed(error.code, str(error)), is_undo_void=error.is_restored)
    output = f"{action.endpoint} is limited to {action.limit_rps} requests/s {limit_drivers.enforcer_of(driver)}"
    return Ending(is_success=True, result=succeeded(output, **_facts(driver, change)))


def _facts(driver: Driver, change: Change) -> dict[str, Any]:
    """What tells one state of the limits from another."""
    return {
        "driver": driver.name,
        "path": str(driver.path),
        "before": {"sha256": rate_limits.digest(change.before)},
        "after": {"sha256": rate_limits.digest(change.after)},
    }


def _roll_back(action: Rollback, job: Job) -> Ending:
    undo = job.journal.last_undo() if action.command_id is None else job.journal.undo_of(action.command_id)
    if undo is None:
        return failed("nothing_to_undo", _nothing_to_undo(action.command_id))
    undo_change = _undo_mode if undo.kind == CommandType.SET_MODE else _undo_rate_limit
    try:
        return undo_change(undo, job)
    except (RateLimitError, _SupersededError) as error:
        # A change that somebody else has replaced must not stand in the way of undoing an older one.
        is_over = error.code == "superseded" and action.command_id is None
        ending = failed(error.code, f"nothing was undone: {error}")
        return replace(ending, undone=undo.id if is_over else None)


class _SupersededError(Exception):
    code = "superseded"


def _nothing_to_undo(command_id: str | None) -> str:
    if command_id is None:
        return "there is nothing to undo: this agent has made no change of mode or rate limit that is not undone yet"
    return f"there is nothing to undo: command {command_id} made no change here, or it is undone already"


def _undo_mode(undo: Undo, job: Job) -> Ending:
    now = job.journal.mode()
    if now.set_by != undo.command_id:
        raise _SupersededError(f"the mode has been changed since command {undo.command_id} set it")
    former = ChosenMode(Mode(undo.before["mode"]), undo.before["set_by"])
    output = f"mode is {former.mode} again (was {now.mode})"
    result = succeeded(output, undone_command_id=undo.command_id, mode=former.mode)
    return Ending(is_success=True, result=result, new_mode=former, undone=undo.id)


def _undo_rate_limit(undo: Undo, job: Job) -> Ending:
    driver = limit_drivers.driver_of(job)
    change = rate_limits.plan_undo(driver, undo.before, command_id=undo.command_id)
    driver.rehearse(change)
    failpoints.hit("during_act")
    driver.apply(change)
    output = f"the limit of {change.endpoint} in {driver.path} is what it was before command {undo.command_id}"
    result = succeeded(output, undone_command_id=undo.command_id, limit_rps=change.limit_rps, **_facts(driver, change))
    return Ending(is_success=True, result=result, undone=undo.id)
