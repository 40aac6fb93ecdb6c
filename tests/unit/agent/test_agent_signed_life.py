"""Signed commands and crashes, told with the real control, journal and verification on a simulated PC."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from simulated_pc import START, SimulatedPc

from approvers import envelope, key_file, signed
from reco3.agent.config import LimitsConfig
from reco3.agent.journal import Received
from reco3.agent.lifecycle import State
from reco3.agent.security import Order, read_order
from reco3.protocol.envelope import EnvelopePolicy, signed_envelope_shape

ALICE, BOB = key_file("alice"), key_file("bob")
UNLIMITED = LimitsConfig(strong_per_hour=1000, cooldown_s=0)
NOW_S = int(START.timestamp())


@pytest.fixture
def pc(tmp_path: Path) -> Iterator[SimulatedPc]:
    pc = SimulatedPc(tmp_path)
    pc.reboot(approvers=(ALICE.pin,), limits=UNLIMITED)
    yield pc
    pc.journal.close()


def deliver_signed(pc: SimulatedPc, command_id: str, *, cut_at: str | None = None, **row: Any) -> None:
    pc.want(command_id)
    made = envelope(
        command_id=command_id,
        agent_epoch=pc.journal.epoch(),
        payload={"process": "web"},
        expect=None,
        created_at=NOW_S,
        expires_at=NOW_S + 900,
    )
    shape = signed_envelope_shape(signed(made, ALICE))
    pc.to_deliver = [pc.wanted[command_id].as_order() | {"envelope": shape} | row]
    pc.turn(cut_at=cut_at)


def break_glass(pc: SimulatedPc, *, handed_over_for_s: int = 60) -> str:
    """Hand a sheet over by the journal, as somebody at the PC does."""
    pc.want("sheet-1")
    made = envelope(
        command_id="sheet-1",
        agent_epoch=pc.journal.epoch(),
        payload={"process": "web"},
        expect=None,
        policy=EnvelopePolicy.BREAK_GLASS,
        created_at=NOW_S - 86_400,
        expires_at=NOW_S + 86_400,
    )
    order = Order(
        "sheet-1",
        "pc-001",
        "RESTART_PROCESS",
        '{"process": "web"}',
        envelope=signed_envelope_shape(signed(made, ALICE)),
        used_by="otto",
        signed_by=("alice",),
    )
    until = pc.now + timedelta(seconds=handed_over_for_s)
    pc.journal.receive([Received("sheet-1", "RESTART_PROCESS", '{"process": "web"}', order, until)])
    return "sheet-1"


def state(pc: SimulatedPc, command_id: str) -> State | None:
    entry = pc.journal.find(command_id)
    return entry.state if entry else None


def test_a_signed_command_runs_once_and_says_who_signed(pc: SimulatedPc) -> None:
    deliver_signed(pc, "c-1")

    assert pc.effects["c-1"] == 1
    assert pc.last_report("c-1").result["signed_by"] == ["alice"]


@pytest.mark.parametrize("cut_at", ["after_receive", "before_start"])
def test_what_a_crash_left_unbegun_is_verified_again_before_it_goes_on(pc: SimulatedPc, cut_at: str) -> None:
    deliver_signed(pc, "c-1", cut_at=cut_at)
    deliver_signed(pc, "c-1")
    deliver_signed(pc, "c-2", cut_at=cut_at)
    pc.reboot(approvers=(BOB.pin,))

    deliver_signed(pc, "c-2")

    assert pc.effects["c-1"] == 1
    assert pc.effects["c-2"] == 0
    assert pc.code("c-2") == "unpinned_key"


def test_what_waits_for_a_veto_is_verified_again_when_its_time_has_come(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=10)
    deliver_signed(pc, "c-1")
    waited = state(pc, "c-1")
    pc.reboot(approvers=(BOB.pin,))
    pc.turn()

    pc.now += timedelta(seconds=11)
    pc.turn()

    assert waited is State.ACCEPTED
    assert pc.code("c-1") == "unpinned_key"
    assert pc.effects["c-1"] == 0


def test_somebody_at_the_pc_can_veto_what_was_signed_whatever_the_row_calls_it(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=10)
    deliver_signed(pc, "c-1", type="NOTIFY_OPS", payload_json='{"severity": "INFO", "message": "nothing"}')

    assert pc.veto() == ["c-1"]
    pc.turn()
    assert pc.code("c-1") == "vetoed"


def test_time_runs_out_by_what_was_signed(pc: SimulatedPc) -> None:
    pc.now += timedelta(seconds=901)

    deliver_signed(pc, "c-1", expires_at="2099-01-01T00:00:00Z")

    assert pc.code("c-1") == "expired"
    assert pc.effects["c-1"] == 0


def test_a_sheet_acts_while_the_server_is_away_and_is_told_once_it_is_over(pc: SimulatedPc) -> None:
    pc.is_server_reachable = False
    break_glass(pc)

    pc.turn()
    pc.turn()

    assert pc.effects["sheet-1"] == 1
    assert [entry.code for entry in pc.incidents] == ["BREAK_GLASS_USED"]
    assert "sheet-1" not in pc.told
    assert pc.journal.owed_reports() == []


@pytest.mark.parametrize("cut_at", ["after_start", "during_act", "before_finish", "after_finish"])
def test_a_crash_loses_no_alarm(pc: SimulatedPc, cut_at: str) -> None:
    pc.is_server_reachable = False
    break_glass(pc)
    pc.turn(cut_at=cut_at)

    pc.turn()
    pc.turn()

    assert pc.effects["sheet-1"] <= 1
    assert [entry.code for entry in pc.incidents] == ["BREAK_GLASS_USED"]
    assert state(pc, "sheet-1") in {State.DONE, State.FAILED}


def test_an_alarm_that_was_not_kept_is_told_again_by_the_next_run(
    pc: SimulatedPc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pc, "keep_incident", lambda *_: None)
    pc.reboot()
    break_glass(pc)
    pc.turn()
    monkeypatch.undo()
    pc.reboot()

    pc.turn()

    assert [entry.code for entry in pc.incidents] == ["BREAK_GLASS_USED"]
    assert pc.effects["sheet-1"] == 1


def test_a_sheet_that_was_handed_over_and_forgotten_does_not_begin_later(pc: SimulatedPc) -> None:
    break_glass(pc)
    pc.now += timedelta(seconds=61)

    pc.turn()

    assert pc.effects["sheet-1"] == 0
    assert [entry.code for entry in pc.incidents] == ["BREAK_GLASS_REFUSED"]


def test_a_sheet_that_nobody_looked_at_is_taken_back_and_can_be_used_again(pc: SimulatedPc) -> None:
    break_glass(pc)
    was_handed_over = pc.journal.has_handed_over()

    assert pc.journal.withdraw("sheet-1")
    pc.turn()
    before = pc.effects["sheet-1"]
    break_glass(pc)
    pc.turn()

    assert was_handed_over
    assert (before, pc.effects["sheet-1"]) == (0, 1)
    assert not pc.journal.withdraw("sheet-1")


def test_the_server_can_neither_cancel_nor_pretend_to_be_somebody_at_the_pc(pc: SimulatedPc) -> None:
    order = read_order(pc.wanted[pc.want("c-1")].as_order() | {"used_by": "otto", "signed_by": ["alice"]})
    break_glass(pc)
    pc.to_cancel = ["sheet-1"]

    pc.turn()

    assert order is not None
    assert (order.used_by, order.signed_by) == (None, ())
    assert pc.effects["sheet-1"] == 1


def test_a_mode_that_somebody_chose_holds_a_sheet_back(pc: SimulatedPc) -> None:
    at_the_keyboard = pc.journal
    at_the_keyboard.choose_mode(pc.control._parts.modes.current.LOCKED)
    break_glass(pc)

    pc.turn()

    entry = pc.journal.find("sheet-1")
    assert entry is not None
    assert (entry.result or {})["code"] == "mode_locked"
    assert pc.effects["sheet-1"] == 0
