"""Somebody who may write to the live database: what he changes there restarts nothing on a PC that pins keys."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from world import World, wait_until

from approvers import Approver, key_file
from reco3.agent.agent import main as agent_main
from reco3.protocol.envelope import decode_base64url, signature_shape
from reco3.signing.pins import key_id, key_text, pin_text


@contextmanager
def database_of(world: World) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(world.folder / "instance/reco3.db", timeout=10)) as connection, connection:
        yield connection


@pytest.fixture
def alice(world: World) -> Approver:
    """An approver whose key the PC pins and the server knows."""
    approver = key_file("alice")
    assert agent_main(["trust", "add", str(world.folder / "config.yaml"), pin_text(approver.pin)]) == 0
    world.restart_agent()
    wait_until(lambda: _pinned(world), timeout_s=15.0, what="the PC says that it pins a key")
    row = (key_id(approver.public_key), "alice", "ed25519", key_text(approver.pin.key), "file")
    with database_of(world) as connection:
        connection.execute(
            "INSERT INTO operator_keys (key_id, owner, kind, public_key, label, created_at) "
            "VALUES (?, ?, ?, ?, ?, '2026-01-01T00:00:00.000Z')",
            row,
        )
    return approver


def _pinned(world: World) -> object:
    agent = world.agent()
    return agent and agent["metrics"].get("approvers_pinned")


def restart(world: World) -> str:
    return world.request("RESTART_PROCESS", {"process": world.service_name})


def signed_approval(world: World, command_id: str, approver: Approver) -> dict[str, Any]:
    envelope = world.get(f"/api/agent-commands/{command_id}/envelope")
    signature = approver.sign(decode_base64url(envelope["body"]))
    return {"approved_by": approver.owner, "signature": signature_shape(signature)}


def refused_code(world: World, command_id: str) -> str:
    # It pulls at once when it starts, which spares the test the rest of a held pull.
    world.restart_agent()
    code: str = world.wait_ended(command_id, timeout_s=30.0)["result"]["code"]
    return code


def test_a_signature_of_another_command_opens_nothing(world: World, alice: Approver) -> None:
    pid, wanted, forged = world.service_pid(), restart(world), restart(world)
    signature = signed_approval(world, wanted, alice)["signature"]

    with database_of(world) as connection:
        connection.execute(
            "INSERT INTO approvals (id, command_id, approved_by, approved_at, key_id, signature_json) "
            "VALUES ('forged', ?, 'alice', '2026-01-01T00:00:00.000Z', ?, ?)",
            (forged, signature["key_id"], json.dumps(signature)),
        )

    assert refused_code(world, forged) in {"bad_signature", "not_signed"}
    assert world.service_pid() == pid


def test_bytes_that_were_changed_after_they_were_signed_open_nothing(world: World, alice: Approver) -> None:
    pid, command_id = world.service_pid(), restart(world)
    world.stop("agent")
    answer = world.post(f"/api/agent-commands/{command_id}/approve", signed_approval(world, command_id, alice))
    assert answer.json()["status"] == "approved", answer.text

    with database_of(world) as connection:
        [body] = connection.execute("SELECT body FROM command_envelopes WHERE command_id = ?", (command_id,)).fetchone()
        longer = body.replace(b'"reason":null', b'"reason":"x"')
        assert longer != body
        connection.execute("UPDATE command_envelopes SET body = ? WHERE command_id = ?", (longer, command_id))
    world.start_again()

    assert world.wait_ended(command_id, timeout_s=30.0)["result"]["code"] == "bad_signature"
    assert world.service_pid() == pid


def test_a_row_that_says_something_else_than_was_signed_changes_nothing(world: World, alice: Approver) -> None:
    pid, command_id = world.service_pid(), restart(world)
    world.stop("agent")
    world.post(f"/api/agent-commands/{command_id}/approve", signed_approval(world, command_id, alice))

    with database_of(world) as connection:
        connection.execute("UPDATE agent_commands SET type = 'STOP_PROCESS' WHERE id = ?", (command_id,))
    world.start_again()

    # What alice signed is done, and not what the row says: the service was restarted, and not stopped.
    assert world.wait_ended(command_id, timeout_s=30.0)["status"] == "completed"
    assert world.service_pid() != pid


def test_a_command_that_was_set_back_to_pending_runs_no_second_time(world: World, alice: Approver) -> None:
    command_id = restart(world)
    world.post(f"/api/agent-commands/{command_id}/approve", signed_approval(world, command_id, alice))
    assert world.wait_ended(command_id)["status"] == "completed"
    pid = world.service_pid()

    with database_of(world) as connection:
        connection.execute(
            "UPDATE agent_commands SET status = 'pending', delivered_at = NULL, finished_at = NULL, journal = NULL "
            "WHERE id = ?",
            (command_id,),
        )
    world.restart_agent()
    wait_until(
        lambda: world.command(command_id)["status"] == "completed", timeout_s=30.0, what="the journal has answered"
    )

    assert world.service_pid() == pid
