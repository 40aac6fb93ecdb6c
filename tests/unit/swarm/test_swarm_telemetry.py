"""A simulated PC tells as a real agent does: heartbeats first, lines again until they are acknowledged."""

import json
import random
import time
from typing import Any

import pytest
from swarm_builders import answer, book, pc, plan

from reco3.swarm.connections import Errand, Kind, Trouble
from reco3.swarm.pcs import SimulatedPc
from reco3.swarm.tallies import Mark, Tally
from reco3.swarm.telemetry import Telemetry

SOON_S = 0.2


CHANCE = random.Random(1)  # noqa: S311 - repeats with its seed, guards nothing


class Teller:
    """A PC's telemetry with the requests that it sent, begun now."""

    def __init__(self, **changes: Any) -> None:
        self.sent: list[Errand] = []
        self.woken: list[SimulatedPc] = []
        self.tally = Tally()
        self.pc = pc(began_at=time.monotonic())
        self.telemetry = Telemetry(
            plan(**changes),
            book(),
            tally=self.tally,
            send=self.sent.append,
            wake=self.woken.append,
            chance=CHANCE,
        )
        self.telemetry.begin(self.pc)
        self.telemetry.advance(time.monotonic() + SOON_S)

    def answer(self, body: str = '{"status":"ok"}', *, status: int = 200, retry_after: bytes | None = None) -> None:
        self.telemetry.answered(self.sent[-1], answer(body, status, retry_after), time.monotonic())

    def send_logs(self) -> None:
        """As if the time of the next batch had come."""
        self.pc.logs_at = time.monotonic()
        self.telemetry._logs_due(self.pc)

    @property
    def kinds(self) -> list[Kind]:
        return [errand.kind for errand in self.sent]

    @property
    def last_body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.sent[-1].request.partition(b"\r\n\r\n")[2])
        return body


def aged(teller: Teller, seconds: float) -> Teller:
    """As if the PC had begun so long ago, and so had written lines."""
    teller.pc.began_at -= seconds
    return teller


def test_the_next_heartbeat_keeps_its_phase_however_late_the_answer_comes() -> None:
    teller = Teller()
    due_at = teller.sent[0].scheduled_at

    teller.answer()

    assert teller.kinds == [Kind.HEARTBEAT]
    assert teller.pc.heartbeat_at == pytest.approx(due_at + 10.0)
    assert teller.pc.heartbeat_acked_at > 0


def test_a_heartbeat_that_was_cut_off_is_not_counted_as_acknowledged() -> None:
    teller = Teller()

    teller.telemetry.failed(teller.sent[0], Trouble.CUT)

    assert teller.pc.heartbeat_acked_at == 0
    assert 0.4 <= teller.pc.heartbeat_at - time.monotonic() <= 1.1


def test_a_server_that_asks_for_time_gets_it() -> None:
    teller = Teller()

    teller.answer("{}", status=503, retry_after=b"30")

    assert 23 <= teller.pc.heartbeat_at - time.monotonic() <= 37


def test_a_heartbeats_answer_wakes_the_pull() -> None:
    teller = Teller()

    teller.answer('{"status":"ok","commands_waiting":true}')

    assert teller.woken == [teller.pc]


def test_an_ordinary_answer_wakes_nobody() -> None:
    teller = Teller()

    teller.answer()

    assert teller.woken == []


def test_lines_are_sent_again_under_the_same_numbers_until_they_are_acknowledged() -> None:
    teller = aged(Teller(logs_per_minute=60.0), 30)
    teller.answer()
    teller.send_logs()
    first = teller.last_body

    teller.telemetry.failed(teller.sent[-1], Trouble.CUT)
    teller.send_logs()

    again = teller.last_body
    assert first["first_seq"] == again["first_seq"] == 1
    assert [line["msg"] for line in again["logs"]][: len(first["logs"])] == [line["msg"] for line in first["logs"]]
    assert teller.pc.acked_seq == 0


def test_only_what_the_answer_says_is_acknowledged() -> None:
    teller = aged(Teller(logs_per_minute=60.0), 30)
    teller.answer()
    teller.send_logs()

    teller.answer('{"status":"ok","count":30,"acked_seq":12}')

    assert teller.pc.acked_seq == teller.tally.lines_acked == 12
    assert teller.last_body["first_seq"] == 13


def test_a_backlog_goes_batch_by_batch() -> None:
    teller = aged(Teller(logs_per_minute=600.0), 30)
    teller.answer()
    teller.send_logs()
    assert len(teller.last_body["logs"]) == 100

    teller.answer('{"status":"ok","acked_seq":100}')

    assert teller.kinds == [Kind.HEARTBEAT, Kind.LOGS, Kind.LOGS]


def test_a_heartbeat_goes_before_a_backlog() -> None:
    teller = aged(Teller(logs_per_minute=600.0), 30)
    teller.answer()
    teller.send_logs()
    teller.pc.heartbeat_due_at = time.monotonic()

    teller.answer('{"status":"ok","acked_seq":100}')

    assert teller.kinds == [Kind.HEARTBEAT, Kind.LOGS, Kind.HEARTBEAT]


def test_lines_that_must_wait_do_not_hold_up_heartbeats() -> None:
    teller = aged(Teller(logs_per_minute=60.0), 30)
    teller.answer()
    teller.send_logs()

    teller.answer('{"error":"slow_down"}', status=429, retry_after=b"60")

    assert teller.pc.logs_at - time.monotonic() >= 47
    assert teller.pc.heartbeat_at - time.monotonic() <= 10
    assert not teller.pc.is_talking


def test_a_pc_is_back_after_a_mark_with_a_heartbeat_sent_later() -> None:
    teller = Teller()
    teller.tally.marks.append(Mark(time.monotonic() - 5))

    teller.answer()
    teller.answer()

    assert teller.tally.marks[0].back.count == 1


def test_an_answer_to_a_heartbeat_from_before_the_mark_proves_nothing() -> None:
    teller = Teller()
    teller.tally.marks.append(Mark(time.monotonic()))

    teller.telemetry.answered(teller.sent[0], answer(), time.monotonic() - 1)

    assert teller.tally.marks[0].back.count == 0
