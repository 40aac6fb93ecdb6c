"""Single stories from a command's life, told with the real control, journal and modes on a simulated PC."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from simulated_pc import SimulatedPc

from reco3.agent.config import LimitsConfig
from reco3.agent.http_client import Pulled, RefusedError
from reco3.agent.journal import Journal
from reco3.agent.lifecycle import State
from reco3.protocol.commands import CommandType, Mode
from reco3.protocol.messages import CommandReport

UNLIMITED = LimitsConfig(strong_per_hour=1000, cooldown_s=0)


@pytest.fixture
def pc(tmp_path: Path) -> Iterator[SimulatedPc]:
    pc = SimulatedPc(tmp_path)
    yield pc
    pc.journal.close()


def nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


def state(pc: SimulatedPc, command_id: str) -> State | None:
    entry = pc.journal.find(command_id)
    return entry.state if entry else None


def statuses(pc: SimulatedPc, command_id: str) -> list[str]:
    return [report.status for report in pc.told.get(command_id, [])]


def test_an_approved_restart_begins_once_and_is_reported(pc: SimulatedPc) -> None:
    pc.deliver(pc.want("c-1"))

    assert pc.effects["c-1"] == 1
    assert statuses(pc, "c-1") == ["running", "completed"]


def test_the_same_order_a_hundred_times_has_one_effect_and_one_answer(pc: SimulatedPc) -> None:
    command_id = pc.want("c-1")

    for _ in range(100):
        pc.deliver(command_id)

    assert pc.effects["c-1"] == 1
    finals = [report for report in pc.told["c-1"] if report.status != "running"]
    assert len(finals) == 100
    assert all(report == finals[0] for report in finals)


def test_the_same_order_by_fifty_pulls_at_once_has_one_effect(pc: SimulatedPc) -> None:
    order = pc.wanted[pc.want("c-1")].as_order()
    journals = [Journal(pc.folder / "agent.db", lock_timeout_s=60, clock=lambda: pc.now) for _ in range(50)]
    controls = [pc.boot_beside(journal) for journal in journals]
    gate = threading.Barrier(50)

    def pull(number: int) -> None:
        gate.wait()
        controls[number]._take_all(Pulled((order,)))
        journals[number].close()

    threads = [threading.Thread(target=pull, args=(number,)) for number in range(50)]
    with pc.patched():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert pc.effects["c-1"] == 1
    assert state(pc, "c-1") is State.DONE


def test_an_order_that_a_crash_left_unbegun_goes_on_when_the_server_asks_again(pc: SimulatedPc) -> None:
    pc.deliver(pc.want("c-1"), cut_at="after_receive")
    pc.turn()
    before_the_question = pc.effects["c-1"]

    pc.deliver("c-1")

    assert before_the_question == 0
    assert pc.effects["c-1"] == 1
    assert pc.last_report("c-1").status == "completed"


def test_an_order_that_a_crash_left_unbegun_expires_when_nobody_asks_again(pc: SimulatedPc) -> None:
    pc.deliver(pc.want("c-1", expires_in_s=60), cut_at="before_start")
    pc.turn()

    pc.now += timedelta(seconds=61)
    pc.turn()
    pc.deliver("c-1")

    assert pc.effects["c-1"] == 0
    assert pc.code("c-1") == "expired"


def test_an_order_without_an_end_is_not_gone_on_with_after_a_crash(pc: SimulatedPc) -> None:
    pc.deliver(pc.want("c-1", expires_in_s=None), cut_at="after_receive")

    pc.turn()
    pc.deliver("c-1")

    assert pc.code("c-1") == "not_begun"
    assert pc.effects["c-1"] == 0


@pytest.mark.parametrize(
    ("cut_at", "is_blind", "effects", "status"),
    [
        ("after_start", False, 0, "failed"),
        ("before_effect", False, 0, "failed"),
        ("during_act", False, 1, "completed"),
        ("before_finish", False, 1, "completed"),
        ("after_start", True, 0, "unknown"),
        ("during_act", True, 1, "unknown"),
    ],
)
def test_a_command_that_was_begun_is_never_begun_again_and_its_report_is_what_the_world_shows(
    pc: SimulatedPc, cut_at: str, is_blind: bool, effects: int, status: str
) -> None:
    pc.is_probe_blind = is_blind
    pc.deliver(pc.want("c-1"), cut_at=cut_at)

    pc.turn()
    pc.deliver("c-1")

    assert pc.effects["c-1"] == effects
    assert pc.last_report("c-1").status == status
    assert pc.last_report("c-1").result["success"] is (status == "completed")
    assert "evidence" in pc.last_report("c-1").result


def test_a_server_of_the_first_protocol_hears_of_an_unknown_end_as_a_failure(
    pc: SimulatedPc, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[CommandReport] = []

    def report(report: CommandReport, **_: object) -> None:
        if report.status not in {"completed", "failed"}:
            raise RefusedError(400, code="bad_request", message="status")
        taken.append(report)

    pc.is_probe_blind = True
    pc.deliver(pc.want("c-1"), cut_at="after_start")
    monkeypatch.setattr(pc, "report", report)

    pc.turn()

    assert [(one.status, one.result["code"]) for one in taken] == [("failed", "interrupted")]


def test_ten_lost_answers_to_a_report_are_ten_more_reports_and_no_second_run(pc: SimulatedPc) -> None:
    pc.lose_answers = 10
    pc.deliver(pc.want("c-1"))

    while pc.control._reports.due_in_s < 1e9:
        pc.control._reports.owe()
        pc.turn()

    finals = [report for report in pc.told["c-1"] if report.status == "completed"]
    assert len(finals) == 11
    assert pc.effects["c-1"] == 1


def test_an_expired_order_is_not_begun(pc: SimulatedPc) -> None:
    pc.want("c-1", expires_in_s=60)
    pc.now += timedelta(seconds=60)

    pc.deliver("c-1")

    assert pc.code("c-1") == "expired"
    assert pc.effects["c-1"] == 0


def test_a_slow_clock_does_not_lengthen_an_orders_time(pc: SimulatedPc) -> None:
    server_time = pc.now + timedelta(hours=2)
    pc.want("c-1", expires_in_s=900)
    pc.server_time = server_time

    pc.deliver("c-1")

    assert pc.code("c-1") == "expired"


@pytest.mark.parametrize(
    "oddity",
    [
        {"payload_json": '{"process": "\ud800"}'},
        {"type": "RESTART_\udfff"},
        {"type": ["RESTART_PROCESS"] * 100_000},
        {"approval": nested(400)},
        {"agent_id": nested(900)},
        {"expires_at": "0001-01-01T00:00:00Z"},
        {"expires_at": "9999-12-31T23:59:59-23:59"},
        {"expect": {"pid": 10**400}},
    ],
    ids=lambda oddity: next(iter(oddity)),
)
def test_an_odd_order_is_answered_and_does_not_stand_in_the_way_of_the_next(
    pc: SimulatedPc, oddity: dict[str, object]
) -> None:
    pc.server_time = datetime(9999, 12, 31, tzinfo=UTC)
    pc.want("c-1")
    pc.want("c-2", CommandType.NOTIFY_OPS, {"severity": "INFO", "message": "x"}, expires_in_s=None)
    pc.to_deliver = [pc.wanted["c-1"].as_order() | oddity, pc.wanted["c-2"].as_order()]
    pc.to_cancel = ["\ud800", "c-9", ""]

    pc.turn()

    assert statuses(pc, "c-2") == ["completed"]
    assert statuses(pc, "c-1") == ["failed"]
    assert pc.code("c-1") != "journal_unwritable"
    assert pc.effects["c-1"] == 0


def test_a_clock_set_back_by_a_day_blocks_what_changes_things_until_somebody_trusts_it(pc: SimulatedPc) -> None:
    pc.deliver(pc.want("c-0", CommandType.NOTIFY_OPS, {"severity": "INFO", "message": "x"}))
    pc.want("c-1")
    pc.want("c-2", CommandType.SET_RATE_LIMIT, {"endpoint": "/a", "limit_rps": 1})
    pc.want("c-3", CommandType.SET_MODE, {"mode": "NORMAL"})
    pc.now -= timedelta(days=1)
    pc.deliver("c-1", "c-2", "c-3")
    codes = [pc.code(command_id) for command_id in ("c-1", "c-2", "c-3")]

    pc.journal.trust_clock()
    pc.deliver(pc.want("c-4"))

    assert codes == ["clock_regressed", "clock_regressed", None]
    assert "trust-clock" in pc.told["c-1"][0].result["error"]
    assert pc.effects == {"c-4": 1}


def test_a_small_step_back_does_not_bring_an_expired_order_back(pc: SimulatedPc) -> None:
    pc.want("c-1", expires_in_s=60)
    pc.now += timedelta(seconds=61)
    pc.journal.note_clock()
    pc.now -= timedelta(seconds=100)

    pc.deliver("c-1")

    assert pc.code("c-1") == "expired"


def test_a_countdown_runs_before_a_strong_command_acts(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=10)
    pc.deliver(pc.want("c-1"))
    pc.now += timedelta(seconds=9)
    pc.turn()
    effects_before = pc.effects["c-1"]

    pc.now += timedelta(seconds=1)
    pc.turn()

    assert effects_before == 0
    assert pc.effects["c-1"] == 1
    assert statuses(pc, "c-1") == ["accepted", "running", "completed"]
    assert pc.told["c-1"][0].result == {"acts_at": "2030-01-15T12:00:10.000Z"}


def test_a_countdown_holds_up_neither_safe_nor_moderate_commands(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=10)

    pc.deliver(
        pc.want("c-1"),
        pc.want("c-2", CommandType.NOTIFY_OPS, {"severity": "INFO", "message": "x"}),
        pc.want("c-3", CommandType.SET_RATE_LIMIT, {"endpoint": "/a", "limit_rps": 1}),
    )

    assert [statuses(pc, command_id)[-1] for command_id in ("c-1", "c-2", "c-3")] == [
        "accepted",
        "completed",
        "completed",
    ]


def test_a_question_about_a_waiting_command_is_answered_with_its_time(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=10)
    pc.deliver(pc.want("c-1"))
    pc.now += timedelta(seconds=5)

    pc.deliver("c-1")

    assert [report.result["acts_at"] for report in pc.told["c-1"]] == ["2030-01-15T12:00:10.000Z"] * 2


def test_somebody_at_the_pc_stops_a_waiting_command(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=10)
    pc.deliver(pc.want("c-1"), pc.want("c-2", payload={"process": "stop-and-start"}))

    stopped = pc.veto("c-1")
    pc.now += timedelta(seconds=10)
    pc.turn()

    assert stopped == ["c-1"]
    assert pc.code("c-1") == "vetoed"
    assert "alice" in pc.last_report("c-1").result["error"]
    assert pc.effects == {"c-2": 1}


def test_a_command_that_expires_while_it_waits_does_not_act(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=30)
    pc.deliver(pc.want("c-1", expires_in_s=20))

    pc.now += timedelta(seconds=20)
    pc.turn()

    assert pc.code("c-1") == "expired"


def test_a_command_that_is_cancelled_while_it_waits_does_not_act(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=30)
    pc.deliver(pc.want("c-1"))

    pc.cancel("c-1")
    pc.now += timedelta(seconds=30)
    pc.turn()

    assert pc.code("c-1") == "cancelled"
    assert pc.effects["c-1"] == 0


def test_a_cancellation_that_comes_with_its_order_is_obeyed(pc: SimulatedPc) -> None:
    pc.to_cancel = [pc.want("c-1"), "c-9"]

    pc.deliver("c-1")

    assert pc.code("c-1") == "cancelled"


def test_a_cancellation_of_what_is_over_changes_nothing(pc: SimulatedPc) -> None:
    pc.deliver(pc.want("c-1"))

    pc.cancel("c-1")

    assert statuses(pc, "c-1") == ["running", "completed"]


def test_a_lock_that_closes_during_the_countdown_holds(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=10)
    pc.deliver(pc.want("c-1"))
    pc.journal.choose_mode(Mode.SAFE)

    pc.now += timedelta(seconds=10)
    pc.turn()

    assert pc.code("c-1") == "mode_safe"


def test_a_crash_during_a_countdown_begins_it_anew_once_the_server_was_heard(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=10)
    pc.deliver(pc.want("c-1"))
    pc.now += timedelta(seconds=60)
    pc.reboot()
    pc.is_server_reachable = False
    pc.turn()
    pc.now += timedelta(seconds=11)
    pc.turn()
    unheard = pc.effects["c-1"]

    pc.is_server_reachable = True
    pc.turn()

    assert unheard == 0
    assert pc.effects["c-1"] == 1


def test_an_agent_that_is_told_to_stop_leaves_nothing_behind_that_would_begin_later(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=10)
    pc.deliver(pc.want("c-1"))

    pc.stop_gracefully()
    pc.now += timedelta(seconds=60)
    pc.deliver("c-1")

    assert pc.code("c-1") == "not_begun"
    assert pc.effects["c-1"] == 0


def test_the_budget_counts_over_restarts_of_the_agent(pc: SimulatedPc) -> None:
    for number in range(4):
        pc.deliver(pc.want(f"c-{number}"))
        pc.reboot()
        pc.now += timedelta(seconds=6)

    assert [pc.last_report(f"c-{number}").result.get("code") for number in range(4)] == [None] * 3 + ["budget_exceeded"]
    assert sum(pc.effects.values()) == 3


def test_a_tripped_breaker_is_an_incident_once_an_hour(pc: SimulatedPc) -> None:
    for number in range(6):
        pc.deliver(pc.want(f"c-{number}"))
        pc.now += timedelta(seconds=6)
    within_the_hour = list(pc.incidents)
    pc.now += timedelta(seconds=30)
    pc.deliver(pc.want("c-7", payload={"process": "stop-and-start"}))
    still = len(pc.incidents)
    pc.reboot(limits=LimitsConfig(strong_per_hour=0))
    pc.now += timedelta(hours=1)
    pc.deliver(pc.want("c-8"))

    assert [(one.level, one.code, one.meta["breaker"]) for one in within_the_hour if one.meta] == [
        ("CRITICAL", "BREAKER_TRIPPED", "budget_exceeded")
    ]
    assert still == 1
    assert len(pc.incidents) == 2


def test_a_process_that_is_not_the_approved_one_is_left_alone(pc: SimulatedPc) -> None:
    pc.want("c-1")
    pc.want("c-2", payload={"process": "stop-and-start"})
    pc.expect = {"pid": 8, "create_time_ms": 1_000}
    pc.deliver("c-1")
    pc.expect = {"pid": 7, "create_time_ms": 2_400}
    pc.deliver("c-2")

    assert pc.code("c-1") == "precondition_failed"
    assert "process 8" in pc.last_report("c-1").result["error"]
    assert pc.effects == {"c-2": 1}


@pytest.mark.parametrize(
    "expect",
    [{"pid": None, "create_time_ms": None}, {"pid": 7, "create_time_ms": 2_501}, {"create_time_ms": 1_000}],
    ids=["was not running", "started at another time", "no pid"],
)
def test_a_world_that_differs_from_the_approved_one_is_left_alone(
    pc: SimulatedPc, expect: dict[str, int | None]
) -> None:
    pc.expect = expect

    pc.deliver(pc.want("c-1"))

    assert pc.code("c-1") == "precondition_failed"
    assert pc.effects["c-1"] == 0


def test_the_agent_does_not_stop_itself_under_another_name(pc: SimulatedPc) -> None:
    pc.pids_of_target = [7, pc.own_pid]

    pc.deliver(pc.want("c-1"))

    assert pc.code("c-1") == "never_touch"
    assert [one.meta["breaker"] for one in pc.incidents if one.meta] == ["never_touch"]


class _BelievesItsClock(Journal):
    def highest_clock(self) -> datetime | None:
        return datetime(2000, 1, 1, tzinfo=UTC)


class _DeafToVetoes(Journal):
    def veto(self, command_id: str | None, *, by: str) -> list[str]:
        stopped = super().veto(command_id, by=by)
        self._write(lambda db: db.execute("UPDATE commands SET vetoed_by = NULL"))
        return stopped


def set_back_story(pc: SimulatedPc) -> None:
    pc.deliver(pc.want("c-0"))
    pc.want("c-1", payload={"process": "stop-and-start"}, expires_in_s=60)
    pc.now += timedelta(seconds=100)
    pc.journal.note_clock()
    pc.now -= timedelta(seconds=100)
    pc.deliver("c-1")
    assert pc.effects["c-1"] == 0


def veto_story(pc: SimulatedPc) -> None:
    pc.reboot(veto_s=10)
    pc.deliver(pc.want("c-1"))
    pc.veto()
    pc.now += timedelta(seconds=10)
    pc.turn()
    assert pc.effects["c-1"] == 0


@pytest.mark.parametrize(
    ("story", "without_guard"),
    [(set_back_story, _BelievesItsClock), (veto_story, _DeafToVetoes)],
    ids=["the clock's highest time", "the veto"],
)
def test_the_story_turns_out_badly_without_its_guard(
    tmp_path: Path, story: Callable[[SimulatedPc], None], without_guard: type[Journal]
) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()

    story(SimulatedPc(tmp_path / "good"))
    with pytest.raises(AssertionError):
        story(SimulatedPc(tmp_path / "bad", journal_class=without_guard))
