"""Does what was decided: one small function a command type.

It refuses to decide: whoever calls it has an `Allowed` in hand and has recorded in the journal that acting begins.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, assert_never

from reco3.agent import rate_limits, runner
from reco3.agent.config import ControlConfig
from reco3.agent.journal import ChosenMode, Ending, Journal, Undo
from reco3.agent.log_file import log_event
from reco3.agent.rate_limits import RateLimitError
from reco3.agent.security import Action, NotifyOps, Rollback, RunProgram, SetMode, SetRateLimit
from reco3.protocol.commands import CommandType, Mode, Severity
from reco3.protocol.limits import MAX_RESULT_BYTES

MAX_ERROR_CHARS = 300
_ROOM_FOR_THE_REST_BYTES = 8 * 1024

_severity_levels = {
    Severity.INFO: logging.INFO,
    Severity.WARN: logging.WARNING,
    Severity.ERROR: logging.ERROR,
    Severity.CRITICAL: logging.CRITICAL,
}


@dataclass(frozen=True, slots=True)
class Job:
    """One command being carried out; `now_utc` is RFC 3339."""

    command_id: str
    now_utc: str
    control: ControlConfig
    journal: Journal
    run: Callable[[runner.Run], runner.Outcome] = runner.run


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
            return _run_program(action, job)
        case Rollback():
            return _roll_back(action, job)
        case _:
            assert_never(action)


def failed(code: str, error: str, **more: Any) -> Ending:
    """An ending that says what went wrong."""
    return Ending(is_success=False, result={"success": False, "error": error, "code": code, **more})


def _done(output: str, **more: Any) -> dict[str, Any]:
    return {"success": True, "output": output, **more}


def _set_mode(action: SetMode, job: Job) -> Ending:
    before = job.journal.mode().mode
    result = _done(f"mode is {action.mode} (was {before})", mode=action.mode, previous_mode=before)
    return Ending(is_success=True, result=result, new_mode=ChosenMode(action.mode, job.command_id))


def _notify_ops(action: NotifyOps, job: Job) -> Ending:
    level = _severity_levels[action.severity]
    log_event("notify_ops", level, command_id=job.command_id, severity=action.severity, message=action.message)
    result = _done("written to the agent's log", severity=action.severity, message=action.message)
    return Ending(is_success=True, result=result)


def _set_rate_limit(action: SetRateLimit, job: Job) -> Ending:
    path = job.control.rate_limit.path
    try:
        change = rate_limits.plan_limit(path, action, command_id=job.command_id, set_at=job.now_utc)
    except RateLimitError as error:
        return failed(error.code, str(error))
    # Remembered before it is made: should the PC lose power in between, undoing what was not done changes nothing.
    record = rate_limits.undo_record(path, action.endpoint, change)
    job.journal.remember_undo(job.command_id, kind=CommandType.SET_RATE_LIMIT, before=record)
    try:
        rate_limits.write(path, change)
    except RateLimitError as error:
        return replace(failed(error.code, str(error)), is_undo_void=True)
    output = f"{action.endpoint} is limited to {action.limit_rps} requests/s for whatever reads {path}"
    return Ending(is_success=True, result=_done(output, driver="file", path=str(path)))


def _run_program(action: RunProgram, job: Job) -> Ending:
    """Run one command after the other, all within one time limit; the first that fails is the last that runs."""
    deadline = time.monotonic() + job.control.command_timeout_s
    outcomes: list[runner.Outcome] = []
    for argv in action.argvs:
        order = runner.Run(argv, max(0.0, deadline - time.monotonic()), job.control.max_output_bytes)
        outcomes.append(job.run(order))
        if outcomes[-1].exit_code != 0:
            break
    argv, last = action.argvs[len(outcomes) - 1], outcomes[-1]
    facts = _facts(argv, outcomes)
    if last.exit_code == 0:
        return Ending(is_success=True, result={"success": True, **facts})
    code, error = _failure(argv, last, job.control.command_timeout_s)
    return failed(code, error, **facts)


def _facts(argv: tuple[str, ...], outcomes: list[runner.Outcome]) -> dict[str, Any]:
    last = outcomes[-1]
    output, was_shortened = _bounded("".join(_readable(outcome.output) for outcome in outcomes))
    return {
        "argv": list(argv)[:50],
        "exit_code": last.exit_code,
        "output": output,
        "output_cut": was_shortened or any(outcome.was_cut for outcome in outcomes),
        "timed_out": last.timed_out,
        "duration_ms": sum(outcome.duration_ms for outcome in outcomes),
    }


def _failure(argv: tuple[str, ...], outcome: runner.Outcome, timeout_s: float) -> tuple[str, str]:
    if outcome.timed_out:
        return "timed_out", f"{argv[0]} and what it started were killed after {timeout_s:g} s"
    if outcome.exit_code is None:
        return "cannot_start", outcome.output[:MAX_ERROR_CHARS]
    ending = f"exit code {outcome.exit_code}" if outcome.exit_code > 0 else f"signal {-outcome.exit_code}"
    last_line = _readable(outcome.output).strip().rpartition("\n")[2][:MAX_ERROR_CHARS]
    return "command_failed", f"{argv[0]} ended with {ending}" + (f": {last_line}" if last_line else "")


def _readable(output: str) -> str:
    """Line ends as one character and everything unprintable marked: the text is shown to people."""
    lines = output.replace("\r\n", "\n")
    return "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in lines)


def _bounded(output: str) -> tuple[str, bool]:
    """Keep the tail that fits a report even when every character of it has to be escaped."""
    room_bytes = MAX_RESULT_BYTES - _ROOM_FOR_THE_REST_BYTES
    kept = output
    while len(json.dumps(kept)) > room_bytes:
        kept = kept[len(kept) // 4 + 1 :]
    return kept, kept != output


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
    result = _done(output, undone_command_id=undo.command_id, mode=former.mode)
    return Ending(is_success=True, result=result, new_mode=former, undone=undo.id)


def _undo_rate_limit(undo: Undo, job: Job) -> Ending:
    path = job.control.rate_limit.path
    rate_limits.write(path, rate_limits.plan_undo(path, undo.before, command_id=undo.command_id))
    output = f"the limit of {undo.before['endpoint']} in {path} is what it was before command {undo.command_id}"
    return Ending(is_success=True, result=_done(output, undone_command_id=undo.command_id), undone=undo.id)
