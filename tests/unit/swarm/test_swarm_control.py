"""A simulated PC asks as a real agent does: one pull after the other, later when told so, at once when woken."""

import json
import random
import time
from typing import Any

import pytest
from swarm_builders import answer, book, pc, plan

from reco3.swarm.connections import Errand, Kind, Trouble
from reco3.swarm.control import Control
from reco3.swarm.pcs import SimulatedPc

CHANCE = random.Random(1)  # noqa: S311 - repeats with its seed, guards nothing


class Desk:
    """A PC's control with the requests that it sent."""

    def __init__(self, pc: SimulatedPc, **changes: Any) -> None:
        self.sent: list[Errand] = []
        self.pc = pc
        self.control = Control(plan(**changes), book(), send=self.sent.append, chance=CHANCE)
        self.control.begin(pc)
        self.control.advance(time.monotonic() + 0.1)

    def answer(self, body: dict[str, Any], *, status: int = 200, took_s: float = 20.0) -> None:
        self.control.answered(self.sent[-1], answer(json.dumps(body), status), time.monotonic() - took_s)

    @property
    def kinds(self) -> list[Kind]:
        return [errand.kind for errand in self.sent]


def order(command_id: str = "c-1", command_type: str = "SET_MODE", **payload: Any) -> dict[str, Any]:
    return {"id": command_id, "type": command_type, "payload_json": json.dumps(payload or {"mode": "SAFE"})}


def test_a_pull_follows_the_other() -> None:
    desk = Desk(pc())

    desk.answer({"commands": []})

    assert desk.kinds == [Kind.PULL, Kind.PULL]


def test_a_server_that_will_not_hold_is_asked_again_when_it_says() -> None:
    desk = Desk(pc())

    desk.answer({"commands": [], "poll_after_s": 60}, took_s=0.0)

    assert desk.kinds == [Kind.PULL]
    assert 47 <= desk.pc.control_at - time.monotonic() <= 73


def test_a_pc_that_rests_asks_at_once_when_something_waits() -> None:
    desk = Desk(pc())
    desk.answer({"commands": [], "poll_after_s": 60}, took_s=0.0)

    desk.control.wake(desk.pc)

    assert desk.kinds == [Kind.PULL, Kind.PULL]


def test_a_pc_that_is_asking_is_not_woken() -> None:
    desk = Desk(pc())

    desk.control.wake(desk.pc)

    assert desk.kinds == [Kind.PULL]


def test_a_pc_without_a_held_pull_asks_only_when_something_waits() -> None:
    desk = Desk(pc(5), held_pulls=5)
    assert desk.kinds == []

    desk.control.wake(desk.pc)
    desk.answer({"commands": []}, took_s=0.0)

    assert desk.kinds == [Kind.PULL]


def test_a_server_that_cannot_hold_is_polled_after_some_quick_answers() -> None:
    desk = Desk(pc())

    for _ in range(3):
        desk.answer({"commands": []}, took_s=0.0)

    assert desk.kinds == [Kind.PULL] * 3
    assert desk.pc.is_resting


def test_a_command_is_reported_before_the_next_pull() -> None:
    desk = Desk(pc())

    desk.answer({"commands": [order("c-1"), order("c-2")]})
    desk.answer({"status": "ok"})
    desk.answer({"status": "ok"})

    assert desk.kinds == [Kind.PULL, Kind.REPORT, Kind.REPORT, Kind.PULL]
    assert desk.pc.mode == b'"SAFE"'
    assert all(arrival.is_reported for arrival in desk.control.arrivals.values())


def test_a_command_that_comes_again_is_carried_out_once_and_reported_again() -> None:
    desk = Desk(pc())
    desk.answer({"commands": [order("c-1", mode="SAFE")]})
    desk.answer({"status": "ok"})
    desk.pc.mode = b'"NORMAL"'

    desk.answer({"commands": [order("c-1", mode="SAFE")]})

    assert desk.kinds == [Kind.PULL, Kind.REPORT, Kind.PULL, Kind.REPORT]
    assert desk.pc.mode == b'"NORMAL"'
    assert desk.control.arrivals["c-1"].deliveries == 2


def test_a_strong_command_is_known_as_one() -> None:
    desk = Desk(pc())

    desk.answer({"commands": [order("c-1", "RESTART_PROCESS", process="nginx")]})

    assert desk.control.arrivals["c-1"].is_strong


def test_a_report_that_was_cut_off_is_sent_again_after_a_pause() -> None:
    desk = Desk(pc())
    desk.answer({"commands": [order("c-1")]})

    desk.control.failed(desk.sent[-1], Trouble.CUT)
    assert desk.kinds == [Kind.PULL, Kind.REPORT]
    desk.control.advance(time.monotonic() + 2.0)
    # The wheel is early here, the PC's own clock is not: it does not ask before its time.
    assert desk.kinds == [Kind.PULL, Kind.REPORT]

    desk.pc.control_at = time.monotonic()
    desk.control.wake(desk.pc)
    assert desk.kinds == [Kind.PULL, Kind.REPORT, Kind.REPORT]
    assert not desk.control.arrivals["c-1"].is_reported


@pytest.mark.parametrize("status", [400, 404, 409])
def test_a_report_that_the_server_will_never_take_is_dropped(status: int) -> None:
    desk = Desk(pc())
    desk.answer({"commands": [order("c-1")]})

    desk.answer({"error": "no"}, status=status)

    assert desk.kinds == [Kind.PULL, Kind.REPORT, Kind.PULL]
    assert not desk.control.arrivals["c-1"].is_reported


def test_an_answer_without_sense_is_no_command() -> None:
    desk = Desk(pc())

    desk.control.answered(desk.sent[-1], answer("<html>"), time.monotonic() - 20)

    assert desk.control.arrivals == {}
    assert desk.kinds == [Kind.PULL, Kind.PULL]
