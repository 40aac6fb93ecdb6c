"""Takes the steps of a command one after the other: an argv each, and where a manager answers early, the waiting.

It refuses to go on after a step that failed, and beyond the time it was given.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from reco3.agent.platform.service_states import Condition, ServiceState, Step
from reco3.agent.runner import Outcome
from reco3.agent.waiting import Stopwatch, wait_for

LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of the steps: of every argv its outcome; `failed` is the one that went wrong, `problem` how."""

    outcomes: tuple[Outcome, ...] = ()
    argv: tuple[str, ...] = ()
    is_right: bool = True
    problem: str = ""


@dataclass(slots=True)
class StepTaker:
    """Runs argvs and asks for the service's state, all before `deadline_s`."""

    run: Callable[[tuple[str, ...]], Outcome]
    ask: Callable[[], ServiceState]
    watch: Stopwatch
    deadline_s: float
    outcomes: list[Outcome] = field(default_factory=list)

    def take(self, steps: tuple[Step, ...]) -> Taken:
        """Take them in order; the first that fails is the last."""
        argv: tuple[str, ...] = ()
        for step in steps:
            argv = step.argv
            outcome = self.run(argv)
            self.outcomes.append(outcome)
            if outcome.exit_code in step.instead_on:
                instead = self.take(step.instead)
                if not instead.is_right:
                    return instead
            elif outcome.exit_code not in step.accepted:
                return Taken(tuple(self.outcomes), argv, is_right=False)
            elif problem := self._wait(step.until):
                return Taken(tuple(self.outcomes), argv, is_right=False, problem=problem)
        return Taken(tuple(self.outcomes), argv)

    def _wait(self, conditions: tuple[Condition, ...]) -> str:
        """Wait until the service is as it should be; returns what it is instead when the time is over."""
        if not conditions:
            return ""
        last = ServiceState(Condition.UNKNOWN)

        def look() -> ServiceState | None:
            nonlocal last
            last = self.ask()
            return last if last.condition in conditions else None

        if wait_for(look, self.watch, deadline_s=self.deadline_s, every_s=LOOK_EVERY_S) is not None:
            return ""
        wanted = " or ".join(conditions)
        return f"the service did not become {wanted} in time, it is {last.condition}" + (
            last.word and f" ({last.word})"
        )
