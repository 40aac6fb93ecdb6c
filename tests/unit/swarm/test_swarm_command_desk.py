"""The operator of a simulated fleet: what he has not asked for in time he asks for no more."""

import time

from swarm_builders import plan

from reco3.swarm.operators import CommandDesk
from reco3.swarm.plans import CommandPlan


def desk(*, first_in_s: float, last_in_s: float) -> tuple[CommandDesk, list[int]]:
    now = time.monotonic()
    made = CommandDesk(CommandPlan(3, None, now + first_in_s, now + last_in_s), plan().target, pcs=100, seed="1")
    asked: list[int] = []

    def create_command(number: int) -> str:
        asked.append(number)
        return f"c-{number}"

    made._api.create_command = create_command  # type: ignore[method-assign]
    return made, asked


def test_commands_that_are_due_are_asked_for_each_from_another_pc() -> None:
    made, asked = desk(first_in_s=-60.0, last_in_s=39.0)

    for _ in range(5):
        made.ask_due()

    assert len(set(asked)) == 2
    assert len(made.asked) == 2
    assert made.wait_s()


def test_nothing_is_asked_for_after_the_last_moment() -> None:
    made, asked = desk(first_in_s=-60.0, last_in_s=-0.001)

    made.ask_due()

    assert asked == []
    assert made.wait_s() is None
