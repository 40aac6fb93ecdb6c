import json
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reco3.agent import journal as journal_module
from reco3.agent.journal import (
    Beginning,
    ChosenMode,
    Delivery,
    Ending,
    Journal,
    JournalError,
    Received,
    StateDirLock,
)
from reco3.agent.lifecycle import Entry, State, Veto
from reco3.agent.security import Order
from reco3.protocol.commands import Mode, Strength

NOW = datetime(2030, 1, 15, 12, 0, tzinfo=UTC)
DONE = Ending(is_success=True, result={"success": True, "output": "ok"})
INTERRUPTED = Ending(is_success=False, result={"success": False, "code": "interrupted"})


def receive(journal: Journal, *command_ids: str) -> None:
    journal.receive([Received(command_id, "RESTART_PROCESS", '{"process": "web"}') for command_id in command_ids])


def start(journal: Journal, command_id: str, *, at: datetime = NOW, target: str = "web") -> bool:
    return journal.start(Beginning(command_id, at, Strength.STRONG, target, {"pid": 7}))


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
    start(journal, "c-1")

    entry = reopened(path).find("c-1")

    assert entry is not None
    assert entry.state is State.STARTED


def test_receiving_a_known_command_again_changes_nothing(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1")
    start(journal, "c-1")
    journal.finish("c-1", DONE)

    receive(journal, "c-1", "c-2")

    entry = journal.find("c-1")
    assert entry is not None
    assert entry.state is State.DONE
    assert entry.result == DONE.result


def test_what_a_crash_left_open_is_found_in_the_order_it_came(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1", "c-2", "c-3", "c-4")
    start(journal, "c-1")
    journal.finish("c-1", DONE)
    start(journal, "c-2")
    journal.accept("c-4", NOW)

    found = reopened(path).open_entries()

    assert [(entry.command_id, entry.state) for entry in found] == [
        ("c-2", State.STARTED),
        ("c-3", State.RECEIVED),
        ("c-4", State.ACCEPTED),
    ]
    assert found[0].before == {"pid": 7}


def test_a_command_is_begun_by_one_of_fifty_that_try_at_once(path: Path) -> None:
    receive(Journal(path), "c-1")
    gate = threading.Barrier(50)
    wins: list[bool] = []

    def try_to_start() -> None:
        journal = Journal(path, lock_timeout_s=30)
        gate.wait()
        wins.append(start(journal, "c-1"))
        journal.close()

    threads = [threading.Thread(target=try_to_start) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(wins) == [False] * 49 + [True]


def test_an_end_is_final(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1", "c-2")
    start(journal, "c-1")
    journal.finish("c-1", DONE)
    journal.refuse("c-2", INTERRUPTED)

    journal.finish("c-1", Ending(is_success=False, result={}, new_mode=ChosenMode(Mode.LOCKED, "c-1")))
    journal.finish("c-2", DONE)

    ends = [entry.state for command_id in ("c-1", "c-2") if (entry := journal.find(command_id))]
    assert ends == [State.DONE, State.FAILED]
    assert (start(journal, "c-1"), start(journal, "c-2")) == (False, False)
    assert journal.mode().mode is Mode.NORMAL


def test_a_command_that_was_begun_cannot_be_refused_any_more(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1")
    start(journal, "c-1")

    assert journal.refuse("c-1", INTERRUPTED) is False


def test_an_unknown_end_is_neither_done_nor_failed_and_is_owed(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1")
    start(journal, "c-1")

    journal.finish("c-1", Ending(is_success=False, result={"success": False}, is_unknown=True))

    assert [entry.state for entry in reopened(path).owed_reports()] == [State.UNKNOWN]


def test_an_order_survives_a_crash_with_everything_it_takes_to_go_on(path: Path) -> None:
    order = Order("c-1", "pc-001", "RESTART_PROCESS", "{}", frozenset({"approval"}), approved=True, expect={"pid": 7})
    expires_at = NOW + timedelta(minutes=15)

    Journal(path).receive([Received("c-1", "RESTART_PROCESS", "{}", order, expires_at)])

    entry = reopened(path).find("c-1")
    assert entry is not None
    assert (entry.order, entry.expires_at) == (order, expires_at)


def test_an_order_too_large_to_be_right_is_not_kept(path: Path) -> None:
    Journal(path).receive([Received("c-1", "X", "", Order("c-1", "x" * 100_000, "X", "{}"))])

    entry = reopened(path).find("c-1")
    assert entry is not None
    assert entry.order is None


def test_a_veto_stops_strong_commands_that_wait_and_no_other(path: Path) -> None:
    journal = Journal(path, clock=lambda: NOW)
    receive(journal, "c-1", "c-2", "c-3")
    journal.receive([Received("c-4", "SET_MODE", "{}"), Received("c-5", "nonsense", "{}")])
    journal.accept("c-1", NOW)
    start(journal, "c-3")

    stopped = Journal(path, clock=lambda: NOW).veto(None, by="alice")

    entry = journal.find("c-1")
    assert stopped == ["c-1", "c-2"]
    assert entry is not None
    assert entry.veto == Veto("alice", NOW)
    assert [start(journal, command_id) for command_id in ("c-1", "c-2")] == [False, False]
    assert journal.accept("c-2", NOW) is False


def test_a_veto_of_one_command_leaves_the_others(path: Path) -> None:
    journal = Journal(path)
    receive(journal, "c-1", "c-2")

    stopped = [journal.veto("c-2", by="alice"), journal.veto("c-2", by="bob"), journal.veto("c-9", by="bob")]

    assert stopped == [["c-2"], [], []]
    assert start(journal, "c-1") is True


def test_the_budget_is_counted_over_restarts_and_from_strong_commands_alone(path: Path) -> None:
    journal = Journal(path, clock=lambda: NOW)
    receive(journal, "c-1", "c-2", "c-3")
    start(journal, "c-1", at=NOW - timedelta(hours=2))
    journal.finish("c-1", DONE)
    start(journal, "c-2", at=NOW, target="db")
    journal.start(Beginning("c-3", NOW, Strength.MODERATE, "x", {}))

    begun = reopened(path).begun_since(NOW - timedelta(hours=1))

    assert [(one.target, one.began_at, one.ended_at) for one in begun] == [
        ("web", NOW - timedelta(hours=2), NOW),
        ("db", NOW, None),
    ]


def test_the_highest_time_is_remembered_with_every_commit_until_somebody_trusts_the_clock_again(path: Path) -> None:
    times = iter([NOW, NOW + timedelta(hours=1), NOW, NOW])
    journal = Journal(path, clock=lambda: next(times))
    before_any = journal.highest_clock()
    for _ in range(3):
        journal.note_clock()
    highest = reopened(path).highest_clock()

    journal.trust_clock()

    assert before_any is None
    assert highest == NOW + timedelta(hours=1)
    assert reopened(path).highest_clock() == NOW


def test_a_breaker_is_news_once_an_hour_each(path: Path) -> None:
    times = [NOW]
    journal = Journal(path, clock=lambda: times[0])
    first = [journal.is_breaker_news("quiet_hours"), journal.is_breaker_news("quiet_hours")]
    other = journal.is_breaker_news("never_touch")

    times[0] += timedelta(hours=1)

    assert (first, other) == ([True, False], True)
    assert reopened(path).is_breaker_news("never_touch") is True


def test_a_journal_has_an_epoch_of_its_own_that_survives_everything_but_its_loss(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "a.db").epoch(), Journal(tmp_path / "b.db").epoch()

    assert first != second
    assert len(first) == 32
    assert first.isalnum()
    assert Journal(tmp_path / "a.db").epoch() == first


VERSION_1 = """
PRAGMA journal_mode = WAL;
CREATE TABLE commands (
  seq INTEGER PRIMARY KEY, command_id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, payload TEXT NOT NULL,
  state TEXT NOT NULL, result_json TEXT, delivery TEXT NOT NULL DEFAULT 'OWED');
CREATE INDEX commands_owed ON commands (seq) WHERE delivery = 'OWED';
CREATE TABLE mode (id INTEGER PRIMARY KEY CHECK (id = 1), mode TEXT NOT NULL, set_by TEXT NOT NULL);
CREATE TABLE undo (
  id INTEGER PRIMARY KEY, command_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, before_json TEXT NOT NULL,
  undone_by TEXT);
INSERT INTO commands VALUES (1, 'c-1', 'RESTART_PROCESS', '{}', 'DONE', '{"success": true}', 'ACKNOWLEDGED');
INSERT INTO commands VALUES (2, 'c-2', 'RESTART_PROCESS', '{}', 'STARTED', NULL, 'OWED');
INSERT INTO commands VALUES (3, 'c-3', 'RESTART_PROCESS', '{}', 'RECEIVED', NULL, 'OWED');
INSERT INTO mode VALUES (1, 'SAFE', 'local');
INSERT INTO undo VALUES (1, 'c-0', 'SET_MODE', '{"mode": "NORMAL", "set_by": "default"}', NULL);
PRAGMA user_version = 1;
"""


def test_a_journal_of_the_first_version_is_opened_with_everything_it_knows(path: Path) -> None:
    old = sqlite3.connect(path)
    old.executescript(VERSION_1)
    old.close()

    journals = [Journal(path), Journal(path)]
    threads = [threading.Thread(target=journal.mode) for journal in journals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    journal = journals[0]
    undo = journal.last_undo()
    assert [(entry.command_id, entry.state) for entry in journal.open_entries()] == [
        ("c-2", State.STARTED),
        ("c-3", State.RECEIVED),
    ]
    assert journal.find("c-1") == Entry("c-1", "RESTART_PROCESS", State.DONE, {"success": True})
    assert start(journal, "c-1") is False
    assert journal.mode() == ChosenMode(Mode.SAFE, "local")
    assert undo is not None
    assert undo.command_id == "c-0"
    assert len(journal.epoch()) == 32


def test_a_journal_of_a_newer_agent_is_left_alone(path: Path) -> None:
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {journal_module.SCHEMA_VERSION + 1}")
    newer.close()

    with pytest.raises(JournalError, match="newer agent"):
        Journal(path).mode()


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
    start(journal, "c-2")

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
        start(journal, "c-1")
    other.execute("ROLLBACK")
    other.close()
    start(journal, "c-1")

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

    journal.forget_old_results()

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


def test_what_begins_or_ends_a_command_is_flushed_to_the_disk_at_once_and_what_can_be_asked_again_is_not(
    path: Path,
) -> None:
    journal = Journal(path, clock=lambda: NOW)
    seen: list[str] = []
    journal._opened().set_trace_callback(seen.append)

    def flushed(act: Callable[[], object]) -> bool:
        seen.clear()
        act()
        assert "COMMIT" in seen
        return seen[0] == "PRAGMA synchronous = FULL"

    was_flushed = {
        "receive": flushed(lambda: receive(journal, "c-1", "c-2", "c-3")),
        "accept": flushed(lambda: journal.accept("c-1", NOW)),
        "start": flushed(lambda: start(journal, "c-1")),
        "finish": flushed(lambda: journal.finish("c-1", Ending(is_success=True, result={}))),
        "refuse": flushed(lambda: journal.refuse("c-2", Ending(is_success=False, result={}))),
        "veto": flushed(lambda: journal.veto(None, by="alice")),
        "undo": flushed(lambda: journal.remember_undo("c-1", kind="SET_MODE", before={})),
        "mode": flushed(lambda: journal.choose_mode(Mode.SAFE)),
        "delivery": flushed(lambda: journal.set_delivery("c-1", Delivery.ACKNOWLEDGED)),
    }

    assert {name for name, was in was_flushed.items() if not was} == {"receive", "delivery"}
