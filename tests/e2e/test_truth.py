"""Commands that tell the truth, with a real server and a real agent: once, not at all, or openly unknown."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from world import AGENT_ID, World, wait_until


def restarts(world: World) -> int:
    path = world.folder / "restarts.log"
    return len(path.read_text().splitlines()) if path.exists() else 0


def approved_restart(world: World) -> str:
    command_id = world.request("RESTART_PROCESS", {"process": world.service_name})
    world.approve(command_id)
    return command_id


def test_the_timeline_of_a_restart_tells_who_when_and_what(world: World) -> None:
    command_id = approved_restart(world)
    world.wait_ended(command_id)

    life = world.get(f"/api/agent-commands/{command_id}")

    assert [step["event"] for step in life["timeline"]] == [
        "requested",
        "approved",
        "delivered",
        "running",
        "completed",
    ]
    assert life["expect"]["pid"] is not None
    assert life["result"]["exit_code"] == 0
    assert life["result"]["verification"]


def test_a_process_that_changed_since_the_approval_is_not_touched(world: World) -> None:
    world.stop("agent")
    command_id = approved_restart(world)
    world.tell_service("restart")
    by_hand = world.service_pid()

    world.start_agent()
    ended = world.wait_ended(command_id)

    assert (ended["status"], ended["result"]["code"]) == ("failed", "precondition_failed")
    assert world.service_pid() == by_hand


def test_a_cancelled_command_never_runs(world: World) -> None:
    world.stop("agent")
    command_id = approved_restart(world)

    answer = world.post(f"/api/agent-commands/{command_id}/cancel", {"reason": "not now"})
    world.start_agent()
    world.wait_online()
    world.wait_ended(world.request("NOTIFY_OPS", {"severity": "INFO", "message": "still here"}))

    assert answer.json() == {"status": "cancelled"}
    assert world.command(command_id)["status"] == "cancelled"
    assert restarts(world) == 0


def test_a_server_restored_from_a_copy_cannot_make_a_command_run_twice(world: World, tmp_path: Path) -> None:
    world.stop("agent")
    command_id = approved_restart(world)
    world.stop("server")
    database = world.folder / "instance" / "reco3.db"
    copy = tmp_path / "before-delivery.db"
    shutil.copy(database, copy)
    world.start_server()
    world.start_agent()
    world.wait_ended(command_id)
    assert restarts(world) == 1

    world.stop("server")
    for leftover in database.parent.glob("reco3.db-*"):
        leftover.unlink()
    shutil.copy(copy, database)
    world.start_server()
    ended = world.wait_ended(command_id, timeout_s=30)

    assert ended["status"] == "completed"
    assert restarts(world) == 1


def test_a_report_of_a_command_that_a_restored_server_forgot_is_kept_as_an_orphan(world: World, tmp_path: Path) -> None:
    world.stop("server")
    database = world.folder / "instance" / "reco3.db"
    copy = tmp_path / "before-the-request.db"
    shutil.copy(database, copy)
    world.start_server()
    world.wait_online(timeout_s=20)
    command_id = world.request("NOTIFY_OPS", {"severity": "INFO", "message": "soon forgotten"})
    world.wait_ended(command_id)
    world.kill("server")
    for leftover in database.parent.glob("reco3.db-*"):
        leftover.unlink()
    shutil.copy(copy, database)
    _make_the_agent_owe_its_report(world, command_id)

    world.start_server()
    orphans = wait_until(
        lambda: world.get("/api/orphan-reports")["orphan_reports"], timeout_s=30, what="the orphan has arrived"
    )

    assert [(orphan["command_id"], orphan["agent_id"]) for orphan in orphans] == [(command_id, AGENT_ID)]


def test_an_agent_killed_while_it_restarts_a_service_never_restarts_it_again(world: World) -> None:
    command_id = approved_restart(world)
    wait_until(lambda: restarts(world) == 1, timeout_s=10, what="the restart has begun")
    world.parts["agent"].send_signal(signal.SIGKILL)
    world.parts.pop("agent").wait()

    world.start_agent()
    ended = wait_until(
        lambda: (one := world.command(command_id))["status"] in ("completed", "failed", "unknown") and one,
        timeout_s=20,
        what="the truth has arrived",
    )

    assert ended
    assert restarts(world) == 1


def test_the_command_line_asks_approves_and_shows(world: World) -> None:
    def reco3(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "reco3.cli", "commands", *words, "--server", world.url]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)

    asked = reco3("create", "RESTART_PROCESS", AGENT_ID, f"process={world.service_name}", "--reason", "memory grows")
    assert asked.returncode == 0, asked.stderr
    command_id = world.get("/api/agent-commands?status=pending")["commands"][0]["id"]

    approved = reco3("approve", command_id, "--wait")
    shown = reco3("show", command_id)

    assert approved.returncode == 0, approved.stderr
    assert "completed" in approved.stdout
    assert "memory grows" in shown.stdout
    assert restarts(world) == 1


def _make_the_agent_owe_its_report(world: World, command_id: str) -> None:
    world.stop("agent")
    with sqlite3.connect(world.folder / "state" / "agent.db") as journal:
        journal.execute("UPDATE commands SET delivery = 'OWED' WHERE command_id = ?", (command_id,))
    journal.close()
    world.start_agent()
