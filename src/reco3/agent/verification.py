"""Looks whether a command brought about what it was to bring about: process, port, HTTP answer, a check's exit code.

It refuses to believe an exit code alone, unless the PC's config says `verify: []`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, assert_never

from reco3.agent import local_checks
from reco3.agent.config import Check, HttpStatus, RunsWell, TcpPort, UpFor, WatchedProgram
from reco3.agent.local_checks import HttpUrl, Reply
from reco3.agent.platform.service_states import Condition
from reco3.agent.runner import Outcome
from reco3.agent.targets import Seen, Sight
from reco3.agent.waiting import Stopwatch

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 1.0
LAST_LOOK_S = 0.5
MAX_DETAIL_CHARS = 120


class Aim(StrEnum):
    """What is to be true after a command."""

    RESTARTED = "restarted"
    STOPPED = "stopped"
    UP = "up"


@dataclass(frozen=True, slots=True)
class Checked:
    """How one check went the last time that it was made."""

    check: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Every check of the last round, and what was seen of the target then."""

    checks: tuple[Checked, ...]
    after: Sight

    @property
    def is_ok(self) -> bool:
        """Whether all checks held at the same time."""
        return all(checked.ok for checked in self.checks)

    @property
    def problem(self) -> str:
        """The first check that did not hold, in words."""
        return next((f"{each.check}: {each.detail}" for each in self.checks if not each.ok), "")

    def record(self) -> list[dict[str, Any]]:
        """As JSON."""
        return [asdict(checked) for checked in self.checks]


@dataclass(frozen=True, slots=True)
class Senses:
    """How to look at the PC; `run` takes an argv and a time limit in seconds."""

    look: Callable[[], Sight]
    run: Callable[[tuple[str, ...], float], Outcome]
    watch: Stopwatch = field(default_factory=Stopwatch)
    get_status: Callable[[HttpUrl, float], Reply] = lambda url, timeout_s: local_checks.get_status(
        url, timeout_s=timeout_s
    )
    connect: Callable[[int, float], str] = lambda port, timeout_s: local_checks.connect(port, timeout_s=timeout_s)


def verify(aim: Aim, program: WatchedProgram, *, before: Sight, senses: Senses) -> Verification:
    """Look until every check holds in the same round, or the config's `verify_timeout_s` is over."""
    deadline_s = senses.watch.now_s() + program.verify_timeout_s
    checks = _checks(aim, program)
    rounds = _Rounds(aim, before, senses, deadline_s)
    pause_s = FIRST_PAUSE_S
    while True:
        found = rounds.make(checks)
        remaining_s = senses.watch.remaining_s(deadline_s)
        if found.is_ok or remaining_s <= 0:
            return found
        senses.watch.pause(min(pause_s, remaining_s))
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)


class _Own(StrEnum):
    """Checks that nobody has to configure."""

    SERVICE_RUNS = "service"
    SERVICE_STOPPED = "service_stopped"
    NEW_PROCESS = "new_process"
    OLD_GONE = "old_processes_gone"
    UP = "process_up"


def _checks(aim: Aim, program: WatchedProgram) -> tuple[Check | _Own, ...]:
    if program.verify == ():
        return ()
    if aim is Aim.STOPPED:
        return (_Own.OLD_GONE, _Own.SERVICE_STOPPED) if program.service else (_Own.OLD_GONE,)
    own = (_Own.SERVICE_RUNS,) if program.service else ()
    if program.verify is not None:
        return (*own, *program.verify)
    return own or ((_Own.NEW_PROCESS,) if aim is Aim.RESTARTED else (_Own.UP,))


class _Rounds:
    """Makes the checks again and again; remembers since when the same process has been up."""

    def __init__(self, aim: Aim, before: Sight, senses: Senses, deadline_s: float) -> None:
        self._aim = aim
        self._before = before
        self._senses = senses
        self._deadline_s = deadline_s
        self._same: tuple[Seen, float] | None = None

    def make(self, checks: tuple[Check | _Own, ...]) -> Verification:
        """Make them in order up to the first that does not hold; those behind it count as not holding."""
        sight = self._senses.look()
        self._note_same(sight)
        made: list[Checked] = []
        for check in checks:
            if made and not made[-1].ok:
                break
            made.append(self._make(check, sight))
        missing = [Checked(_name(check), ok=False, detail="not reached") for check in checks[len(made) :]]
        return Verification((*made, *missing), sight)

    def _make(self, check: Check | _Own, sight: Sight) -> Checked:
        problem, detail = self._answer(check, sight)
        return Checked(_name(check), ok=not problem, detail=_shortened(problem or detail))

    def _answer(self, check: Check | _Own, sight: Sight) -> tuple[str, str]:
        match check:
            case _Own():
                return self._own(check, sight)
            case UpFor():
                return self._up_for(check)
            case TcpPort():
                return self._senses.connect(check.port, self._timeout_s()), "accepts connections"
            case HttpStatus():
                reply = self._senses.get_status(check.url, self._timeout_s())
                return ("" if reply.status == check.status else reply.detail), reply.detail
            case RunsWell():
                return self._runs_well(check)
            case _:
                assert_never(check)

    def _own(self, check: _Own, sight: Sight) -> tuple[str, str]:
        match check:
            case _Own.SERVICE_RUNS:
                return self._service_runs(sight)
            case _Own.SERVICE_STOPPED:
                condition = sight.service.condition if sight.service else Condition.UNKNOWN
                is_stopped = condition in {Condition.STOPPED, Condition.MISSING}
                return "" if is_stopped else f"it is {condition}", f"it is {condition}"
            case _Own.NEW_PROCESS:
                new = sight.new_since(self._before)
                return ("", f"process {new[0].pid} is up") if new else (_nothing_new(sight, self._before), "")
            case _Own.OLD_GONE:
                left = sight.left_from(self._before)
                gone = ", ".join(str(one.pid) for one in self._before.seen) or "there was none"
                return f"process {left[0].pid} is still there" if left else "", f"gone: {gone}"
            case _Own.UP:
                return "" if sight.is_up else "no process of that name is up", "a process of that name is up"

    def _service_runs(self, sight: Sight) -> tuple[str, str]:
        now, old = sight.service, self._before.service
        if now is None or now.condition is not Condition.RUNNING:
            return f"it is {now.condition if now else Condition.UNKNOWN}" + (f" ({now.word})" if now else ""), ""
        is_old = self._aim is Aim.RESTARTED and old is not None and now.pid is not None and old.pid == now.pid
        return (f"it still runs as process {now.pid}" if is_old else ""), f"it runs as process {now.pid}"

    def _up_for(self, check: UpFor) -> tuple[str, str]:
        if self._same is None:
            return "no new process is up" if self._aim is Aim.RESTARTED else "no process of that name is up", ""
        process, since_s = self._same
        lasted_s = self._senses.watch.now_s() - since_s
        detail = f"process {process.pid} has been up for {lasted_s:.1f} s"
        return ("" if lasted_s >= check.up_s else detail), detail

    def _note_same(self, sight: Sight) -> None:
        candidates = sight.new_since(self._before) if self._aim is Aim.RESTARTED else sight.seen
        if not candidates:
            self._same = None
        elif self._same is None or self._same[0] not in candidates:
            self._same = (candidates[0], self._senses.watch.now_s())

    def _runs_well(self, check: RunsWell) -> tuple[str, str]:
        outcome = self._senses.run(check.argv, self._timeout_s())
        if outcome.exit_code == 0:
            return "", "exit code 0"
        if outcome.timed_out:
            return "it did not end in time", ""
        last_line = outcome.output.strip().rpartition("\n")[2]
        return f"exit code {outcome.exit_code}" + (f": {last_line}" if last_line else ""), ""

    def _timeout_s(self) -> float:
        return max(LAST_LOOK_S, self._senses.watch.remaining_s(self._deadline_s))


def _nothing_new(sight: Sight, before: Sight) -> str:
    left = sight.left_from(before)
    return f"process {left[0].pid} is still the old one" if left else "no process of that name is up"


def _name(check: Check | _Own) -> str:
    match check:
        case _Own():
            return str(check)
        case UpFor():
            return f"up_s {check.up_s:g}"
        case TcpPort():
            return f"tcp_port {check.port}"
        case HttpStatus():
            return f"http {check.url} {check.status}"
        case RunsWell():
            return _shortened(f"argv {' '.join(check.argv)}")
        case _:
            assert_never(check)


def _shortened(text: str) -> str:
    clean = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return clean if len(clean) <= MAX_DETAIL_CHARS else clean[:MAX_DETAIL_CHARS] + "…"
