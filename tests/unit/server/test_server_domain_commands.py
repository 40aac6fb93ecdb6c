"""Commands: an exhaustive table of what a report does, and when a pull may carry a command."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from builders import PC, approval, command, report
from fakes import START
from reco3.protocol.commands import CommandType, Strength, type_strengths
from reco3.protocol.limits import MAX_RESULT_BYTES
from reco3.server.domain.commands import (
    CommandStatus,
    ReportRepeated,
    ReportStatus,
    ReportTaken,
    bounded_result,
    check_request,
    delivered,
    may_deliver,
    parse_type,
    take_report,
)
from reco3.server.domain.errors import BadInput

LATER = START + timedelta(seconds=5)

# Every pair that is not listed changes nothing.
MOVES = {
    (CommandStatus.DELIVERED, ReportStatus.RUNNING): CommandStatus.RUNNING,
    (CommandStatus.DELIVERED, ReportStatus.COMPLETED): CommandStatus.COMPLETED,
    (CommandStatus.DELIVERED, ReportStatus.FAILED): CommandStatus.FAILED,
    (CommandStatus.RUNNING, ReportStatus.COMPLETED): CommandStatus.COMPLETED,
    (CommandStatus.RUNNING, ReportStatus.FAILED): CommandStatus.FAILED,
}
STRONG = [name for name, strength in type_strengths.items() if strength is Strength.STRONG]
NOT_STRONG = [name for name, strength in type_strengths.items() if strength is not Strength.STRONG]


@pytest.mark.parametrize(("status", "reported"), list(product(CommandStatus, ReportStatus)))
def test_a_report_moves_a_command_on_or_changes_nothing(status: CommandStatus, reported: ReportStatus) -> None:
    before = command(status=status, delivered_at=START)

    outcome = take_report(before, report(reported), LATER)

    expected = MOVES.get((status, reported))
    if expected is None:
        assert outcome == ReportRepeated(before)
    else:
        assert isinstance(outcome, ReportTaken)
        assert outcome.command.status is expected


def test_a_final_report_keeps_the_result_and_the_time() -> None:
    outcome = take_report(command(status=CommandStatus.RUNNING, started_at=START), report(), LATER)

    assert outcome.command.result_json == '{"success": true}'
    assert (outcome.command.started_at, outcome.command.finished_at) == (START, LATER)


def test_a_first_running_report_keeps_when_it_began_and_no_result() -> None:
    outcome = take_report(command(status=CommandStatus.DELIVERED), report(ReportStatus.RUNNING), LATER)

    assert (outcome.command.started_at, outcome.command.result_json) == (LATER, None)


@pytest.mark.parametrize(
    ("command_type", "status", "approved"),
    list(product(STRONG, CommandStatus, [True, False])),
)
def test_a_strong_command_is_delivered_only_while_pending_and_approved(
    command_type: CommandType, status: CommandStatus, approved: bool
) -> None:
    asked = command(command_type, status=status, delivered_at=START, approval=approval() if approved else None)

    carried = may_deliver(asked, START + timedelta(days=1))

    assert carried is (status is CommandStatus.PENDING and approved)


@pytest.mark.parametrize("command_type", STRONG)
def test_a_strong_command_is_never_delivered_twice(command_type: CommandType) -> None:
    once = delivered(command(command_type, approval=approval()), START)

    assert once.status is CommandStatus.DELIVERED
    assert not any(may_deliver(once, START + timedelta(seconds=seconds)) for seconds in (0, 60, 86_400))


@pytest.mark.parametrize(("command_type", "status"), list(product(NOT_STRONG, CommandStatus)))
def test_other_commands_are_delivered_while_pending_and_again_after_silence(
    command_type: CommandType, status: CommandStatus
) -> None:
    asked = command(command_type, status=status, delivered_at=START)

    carried = may_deliver(asked, START + timedelta(seconds=60))

    assert carried is (status in (CommandStatus.PENDING, CommandStatus.DELIVERED))


@pytest.mark.parametrize(("silence_s", "expected"), [(0, False), (59.999, False), (60, True), (3600, True)])
def test_a_safe_command_is_offered_again_after_a_minute(silence_s: float, expected: bool) -> None:
    once = delivered(command(), START)

    assert may_deliver(once, START + timedelta(seconds=silence_s)) is expected


def test_an_unknown_type_is_refused_naming_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"type: expected one of SET_MODE.*got 'FORMAT_DISK'") as refusal:
        parse_type("FORMAT_DISK")

    assert refusal.value.code == "unknown_command_type"


def test_a_bad_payload_is_refused_naming_its_field() -> None:
    with pytest.raises(BadInput, match="expected one of NORMAL, SAFE, LOCKED") as refusal:
        check_request(CommandType.SET_MODE, {"mode": "OFF"}, watched=None)

    assert (refusal.value.field, refusal.value.code) == ("payload.mode", "bad_payload")


def test_a_process_that_the_pc_does_not_watch_is_refused_naming_those_it_does() -> None:
    with pytest.raises(BadInput, match="it watches: nginx, redis") as refusal:
        check_request(CommandType.RESTART_PROCESS, {"process": "mysql"}, watched=["nginx", "redis"])

    assert (refusal.value.field, refusal.value.code) == ("payload.process", "unknown_process")


@pytest.mark.parametrize("watched", [None, ["nginx"]])
def test_a_watched_process_or_a_pc_that_named_none_is_let_through(watched: list[str] | None) -> None:
    check_request(CommandType.RESTART_PROCESS, {"process": "nginx"}, watched=watched)


def test_a_result_that_fits_is_kept_as_it_is() -> None:
    assert bounded_result({"success": True, "extra": [1, 2]}) == {"success": True, "extra": [1, 2]}


def test_of_a_result_that_is_too_large_the_ends_of_its_texts_are_kept() -> None:
    output = "x" * MAX_RESULT_BYTES + "the end"

    kept = bounded_result({"success": False, "output": output, "error": "boom", "junk": ["y" * 9], "code": 7})

    assert kept.keys() == {"success", "output", "error", "was_cut"}
    assert str(kept["output"]).endswith("the end")
    assert len(json.dumps(kept)) <= MAX_RESULT_BYTES


@pytest.mark.parametrize("claimed", [1, "true", None, [True]])
def test_success_of_a_cut_result_is_true_only_when_it_was_true(claimed: object) -> None:
    kept = bounded_result({"success": claimed, "output": "x" * MAX_RESULT_BYTES})

    assert kept["success"] is False


def test_a_command_knows_its_strength_from_its_type_alone() -> None:
    assert command(CommandType.ROLLBACK).needs_approval
    assert not replace(command(), agent_id=PC).needs_approval
