"""A sheet that was signed beforehand: used once at the PC, with or without its agent, and everybody hears of it."""

import io
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from agent_process import AgentProcess
from malicious_server import ALICE, BOB, CAROL, CONTROL, MALLORY, order_of, wanted
from scripted_server import Request, ScriptedServer

from approvers import signed
from reco3.agent.agent import main
from reco3.agent.break_glass_uses import USED_CODE
from reco3.agent.journal import Journal
from reco3.protocol.envelope import EnvelopePolicy, SignedEnvelope, signed_envelope_shape

DAY_S = 86_400


def epoch_of(pc: AgentProcess) -> str:
    folder = pc.folder / "state"
    folder.mkdir(mode=0o700, exist_ok=True)
    journal = Journal(folder / "agent.db")
    epoch = journal.epoch()
    journal.close()
    return epoch


def sealed(pc: AgentProcess, *approvers: Any, command_id: str = "break-glass-1", **fields: Any) -> SignedEnvelope:
    now = int(time.time())
    usual = {
        "policy": EnvelopePolicy.BREAK_GLASS,
        "created_at": now - DAY_S,
        "expires_at": now + 80 * DAY_S,
        "requested_by": "break-glass",
        "reason": "server room lost",
    }
    return signed(wanted(epoch_of(pc), command_id, **usual | fields), *approvers or (ALICE, BOB))


def write_sheet(pc: AgentProcess, envelope: SignedEnvelope | dict[str, Any], name: str = "sheet") -> Path:
    shape = envelope if isinstance(envelope, dict) else signed_envelope_shape(envelope)
    path = pc.folder / name
    path.write_text(json.dumps({"break_glass": 1, "envelope": shape}), encoding="utf-8")
    return path


def set_up(pc: AgentProcess, **control: Any) -> None:
    """A PC whose agent ran once and was stopped."""
    pc.configure(control=CONTROL | control)
    pc.start()
    pc.kill()


def alarms(request: Request) -> list[dict[str, Any]]:
    return [entry for entry in request.body["logs"] if entry["code"] == USED_CODE]


def alarm_of(server: ScriptedServer) -> dict[str, Any]:
    request = server.wait_for("/agent/logs", lambda one: bool(alarms(one)))
    return alarms(request)[0]


def test_with_server_and_agent_down_a_sheet_acts_once_and_alarms_when_they_are_back(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    server.go_down()
    set_up(pc)
    sheet = write_sheet(pc, sealed(pc))

    used = pc.call("break-glass", str(pc.config_path), str(sheet), "--yes")
    again = pc.call("break-glass", str(pc.config_path), str(sheet), "--yes")
    server.come_up()
    pc.start()
    alarm = alarm_of(server)

    assert (used.returncode, used.stderr) == (0, "")
    assert 'RESTART_PROCESS {"process": "web"}' in used.stdout
    assert "signed by alice, bob; made for break-glass, because: server room lost" in used.stdout
    assert (again.returncode, again.stderr.split(":")[0]) == (1, "already_used")
    assert pc.restarts() == 1
    assert alarm["level"] == "CRITICAL"
    assert alarm["meta"]["break_glass_id"] == "break-glass-1"
    assert alarm["meta"]["type"] == "RESTART_PROCESS"
    assert alarm["meta"]["payload"] == {"process": "web"}
    assert alarm["meta"]["owners"] == ["alice", "bob"]
    assert alarm["meta"]["result"]["success"] is True
    assert alarm["meta"]["used_by"]
    assert not [one for one in server.sent("/agent/report") if one.body["command_id"] == "break-glass-1"]


def test_a_running_agent_takes_a_sheet_over_with_its_server_down(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.configure(control=CONTROL)
    pc.start()
    server.wait_for("/agent/heartbeat")
    server.go_down()

    used = pc.call("break-glass", str(pc.config_path), str(write_sheet(pc, sealed(pc))), "--yes")
    server.come_up()
    alarm = alarm_of(server)

    assert (used.returncode, used.stderr) == (0, "")
    assert "handed over to the running agent" in used.stdout
    assert pc.restarts() == 1
    assert alarm["meta"]["owners"] == ["alice", "bob"]


def test_a_used_sheet_blocks_nothing_else(server: ScriptedServer, pc: AgentProcess) -> None:
    set_up(pc)
    pc.call("break-glass", str(pc.config_path), str(write_sheet(pc, sealed(pc))), "--yes")
    pc.start()

    server.deliver(order_of(signed(wanted(epoch_of(pc), "c-1"), ALICE, CAROL), "c-1"))

    assert server.wait_for_report("c-1")["status"] == "completed"
    assert pc.restarts() == 2


@pytest.mark.parametrize(
    ("fields", "approvers", "control", "code"),
    [
        ({}, (ALICE,), {}, "too_few_signatures"),
        ({}, (ALICE, MALLORY), {}, "unpinned_key"),
        ({"requested_by": "alice"}, (ALICE, BOB), {}, "self_approval"),
        ({"agent_id": "pc-002"}, (), {}, "wrong_agent"),
        ({"policy": EnvelopePolicy.APPROVAL}, (), {}, "wrong_policy"),
        ({"expires_at": int(time.time()) - 1}, (), {}, "expired"),
        ({"expires_at": int(time.time()) + 100 * DAY_S}, (), {}, "validity_too_long"),
        ({"payload": {"process": "sshd"}}, (), {}, "process_not_watched"),
        ({}, (), {"apply_enabled": False}, "apply_disabled"),
        ({}, (), {"approvers": [], "approvals_required": 1}, "no_approvers"),
        ({}, (), {"limits": {"strong_per_hour": 0}}, "budget_exceeded"),
        ({}, (), {"limits": {"never_touch": ["web"]}}, "never_touch"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_same_locks_hold_and_what_they_refuse_is_not_used_up(
    pc: AgentProcess, fields: dict[str, Any], approvers: tuple[Any, ...], control: dict[str, Any], code: str
) -> None:
    set_up(pc, **control)

    refused = pc.call(
        "break-glass", str(pc.config_path), str(write_sheet(pc, sealed(pc, *approvers, **fields))), "--yes"
    )

    assert (refused.returncode, refused.stderr.split(":")[0]) == (1, code)
    assert pc.restarts() == 0
    with sqlite3.connect(pc.folder / "state" / "agent.db") as db:
        assert db.execute("SELECT count(*) FROM commands").fetchone() == (0,)
    db.close()


@pytest.mark.parametrize(("typed", "restarts"), [("web\n", 1), ("yes\n", 0), ("", 0)])
def test_somebody_types_the_name_of_the_process_first(
    pc: AgentProcess, monkeypatch: pytest.MonkeyPatch, typed: str, restarts: int
) -> None:
    set_up(pc)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))

    exit_code = main(["break-glass", str(pc.config_path), str(write_sheet(pc, sealed(pc)))])

    assert exit_code == (0 if restarts else 1)
    assert pc.restarts() == restarts


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"break_glass": true, "envelope": {}}', '{"break_glass": 1}'])
def test_a_file_that_is_no_sheet_is_one_line(pc: AgentProcess, content: str) -> None:
    set_up(pc)
    path = pc.folder / "sheet"
    path.write_text(content, encoding="utf-8")

    refused = pc.call("break-glass", str(pc.config_path), str(path), "--yes")

    assert refused.returncode == 2
    assert "expected a break-glass sheet" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
