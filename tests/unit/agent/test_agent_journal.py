import json
import sqlite3
from pathlib import Path

import pytest

from reco3.agent import journal as journal_module
from reco3.agent.journal import (
    ChosenMode,
    Delivery,
    Ending,
    Entry,
    Journal,
    JournalError,
    Received,
    State,
    StateDirLock,
)
from reco3.protocol.commands import Mode

DONE = Ending(is_success=True, result={"success": True, "output": "ok"})
INTERRUPTED = Ending(is_success=False, result={"success": False, "code": "interrupted"})


def receive(journal: Journal, *command_ids: str) -> None:
    journal.receive([Received(command_id, "RESTART_PROCESS", '{"process": "web"}') for command_id in command_ids])


def reopened(path: Path) -> Journal:
    """The journal as the next run of the agent finds it, the last one having ended without a word."""
    return Journal(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.db"


def test_a_command_is_known_after_a_crash(path: Path) -> None:
    receive(Journal(path), "c-1")

    entry = reopened(path).find("c-1")

    assert entry == Entry("c-1", "RESTART_PROCESS", State.RECEIVED, None)
    assert reopened(path).find("c-2") is None


def test_a_started_command_is_found_started_after_a_crash(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1")
    journal.start("c-1")

    entry = reopened(path).find("c-1")

    assert entry is not None
    assert entry.state is State.STARTED


def test_receiving_a_known_command_again_changes_nothing(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1")
    journal.start("c-1")
    journal.finish("c-1", DONE)

    receive(journal, "c-1", "c-2")

    entry = journal.find("c-1")
    assert entry is not None
    assert entry.state is State.DONE
    assert entry.result == DONE.result


def test_what_a_crash_left_open_is_ended_once_and_owed(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1", "c-2", "c-3")
    journal.start("c-1")
    journal.finish("c-1", DONE)
    journal.start("c-2")

    after_crash = reopened(path)
    found = after_crash.end_interrupted(lambda _: INTERRUPTED)

    assert [(entry.command_id, entry.state) for entry in found] == [("c-2", State.STARTED), ("c-3", State.RECEIVED)]
    assert [entry.command_id for entry in after_crash.owed_reports()] == ["c-1", "c-2", "c-3"]
    assert reopened(path).end_interrupted(lambda _: INTERRUPTED) == []


@pytest.mark.parametrize("delivery", [Delivery.ACKNOWLEDGED, Delivery.PARKED])
def test_a_report_is_owed_until_the_server_took_it_or_will_not(path: Path, delivery: Delivery) -> None:
    journal = Journal(path)
    receive(journal, "c-1")
    journal.finish("c-1", DONE)
    owed_before = reopened(path).owed_reports()

    journal.set_delivery("c-1", delivery)

    assert [entry.command_id for entry in owed_before] == ["c-1"]
    assert reopened(path).owed_reports() == []


def test_a_command_that_is_not_over_is_not_reported(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1", "c-2")
    journal.start("c-2")

    assert journal.owed_reports() == []


def test_the_mode_is_normal_until_somebody_chooses(path: Path) -> None:
    assert Journal(path).mode() == ChosenMode(Mode.NORMAL, "default")


def test_a_mode_its_report_and_its_undoing_are_committed_together(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1")
    journal.finish("c-1", Ending(is_success=True, result={}, new_mode=ChosenMode(Mode.SAFE, "c-1")))

    after_crash = reopened(path)
    undo = after_crash.last_undo()

    assert after_crash.mode() == ChosenMode(Mode.SAFE, "c-1")
    assert undo is not None
    assert (undo.command_id, undo.kind, undo.before) == ("c-1", "SET_MODE", {"mode": "NORMAL", "set_by": "default"})


def test_choosing_the_mode_that_holds_already_leaves_nothing_to_undo(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1")
    journal.finish("c-1", Ending(is_success=True, result={}, new_mode=ChosenMode(Mode.NORMAL, "c-1")))

    assert journal.last_undo() is None


def test_an_undone_change_is_not_undone_twice(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1", "c-2")
    journal.remember_undo("c-1", kind="SET_RATE_LIMIT", before={"text": None})
    undo = journal.undo_of("c-1")
    assert undo is not None

    journal.finish("c-2", Ending(is_success=True, result={}, undone=undo.id))

    assert reopened(path).last_undo() is None
    assert reopened(path).undo_of("c-1") is None


def test_a_locked_journal_is_reported_as_unwritable_and_works_again_after(path: Path) -> None:
    journal = Journal(path, lock_timeout_s=0.01)
    receive(journal, "c-1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(JournalError, match="locked"):
        journal.start("c-1")
    other.execute("ROLLBACK")
    other.close()
    journal.start("c-1")

    entry = journal.find("c-1")
    assert entry is not None
    assert entry.state is State.STARTED


def test_a_damaged_journal_is_an_error_and_is_left_as_it_is(path: Path) -> None:
    damage = b"this was a database once, and it is long enough to be looked at " * 64
    path.write_bytes(damage)

    with pytest.raises(JournalError):
        receive(Journal(path), "c-1")

    assert path.read_bytes() == damage


def test_old_results_are_shortened_but_no_command_is_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "KEPT_RESULTS", 1)
    journal = Journal(path)
    receive(journal, "c-1", "c-2", "c-3")
    for command_id in ("c-1", "c-2", "c-3"):
        journal.finish(command_id, DONE)
    journal.set_delivery("c-1", Delivery.ACKNOWLEDGED)

    journal.end_interrupted(lambda _: INTERRUPTED)

    entries = [reopened(path).find(command_id) for command_id in ("c-1", "c-2", "c-3")]

    results = [entry.result for entry in entries if entry and entry.result]
    assert results[0]["success"] is True
    assert "no longer keeps" in results[0]["output"]
    assert results[1:] == [DONE.result, DONE.result]


def test_every_commit_is_flushed_to_the_disk(path: Path) -> None:
    journal = Journal(path)
    journal.mode()

    assert journal._connection is not None
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert json.dumps(journal._connection.execute("PRAGMA journal_mode").fetchone()) == '["wal"]'


def test_only_one_agent_at_a_time_has_a_state_folder(tmp_path: Path) -> None:
    first, second = StateDirLock(tmp_path), StateDirLock(tmp_path)

    answers = [first.acquire(), second.acquire()]
    first.release()
    answers.append(second.acquire())
    second.release()

    assert answers == [True, False, True]
