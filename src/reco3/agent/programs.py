"""Restarts, stops and rolls back a watched process: act, look whether it worked, and undo when the config says so.

It refuses to call an exit code of 0 a success before the target has been looked at.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from reco3.agent import platform, targets, verification
from reco3.agent.config import OnFailure, WatchedProgram
from reco3.agent.jobs import Job, failed
from reco3.agent.journal import Ending
from reco3.agent.platform.service_states import ServiceVerb, Step
from reco3.agent.runner import Outcome
from reco3.agent.security import RollbackProgram, RunProgram
from reco3.agent.services import StepTaker, Taken
from reco3.agent.targets import Sight
from reco3.agent.verification import Aim, Senses, Verification
from reco3.protocol.commands import CommandType
from reco3.protocol.limits import MAX_RESULT_BYTES

MAX_ERROR_CHARS = 300
MAX_WORDS_SHOWN = 50
_ROOM_FOR_THE_REST_BYTES = 2 * 1024


@dataclass(frozen=True, slots=True)
class _Act:
    """What was done to a target, and what was seen of it afterwards; `code` is empty when all went well."""

    taken: Taken
    after: Sight
    verification: Verification | None
    code: str = ""
    error: str = ""

    def facts(self) -> dict[str, Any]:
        facts = _facts(self.taken)
        return facts | {"verification": self.verification.record()} if self.verification else facts


def run_program(action: RunProgram, job: Job) -> Ending:
    """Restart or stop it."""
    program = action.program or WatchedProgram(action.process, verify=())
    aim = Aim.STOPPED if action.type is CommandType.STOP_PROCESS else Aim.RESTARTED
    before = _before(program, job)
    act = _act(aim, _steps(action, program), program, before=before, job=job)
    facts = act.facts() | {"before": _shown(before), "after": _shown(act.after)}
    if act.code and aim is Aim.RESTARTED and act.code != "cannot_start":
        facts |= _undone(act, program, job)
    return _ending(act, facts)


def roll_back_program(action: RollbackProgram, job: Job) -> Ending:
    """Run the configured rollback, and look whether the process is as it should be then."""
    before = _before(action.program, job)
    act = _roll_back(action.program, before=before, job=job)
    return _ending(act, act.facts() | {"before": _shown(before), "after": _shown(act.after)})


def _ending(act: _Act, facts: Mapping[str, Any]) -> Ending:
    if not act.code:
        return Ending(is_success=True, result=_fitted({"success": True, **facts}))
    ending = failed(act.code, _with_undoing(act.error, facts), **facts)
    return replace(ending, result=_fitted(ending.result))


def _before(program: WatchedProgram, job: Job) -> Sight:
    """What the journal holds; a record that cannot be read, such as another release's, is taken anew."""
    try:
        return Sight.from_record(job.before or {})
    except (KeyError, TypeError, ValueError):
        return targets.look(program.name, program.service, job.run)


def _steps(action: RunProgram, program: WatchedProgram) -> tuple[Step, ...]:
    if program.service:
        verb = ServiceVerb.STOP if action.type is CommandType.STOP_PROCESS else ServiceVerb.RESTART
        return platform.service_steps(verb, program.service)
    return tuple(Step(argv) for argv in action.argvs)


def _act(aim: Aim, steps: tuple[Step, ...], program: WatchedProgram, *, before: Sight, job: Job) -> _Act:
    """Take the steps within the time limit of commands; then look, within that of verifications."""
    deadline_s = job.watch.now_s() + job.control.command_timeout_s
    taker = StepTaker(
        run=lambda argv: job.run_argv(argv, job.watch.remaining_s(deadline_s)),
        ask=functools.partial(targets.service_state, program.service, job.run),
        watch=job.watch,
        deadline_s=deadline_s,
    )
    taken = taker.take(steps)
    look = functools.partial(targets.look, program.name, program.service, job.run)
    if not taken.is_right:
        code, error = _failure(taken, job.control.command_timeout_s)
        return _Act(taken, look(), None, code, error)
    found = verification.verify(aim, program, before=before, senses=Senses(look, job.run_argv, job.watch))
    if found.is_ok:
        return _Act(taken, found.after, found)
    error = f"{program.name} is not as it should be {program.verify_timeout_s:g} s later: {found.problem}"
    return _Act(taken, found.after, found, "verification_failed", error)


def _undone(act: _Act, program: WatchedProgram, job: Job) -> dict[str, Any]:
    """Undo a restart that left the process broken.

    After a command that failed that is so only when nothing runs any more: one that gave up before it touched the
    process has left nothing to undo.
    """
    is_broken = act.verification is not None or not act.after.is_up
    if program.on_failure is not OnFailure.ROLLBACK or not is_broken:
        return {"rolled_back": False}
    back = _roll_back(program, before=act.after, job=job)
    result = {"success": not back.code, **back.facts(), "after": _shown(back.after)}
    if back.code:
        result |= {"code": back.code, "error": back.error}
    return {"rolled_back": not back.code, "rollback": result}


def _with_undoing(error: str, facts: Mapping[str, Any]) -> str:
    if "rollback" not in facts:
        return error
    if facts["rolled_back"]:
        return f"{error}; it was rolled back by itself, and that was verified"
    return f"{error}; rolling it back failed too: {facts['rollback']['error']}"


def _roll_back(program: WatchedProgram, *, before: Sight, job: Job) -> _Act:
    return _act(Aim.UP, (Step(program.rollback_argv),), program, before=before, job=job)


def _shown(sight: Sight) -> dict[str, Any]:
    return {
        "pids": [one.pid for one in sight.seen],
        "create_time_ms": sight.seen[0].create_time_ms if sight.seen else None,
        "service": asdict(sight.service) if sight.service else None,
    }


def _facts(taken: Taken) -> dict[str, Any]:
    last = taken.outcomes[-1]
    return {
        "argv": [word[:MAX_ERROR_CHARS] for word in taken.argv[:MAX_WORDS_SHOWN]],
        "exit_code": last.exit_code,
        "output": "".join(readable(outcome.output) for outcome in taken.outcomes),
        "output_cut": any(outcome.was_cut for outcome in taken.outcomes),
        "timed_out": last.timed_out,
        "duration_ms": sum(outcome.duration_ms for outcome in taken.outcomes),
    }


def _failure(taken: Taken, timeout_s: float) -> tuple[str, str]:
    outcome, program = taken.outcomes[-1], taken.argv[0]
    if taken.problem:
        return "timed_out", f"{program} went well, but {taken.problem} ({timeout_s:g} s)"
    return failure_of(program, outcome, timeout_s)


def failure_of(program: str, outcome: Outcome, timeout_s: float) -> tuple[str, str]:
    """Say why an argv counts as failed: a code and a sentence."""
    if outcome.timed_out:
        return "timed_out", f"{program} and what it started were killed after {timeout_s:g} s"
    if outcome.exit_code is None:
        return "cannot_start", outcome.output[:MAX_ERROR_CHARS]
    ending = f"exit code {outcome.exit_code}" if outcome.exit_code >= 0 else f"signal {-outcome.exit_code}"
    last_line = readable(outcome.output).strip().rpartition("\n")[2][:MAX_ERROR_CHARS]
    return "command_failed", f"{program} ended with {ending}" + (f": {last_line}" if last_line else "")


def readable(output: str) -> str:
    """Line ends as one character and everything unprintable marked: the text is shown to people."""
    lines = output.replace("\r\n", "\n")
    return "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in lines)


def _fitted(result: dict[str, Any]) -> dict[str, Any]:
    """Keep the tails of the outputs that fit a report, even when every character of them has to be escaped."""
    room_bytes = MAX_RESULT_BYTES - _ROOM_FOR_THE_REST_BYTES
    while len(json.dumps(result)) > room_bytes and (result["output"] or result.get("rollback", {}).get("output")):
        result = _shortened(result)
        if "rollback" in result:
            result["rollback"] = _shortened(result["rollback"])
    return result


def _shortened(result: Mapping[str, Any]) -> dict[str, Any]:
    output = result["output"]
    return {**result, "output": output[len(output) // 4 + 1 :], "output_cut": result["output_cut"] or bool(output)}
