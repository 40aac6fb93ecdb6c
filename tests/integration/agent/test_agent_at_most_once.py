"""The real agent, killed, asked again and again, and cut off from its disk: it acts once, and tells the truth."""

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from agent_process import AgentProcess, make_order, restart_order
from kill_matrix import FAILPOINTS_FOLDER, VARIANTS, run_cell, table
from scripted_server import LOST, ScriptedServer, answer

DIAGONAL = [
    (0, "after_receive", "before_start"),
    (1, "during_act", "after_probe_recorded"),
    (2, "after_start", "before_report"),
    (3, "during_act", "after_probe"),
    (3, "after_act", "after_report"),
    (0, "before_finish", "after_acknowledge"),
    (2, "before_accept", "after_finish"),
]


def in_minutes(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_diagonal_of_the_kill_matrix_has_one_effect_each_and_no_untrue_report(tmp_path: Path) -> None:
    results = []
    for number, (variant, first, second) in enumerate(DIAGONAL):
        folder = tmp_path / str(number)
        folder.mkdir()
        results.append(run_cell(folder, VARIANTS[variant], first, second))

    print(f"\n{table(results)}")
    assert [one for one in results if one.effects > 1 or one.is_wrong] == []
    assert [one.kills for one in results] == [2] * len(DIAGONAL)


def test_an_agent_that_records_after_acting_would_be_caught(tmp_path: Path) -> None:
    result = run_cell(tmp_path, VARIANTS[0], "after_act", "after_act", is_late=True)

    assert result.effects == 3


def test_a_hundred_and_fifty_deliveries_also_by_a_restored_server_have_one_effect(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    order = restart_order("c-1", expires_at=in_minutes(15))
    pc.start()
    for number in range(100):
        server.deliver(order | {"delivery": number + 1})
    server.wait_for_report("c-1", "completed")
    server.deliver(*[order | {"delivery": 1}] * 50)
    server.wait_until(lambda: pc.log().count("command_redelivered") >= 149)
    pc.kill()
    pc.start()
    seen = len(server.requests)

    for _ in range(2):  # One of them may go to the pull of the killed agent, which this server still holds.
        server.deliver(order | {"delivery": 1, "status": "pending"})
        server.wait_until(server.is_idle)
    server.wait_for_report("c-1", "completed", after=seen)

    reports = [r.body for r in server.sent("/agent/report") if r.body["status"] != "running"]
    assert pc.restarts() == 1
    assert all(report == reports[0] for report in reports)


def test_ten_lost_answers_to_a_report_make_no_second_run_and_no_second_result(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    lost: list[Any] = []

    def lose(request: Any) -> Any:
        if request.body["status"] == "running" or len(lost) == 10:
            return None
        lost.append(request.body)
        return LOST

    server.rules["/agent/report"] = lose
    pc.start()
    order = restart_order("c-1", expires_at=in_minutes(15))
    server.deliver(order)
    for number in range(2, 7):  # Each question makes it report at once, twice where the connection was kept alive.
        server.wait_until(lambda number=number: len(lost) >= min(10, 2 * number - 3))
        server.deliver(order | {"delivery": number})
    server.wait_until(lambda: len(lost) == 10)
    seen = len(server.requests)

    taken = server.wait_for_report("c-1", after=seen)

    assert all(body == taken for body in lost)
    assert pc.restarts() == 1


def test_a_rollback_whose_end_a_power_cut_hid_is_used_up_and_the_next_one_undoes_the_older_change(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    pc.environment = {
        "PYTHONPATH": str(FAILPOINTS_FOLDER),
        "RECO3_FAILPOINT": "after_act:3",
        "RECO3_FAILPOINT_ARMED": str(pc.folder),
    }
    pc.start()
    for number, endpoint in enumerate(("/a", "/b")):
        server.deliver(make_order(f"l-{number}", "SET_RATE_LIMIT", {"endpoint": endpoint, "limit_rps": 5}))
        server.wait_for_report(f"l-{number}", "completed")
    server.deliver(make_order("c-1", "ROLLBACK", expires_at=in_minutes(15)))
    server.wait_until(pc.has_died)
    pc.kill()
    pc.environment = {}
    pc.start()
    probed = server.wait_for_report("c-1")

    server.deliver(make_order("c-2", "ROLLBACK", expires_at=in_minutes(15)))

    assert (probed["status"], probed["result"]["probed"]) == ("completed", True)
    assert server.wait_for_report("c-2")["result"]["undone_command_id"] == "l-0"
    assert not (pc.folder / "limits.json").exists()


@pytest.mark.parametrize(
    ("status", "error"), [(409, "report_conflict"), (404, "command_not_found")], ids=["another end", "unknown command"]
)
def test_a_report_that_the_server_will_never_take_is_parked(
    server: ScriptedServer, pc: AgentProcess, status: int, error: str
) -> None:
    server.rules["/agent/report"] = lambda r: (
        answer(status, {"error": error, "message": "no"}) if r.body["command_id"] == "c-1" else None
    )
    pc.start()

    server.deliver(make_order("c-1", "SET_MODE", {"mode": "SAFE"}))
    server.wait_until(lambda: "report_parked" in pc.log())
    server.deliver(make_order("c-2", "SET_MODE", {"mode": "NORMAL"}))
    server.wait_for_report("c-2")

    assert [r.body["command_id"] for r in server.sent("/agent/report")] == ["c-1", "c-2"]


def test_every_pull_report_and_heartbeat_names_the_journal_and_a_new_journal_has_another_name(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    pc.configure(control={"veto_s": 7})
    pc.start()
    server.deliver(make_order("c-1", "NOTIFY_OPS", {"severity": "INFO", "message": "x"}))
    server.wait_for_report("c-1")
    first = server.wait_for("/agent/heartbeat", lambda r: r.body["metrics"].get("journal")).body["metrics"]
    pulls = {request.journal for request in server.sent("/agent/pull")}
    reports = {request.body["journal"] for request in server.sent("/agent/report")}
    pc.kill()
    for path in (pc.folder / "state").glob("agent.db*"):
        path.unlink()
    seen = len(server.requests)
    pc.start()

    second = server.wait_for("/agent/pull", after=seen)

    assert pulls == reports == {first["journal"]}
    assert first["veto_s"] == 7
    assert second.journal not in {None, first["journal"]}


def test_a_person_at_the_pc_sees_what_waits_and_stops_it(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.configure(control={"veto_s": 60})
    pc.start()
    server.deliver(restart_order("c-1", expires_at=in_minutes(15)), restart_order("c-2", expires_at=in_minutes(15)))
    accepted = server.wait_for_report("c-2", "accepted")

    shown = pc.call("waiting", str(pc.config_path))
    stopped = pc.call("veto", str(pc.config_path), "c-2")
    report = server.wait_for_report("c-2", "failed")
    again = pc.call("veto", str(pc.config_path), "c-2")
    rest = pc.call("veto", str(pc.config_path))
    server.wait_for_report("c-1", "failed")
    after = pc.call("waiting", str(pc.config_path))

    assert accepted["result"]["acts_at"] > in_minutes(0.5)
    assert [line.split()[:2] for line in shown.stdout.splitlines()] == [
        ["c-1", "RESTART_PROCESS"],
        ["c-2", "RESTART_PROCESS"],
    ]
    assert '{"process": "web"}' in shown.stdout
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "stopped c-2\n", "")
    assert report["result"]["code"] == "vetoed"
    assert (again.returncode, rest.stdout, after.stdout) == (1, "stopped c-1\n", "nothing waits\n")
    assert "nothing was stopped" in again.stderr
    assert pc.restarts() == 0


def test_during_a_countdown_heartbeats_go_on_safe_commands_act_and_a_cancellation_is_heard(
    server: ScriptedServer, pc: AgentProcess
) -> None:
    pc.configure(control={"veto_s": 60})
    pc.start()
    server.deliver(restart_order("c-1", expires_at=in_minutes(15)))
    server.wait_for_report("c-1", "accepted")
    seen = len(server.requests)

    server.deliver(make_order("c-2", "NOTIFY_OPS", {"severity": "INFO", "message": "x"}))
    server.wait_for_report("c-2", "completed")
    server.wait_for("/agent/heartbeat", after=seen)
    server.cancels.append("c-1")

    assert server.wait_for_report("c-1", "failed")["result"]["code"] == "cancelled"
    assert pc.restarts() == 0


def test_after_its_countdown_a_command_acts_within_a_moment(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.configure(control={"veto_s": 3})
    pc.start()
    server.deliver(restart_order("c-1", expires_at=in_minutes(15)))
    server.wait_for_report("c-1", "accepted")
    accepted_at = next(r.at for r in server.sent("/agent/report") if r.body["status"] == "accepted")

    server.wait_for_report("c-1", "completed")
    running_at = next(r.at for r in server.sent("/agent/report") if r.body["status"] == "running")

    assert 2.9 <= running_at - accepted_at < 4.5
    assert pc.restarts() == 1


def test_the_approved_process_is_restarted_and_another_one_is_not(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.start()

    server.deliver(
        restart_order("c-1", expires_at=in_minutes(15), expect={"pid": None, "create_time_ms": None}),
        restart_order("c-2", expires_at=in_minutes(15), expect={"pid": 4_000_000, "create_time_ms": 5}),
    )

    assert server.wait_for_report("c-1")["status"] == "completed"
    assert server.wait_for_report("c-2")["result"]["code"] == "precondition_failed"
    assert pc.restarts() == 1


def test_a_tripped_breaker_arrives_as_one_critical_log_line(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.configure(control={"limits": {"strong_per_hour": 1, "cooldown_s": 0}})
    pc.start()

    server.deliver(*[restart_order(f"c-{number}") for number in range(3)])
    refusals = [server.wait_for_report(command_id)["result"]["code"] for command_id in ("c-1", "c-2")]
    logs = server.wait_for("/agent/logs", lambda r: any(one["code"] == "BREAKER_TRIPPED" for one in r.body["logs"]))

    [line] = [one for one in logs.body["logs"] if one["code"] == "BREAKER_TRIPPED"]
    assert refusals == ["budget_exceeded"] * 2
    assert (line["level"], line["meta"]) == (
        "CRITICAL",
        {"breaker": "budget_exceeded", "command_id": "c-1", "type": "RESTART_PROCESS"},
    )
    assert pc.restarts() == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with next to no room; only root can make one."""
    path = tmp_path / "small"
    path.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(argv, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_blocks_what_changes_things_and_not_telemetry_and_is_left_behind_when_there_is_room(
    server: ScriptedServer, pc: AgentProcess, small_disk: Path
) -> None:
    pc.configure(state_dir=str(small_disk))
    pc.start()
    server.deliver(make_order("c-0", "NOTIFY_OPS", {"severity": "INFO", "message": "x"}))
    server.wait_for_report("c-0")
    ballast = small_disk / "ballast"
    _fill(ballast)

    payload = {"endpoint": "/api", "limit_rps": 5}
    server.deliver(
        *[make_order(f"n-{number}", "NOTIFY_OPS", {"severity": "INFO", "message": "x" * 2000}) for number in range(40)],
        restart_order("c-1"),
        make_order("c-2", "SET_RATE_LIMIT", payload),
    )
    refusals = [server.wait_for_report(command_id) for command_id in ("c-1", "c-2")]
    seen = len(server.requests)
    server.wait_for("/agent/heartbeat", after=seen)
    ballast.unlink()
    server.deliver(restart_order("c-3"))
    after = server.wait_for_report("c-3")

    assert [(one["status"], one["result"]["code"]) for one in refusals] == [("failed", "journal_unwritable")] * 2
    assert not (pc.folder / "limits.json").exists()
    assert after["status"] == "completed"
    assert pc.restarts() == 1


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
