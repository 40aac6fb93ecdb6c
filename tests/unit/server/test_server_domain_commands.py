"""Commands: an exhaustive table of what a report does, and when a pull may carry a command."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest

from builders import PC, approval, command, report
from fakes import START
from reco3.protocol.commands import CommandType, Strength, type_strengths
from reco3.protocol.limits import MAX_RESULT_BYTES
from reco3.server.domain.commands import (
    CommandStatus,
    Outcome,
    ReportConflict,
    ReportRepeated,
    ReportStatus,
    ReportTaken,
    Resolution,
    bounded_result,
    check_request,
    delivered,
    is_expired,
    is_silent,
    lost_its_journal,
    may_cancel,
    may_deliver,
    must_hear_of_cancel,
    parse_type,
    resolved,
    take_report,
)
from reco3.server.domain.errors import BadInput

LATER = START + timedelta(seconds=5)

S, R = CommandStatus, ReportStatus
# What each report does to a command without an approval: every pair that stands nowhere here says nothing new.
MOVES = {
    (S.PENDING, R.COMPLETED): S.COMPLETED,
    (S.PENDING, R.FAILED): S.FAILED,
    (S.PENDING, R.UNKNOWN): S.UNKNOWN,
    (S.DELIVERED, R.ACCEPTED): S.DELIVERED,
    (S.DELIVERED, R.RUNNING): S.RUNNING,
    (S.DELIVERED, R.COMPLETED): S.COMPLETED,
    (S.DELIVERED, R.FAILED): S.FAILED,
    (S.DELIVERED, R.UNKNOWN): S.UNKNOWN,
    (S.RUNNING, R.COMPLETED): S.COMPLETED,
    (S.RUNNING, R.FAILED): S.FAILED,
    (S.RUNNING, R.UNKNOWN): S.UNKNOWN,
    (S.UNKNOWN, R.COMPLETED): S.COMPLETED,
    (S.UNKNOWN, R.FAILED): S.FAILED,
}
ENDS = (R.COMPLETED, R.FAILED, R.UNKNOWN)
CONFLICTS = {
    (status, reported)
    for status in (S.COMPLETED, S.FAILED, S.REJECTED, S.EXPIRED, S.CANCELLED)
    for reported in ENDS
    if status.value != reported.value
}
STRONG = [name for name, strength in type_strengths.items() if strength is Strength.STRONG]
NOT_STRONG = [name for name, strength in type_strengths.items() if strength is not Strength.STRONG]


@pytest.mark.parametrize(("status", "reported"), list(product(CommandStatus, ReportStatus)))
def test_a_report_moves_a_command_on_or_changes_nothing(status: CommandStatus, reported: ReportStatus) -> None:
    before = command(status=status, delivered_at=START)

    outcome = take_report(before, report(reported), LATER)

    expected = MOVES.get((status, reported))
    if expected is not None:
        assert isinstance(outcome, ReportTaken)
        assert outcome.command.status is expected
    elif (status, reported) in CONFLICTS:
        assert outcome == ReportConflict(before)
    else:
        assert outcome == ReportRepeated(before)


@pytest.mark.parametrize("reported", ENDS)
def test_a_report_of_a_strong_command_that_nobody_approved_is_a_conflict(reported: ReportStatus) -> None:
    before = command(CommandType.RESTART_PROCESS, status=CommandStatus.PENDING)

    assert take_report(before, report(reported), LATER) == ReportConflict(before)


@pytest.mark.parametrize(
    ("code", "cancel_requested_at", "expected"),
    [
        ("cancelled", START, CommandStatus.CANCELLED),
        ("cancelled", None, CommandStatus.FAILED),
        ("expired", None, CommandStatus.EXPIRED),
        ("apply_disabled", START, CommandStatus.FAILED),
    ],
)
def test_a_refusal_by_the_pc_ends_as_what_it_is(
    code: str, cancel_requested_at: datetime | None, expected: CommandStatus
) -> None:
    before = command(status=CommandStatus.DELIVERED, cancel_requested_at=cancel_requested_at)

    outcome = take_report(before, report(ReportStatus.FAILED, result={"success": False, "code": code}), LATER)

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
    asked = command(command_type, status=status, delivered_at=START, approvals=(approval(),) if approved else ())

    carried = may_deliver(asked, START + timedelta(hours=23), journal=None)

    assert carried is (status is CommandStatus.PENDING and approved)


@pytest.mark.parametrize("command_type", STRONG)
@pytest.mark.parametrize(("delivered_to", "asking"), [(None, None), (None, "j1"), ("j1", None), ("j1", "j2")])
def test_a_strong_command_is_never_delivered_twice_but_to_the_journal_that_knows_it(
    command_type: CommandType, delivered_to: str | None, asking: str | None
) -> None:
    once = delivered(command(command_type, approvals=(approval(),)), START, journal=delivered_to)

    assert once.status is CommandStatus.DELIVERED
    assert not any(may_deliver(once, START + timedelta(seconds=s), journal=asking) for s in (0, 60, 86_399))


@pytest.mark.parametrize(("silence_s", "expected"), [(0, False), (29.999, False), (30, True), (86_399, True)])
def test_the_journal_that_got_a_command_is_asked_again_after_the_lease(silence_s: float, expected: bool) -> None:
    once = delivered(command(CommandType.ROLLBACK, approvals=(approval(),)), START, journal="j1")

    assert may_deliver(once, START + timedelta(seconds=silence_s), journal="j1") is expected


def test_a_journal_that_accepted_a_command_is_not_asked_again() -> None:
    accepted = command(
        CommandType.ROLLBACK,
        status=CommandStatus.DELIVERED,
        approvals=(approval(),),
        delivered_at=START,
        journal="j1",
        accepted_at=START,
    )

    assert not may_deliver(accepted, START + timedelta(hours=1), journal="j1")


@pytest.mark.parametrize(("command_type", "status"), list(product(NOT_STRONG, CommandStatus)))
def test_other_commands_are_delivered_while_pending_and_again_after_silence(
    command_type: CommandType, status: CommandStatus
) -> None:
    asked = command(command_type, status=status, delivered_at=START)

    carried = may_deliver(asked, START + timedelta(seconds=60), journal=None)

    assert carried is (status in (CommandStatus.PENDING, CommandStatus.DELIVERED))


@pytest.mark.parametrize(("silence_s", "expected"), [(0, False), (59.999, False), (60, True), (3600, True)])
def test_a_safe_command_is_offered_again_after_a_minute(silence_s: float, expected: bool) -> None:
    once = delivered(command(), START, journal=None)

    assert may_deliver(once, START + timedelta(seconds=silence_s), journal=None) is expected


@pytest.mark.parametrize("changes", [{"expires_at": LATER}, {"cancel_requested_at": START}])
def test_what_has_expired_or_is_not_wanted_is_not_delivered(changes: dict[str, datetime]) -> None:
    assert may_deliver(command(), LATER, journal=None)
    assert not may_deliver(command(**changes), LATER, journal=None)


def test_only_a_strong_command_in_a_lost_journal_is_given_up() -> None:
    held = command(CommandType.ROLLBACK, status=CommandStatus.RUNNING, approvals=(approval(),), journal="j1")

    assert lost_its_journal(held, journal="j2")
    assert lost_its_journal(held, journal=None)
    assert not lost_its_journal(held, journal="j1")
    assert not lost_its_journal(replace(held, type=CommandType.SET_MODE), journal="j2")
    assert not lost_its_journal(replace(held, journal=None), journal="j2")
    assert not lost_its_journal(replace(held, status=CommandStatus.PENDING), journal="j2")


@pytest.mark.parametrize(
    ("changes", "after_s", "expected"),
    [
        ({"status": S.DELIVERED, "type": CommandType.ROLLBACK}, 299, False),
        ({"status": S.DELIVERED, "type": CommandType.ROLLBACK}, 300, True),
        ({"status": S.DELIVERED, "type": CommandType.ROLLBACK, "journal": "j1"}, 86_400, False),
        ({"status": S.DELIVERED, "type": CommandType.ROLLBACK, "journal": "j1"}, 86_700, True),
        ({"status": S.DELIVERED}, 86_400, False),
        ({"status": S.DELIVERED}, 86_700, True),
        ({"status": S.RUNNING, "started_at": START}, 899, False),
        ({"status": S.RUNNING, "started_at": START}, 900, True),
        ({"status": S.PENDING}, 10**6, False),
        ({"status": S.COMPLETED}, 10**6, False),
        ({"status": S.UNKNOWN}, 10**6, False),
    ],
)
def test_silence_is_an_answer_only_after_its_time(changes: dict[str, Any], after_s: float, expected: bool) -> None:
    silent = replace(command(delivered_at=START), **changes)

    assert is_silent(silent, START + timedelta(seconds=after_s)) is expected


@pytest.mark.parametrize("status", CommandStatus)
def test_only_a_pending_command_expires_on_the_server(status: CommandStatus) -> None:
    waiting = command(status=status, expires_at=LATER)

    assert not is_expired(waiting, START)
    assert is_expired(waiting, LATER) is (status is CommandStatus.PENDING)


@pytest.mark.parametrize("status", CommandStatus)
@pytest.mark.parametrize("journal", [None, "j1"])
def test_a_command_can_be_cancelled_until_the_pc_begins(status: CommandStatus, journal: str | None) -> None:
    asked = command(status=status, journal=journal)

    expected = status is CommandStatus.PENDING or (status is CommandStatus.DELIVERED and journal is not None)
    assert may_cancel(asked) is expected
    assert may_cancel(replace(asked, cancel_requested_at=START)) is (status is CommandStatus.PENDING)


def test_the_pc_hears_of_a_cancellation_once_a_lease() -> None:
    unwanted = command(status=CommandStatus.DELIVERED, journal="j1", cancel_requested_at=START)

    assert must_hear_of_cancel(unwanted, START, journal="j1")
    assert not must_hear_of_cancel(unwanted, START, journal="j2")
    assert not must_hear_of_cancel(replace(unwanted, cancel_requested_at=None), START, journal="j1")
    told = replace(unwanted, cancel_told_at=START)
    assert not must_hear_of_cancel(told, START + timedelta(seconds=29), journal="j1")
    assert must_hear_of_cancel(told, START + timedelta(seconds=30), journal="j1")


@pytest.mark.parametrize(("outcome", "status"), [(Outcome.RAN, S.COMPLETED), (Outcome.DID_NOT_RUN, S.FAILED)])
def test_a_persons_word_ends_an_unknown_command(outcome: Outcome, status: CommandStatus) -> None:
    word = Resolution(outcome, "I looked", "ann", LATER)

    ended = resolved(command(status=CommandStatus.UNKNOWN), word)

    assert (ended.status, ended.resolution, ended.finished_at) == (status, word, LATER)


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
