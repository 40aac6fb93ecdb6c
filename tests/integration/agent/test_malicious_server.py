"""Whoever owns the server gets no strong command past a PC that pins keys: the program itself counts its restarts."""

import sqlite3
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from agent_process import AgentProcess
from malicious_server import (
    ALICE,
    ATTACKS,
    BOB,
    CAROL,
    CONTROL,
    Attack,
    DirectPc,
    order_of,
    pinned_entries,
    pins_of,
    wanted,
)
from scripted_server import ScriptedServer

from approvers import EVERY_KIND, envelope, signed
from reco3.agent.approvals import Approved, read_approved
from reco3.agent.clocks import as_text
from reco3.agent.config import ControlConfig, LimitDriver, RateLimitConfig
from reco3.agent.lifecycle import Event
from reco3.agent.security import read_order
from reco3.agent.signers import _check_all
from reco3.protocol.envelope import PAYLOAD_TYPE, Signature, SignedEnvelope, signed_envelope_shape

NAMES = [attack.name for attack in ATTACKS]


def set_back(path: Path, ahead_s: int) -> None:
    """Make a journal remember a time that is still to come, as after the clock was set back."""
    if ahead_s:
        with sqlite3.connect(path) as db:
            ahead = as_text(datetime.now(UTC) + timedelta(seconds=ahead_s))
            db.execute("UPDATE about SET highest_clock = ?", (ahead,))
        db.close()


def attacked(pc: DirectPc, attack: Attack) -> str:
    set_back(pc.config.state_dir / "agent.db", attack.clock_was_ahead_s)
    code = pc.take(attack.forge(pc.epoch, "c-1"))
    pc.journal.close()
    return code


@pytest.mark.parametrize("attack", ATTACKS, ids=NAMES)
def test_each_attack_is_refused_with_its_own_code_and_changes_nothing(attack: Attack, tmp_path: Path) -> None:
    pc = DirectPc(tmp_path)

    assert attacked(pc, attack) == attack.code
    assert pc.restarts() == 0


@pytest.mark.parametrize("attack", ATTACKS, ids=NAMES)
def test_with_its_guard_off_each_attack_succeeds(
    attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = dict(CONTROL)
    attack.without_guard(monkeypatch, settings)
    pc = DirectPc(tmp_path, settings | {"fleet_id": settings.get("fleet_id", "")})

    assert attacked(pc, attack) == "completed"
    assert pc.restarts() == 1


def test_the_real_agent_refuses_every_attack_and_then_does_what_two_people_signed(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    pc.configure(control=CONTROL)
    pc.start()
    epoch = server.wait_for("/agent/heartbeat").body["metrics"]["journal"]
    attacks = {f"c-{number}": attack for number, attack in enumerate(ATTACKS) if not attack.clock_was_ahead_s}

    server.deliver(*[attack.forge(epoch, command_id) for command_id, attack in attacks.items()])
    codes = {command_id: server.wait_for_report(command_id)["result"]["code"] for command_id in attacks}
    after_the_attacks = pc.restarts()
    agreed = order_of(signed(wanted(epoch, "good"), ALICE, BOB), "good")
    server.deliver(agreed)
    done = server.wait_for_report("good")

    assert codes == {command_id: attack.code for command_id, attack in attacks.items()}
    assert after_the_attacks == 0
    assert done["status"] == "completed"
    assert done["result"]["signed_by"] == ["alice", "bob"]
    assert pc.restarts() == 1
    print(f"\n{len(codes)} attacks on a real agent: 0 restarts; one signed command: 1 restart")


def test_the_real_agent_runs_a_signed_command_once_however_often_it_is_replayed(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    pc.configure(control=CONTROL)
    pc.start()
    epoch = server.wait_for("/agent/heartbeat").body["metrics"]["journal"]
    order = order_of(signed(wanted(epoch, "c-1"), ALICE, BOB), "c-1")
    server.deliver(order)
    first = server.wait_for_report("c-1")
    seen = len(server.requests)

    server.deliver(order, order, order | {"id": "c-2"})
    again = server.wait_for_report("c-1", after=seen)
    under_another_id = server.wait_for_report("c-2")
    pc.kill()
    server.go_down()  # The pull of the killed agent would take what is meant for the next one.
    server.come_up()
    seen = len(server.requests)
    pc.start()
    server.deliver(order)
    by_the_next_run = server.wait_for_report("c-1", after=seen)

    assert again == by_the_next_run == first
    assert under_another_id["result"]["code"] == "wrong_command"
    assert pc.restarts() == 1


def test_a_ledger_that_forgets_lets_a_replay_through(tmp_path: Path) -> None:
    """The negative control of the replay: it is the journal that holds it back."""
    pc = DirectPc(tmp_path)
    order = order_of(signed(wanted(pc.epoch, "c-1"), ALICE, BOB), "c-1")
    pc.take(order)
    with sqlite3.connect(pc.config.state_dir / "agent.db") as db:
        db.execute("DELETE FROM commands")
    db.close()

    pc.take(order)
    pc.journal.close()

    assert pc.restarts() == 2


@pytest.mark.parametrize(
    "row",
    [
        {"payload_json": '{"process": "sshd"}'},
        {"payload_json": "nonsense"},
        {"type": "STOP_PROCESS"},
        {"type": "NOTIFY_OPS", "payload_json": '{"severity": "INFO", "message": "look, all is well"}'},
        {"expires_at": "2099-01-01T00:00:00Z"},
        {"expect": {"pid": 1, "create_time_ms": 1}},
        {"approved": False, "approval": None, "agent_id": "pc-002", "status": "rejected"},
    ],
    ids=str,
)
def test_what_the_row_says_beside_the_envelope_changes_nothing(row: dict[str, Any], tmp_path: Path) -> None:
    pc = DirectPc(tmp_path)

    outcome = pc.take(order_of(signed(wanted(pc.epoch, "c-1"), ALICE, CAROL), "c-1", **row))
    entry = pc.journal.find("c-1")
    pc.journal.close()

    assert outcome == "completed"
    assert pc.restarts() == 1
    assert entry is not None
    assert entry.type == "RESTART_PROCESS"


def test_what_was_expected_comes_from_the_envelope(tmp_path: Path) -> None:
    pc = DirectPc(tmp_path)
    made = wanted(pc.epoch, "c-1", expect=envelope().expect)

    assert pc.take(order_of(signed(made, ALICE, BOB), "c-1", expect=None)) == "precondition_failed"
    assert pc.restarts() == 0
    pc.journal.close()


def test_a_key_that_is_taken_from_the_config_does_not_count_for_what_a_crash_left_unbegun(tmp_path: Path) -> None:
    pc = DirectPc(tmp_path)
    order = order_of(signed(wanted(pc.epoch, "c-1"), ALICE, BOB), "c-1", expires_at="2099-01-01T00:00:00Z")
    read = read_order(order)
    assert read is not None
    pc.journal.receive([pc.control._received(read, None)])
    pc.journal.close()

    after = DirectPc(tmp_path, {"approvers": pinned_entries(ALICE, CAROL)})
    entry = after.journal.find("c-1")
    assert entry is not None
    after.control._look(Event.DELIVERED, entry)
    after.journal.close()

    assert after.reports["c-1"].result["code"] == "unpinned_key"
    assert after.restarts() == 0


def test_no_single_flipped_bit_is_accepted() -> None:
    """Every bit of the payload, of every kind's signature, and of what a passkey says besides."""
    began_at, flips = time.monotonic(), 0
    for make in EVERY_KIND:
        approver = make("alice")
        control = ControlConfig(RateLimitConfig(LimitDriver.FILE, Path("x")), approvers=pins_of(approver))
        right = signed(envelope(), approver)
        assert isinstance(outcome(right, control), Approved)
        for flipped in every_flip(right):
            flips += 1
            assert not isinstance(outcome(flipped, control), Approved)

    print(f"\n{flips} flipped bits: 0 accepted, {time.monotonic() - began_at:.1f} s")
    assert flips > 10_000


def outcome(sealed: SignedEnvelope, control: ControlConfig) -> object:
    def verify(one: SignedEnvelope) -> Any:
        return _check_all(control.approvers, one, is_development=False)

    return read_approved(signed_envelope_shape(sealed), control, verify, config_path="config.yaml")


def every_flip(right: SignedEnvelope) -> list[SignedEnvelope]:
    (signature,) = right.signatures
    flips = [replace(right, body=body) for body in flipped_bits(right.body)]
    for name in ("sig", "client_data_json", "authenticator_data"):
        content = getattr(signature, name)
        changed: list[Signature] = [replace(signature, **{name: one}) for one in flipped_bits(content or b"")]
        flips += [SignedEnvelope(PAYLOAD_TYPE, right.body, (one,)) for one in changed]
    return flips


def flipped_bits(content: bytes) -> list[bytes]:
    return [
        content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
        for at in range(len(content))
        for bit in range(8)
    ]
