"""The ledger finds what was acknowledged and is gone, or is there twice, and finds nothing where nothing is wrong."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from swarm_builders import EPOCH

from reco3.swarm.ledger import Arrival, Asked, Ledger, acknowledged_seq, read_ledger, write_ledger
from reco3.swarm.requests import agent_id, log_message
from reco3.swarm.targets import BadUsage
from reco3.swarm.verifying import DatabaseRecord, Verdict, verify

HEARD_AT = datetime(2030, 1, 15, 12, tzinfo=UTC)
TABLES = """
CREATE TABLE agent_logs (id INTEGER PRIMARY KEY, agent_id TEXT, msg TEXT);
CREATE TABLE agent_status (agent_id TEXT, last_seen TEXT);
CREATE TABLE agent_commands (id TEXT, agent_id TEXT, status TEXT);
"""


def ledger() -> Ledger:
    """Three PCs: the first has ten lines acknowledged, the second five of eight, the third never wrote any."""
    return Ledger(
        EPOCH,
        first_pc=0,
        acked_seq=[10, 5, 0],
        sent_seq=[10, 8, 0],
        heartbeat_acked_at=[HEARD_AT.timestamp()] * 3,
        arrivals={"c-1": Arrival(0, 1.0, is_reported=True)},
        asked={"c-1": Asked(0, 0.9)},
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A record that holds everything that the ledger says."""
    path = tmp_path / "reco3.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(TABLES)
        lines = [
            (agent_id(pc), log_message(pc, epoch=EPOCH, sequence=n)) for pc in (0, 1) for n in range(1, 11 - 3 * pc)
        ]
        connection.executemany("INSERT INTO agent_logs (agent_id, msg) VALUES (?, ?)", lines)
        seen = [(agent_id(pc), "2030-01-15T12:00:00.050Z") for pc in range(3)]
        connection.executemany("INSERT INTO agent_status VALUES (?, ?)", seen)
        connection.execute("INSERT INTO agent_commands VALUES ('c-1', 'sim-000000', 'completed')")
    return path


def verdict(database: Path, *changes: str, books: Ledger | None = None) -> Verdict:
    with closing(sqlite3.connect(database)) as connection, connection:
        for change in changes:
            connection.execute(change)
    return verify(books or ledger(), DatabaseRecord(database))


def test_a_whole_record_is_clean(database: Path) -> None:
    found = verdict(database)

    assert found.is_clean
    assert (found.lines_acked, found.heartbeats_checked, found.reports_acked) == (15, 3, 1)
    assert found.examples == ()


def test_a_deleted_line_that_was_acknowledged_is_lost(database: Path) -> None:
    found = verdict(database, "DELETE FROM agent_logs WHERE msg LIKE 'sim-000000 e1 7 %'")

    assert not found.is_clean
    assert (found.lines_lost, found.lines_duplicated) == (1, 0)
    assert found.examples == ("line 7 of sim-000000 is lost",)


def test_a_line_that_was_never_acknowledged_may_be_missing(database: Path) -> None:
    found = verdict(database, "DELETE FROM agent_logs WHERE msg LIKE 'sim-000001 e1 7 %'")

    assert found.is_clean


def test_all_lines_of_a_pc_may_be_lost(database: Path) -> None:
    found = verdict(database, "DELETE FROM agent_logs WHERE agent_id = 'sim-000001'")

    assert found.lines_lost == 5


def test_a_line_that_is_there_twice_is_found_even_if_it_was_not_acknowledged(database: Path) -> None:
    twice = "INSERT INTO agent_logs (agent_id, msg) SELECT agent_id, msg FROM agent_logs WHERE msg LIKE '{} %'"

    found = verdict(database, twice.format("sim-000000 e1 3"), twice.format("sim-000001 e1 7"))

    assert not found.is_clean
    assert (found.lines_lost, found.lines_duplicated) == (0, 2)
    assert "line 7 of sim-000001 is stored twice" in found.examples


def test_lines_of_another_run_count_for_nothing(database: Path) -> None:
    other = log_message(0, epoch="e0", sequence=1)

    found = verdict(database, *[f"INSERT INTO agent_logs (agent_id, msg) VALUES ('sim-000000', '{other}')"] * 2)

    assert found.is_clean


def test_a_heartbeat_that_the_record_does_not_show_is_lost(database: Path) -> None:
    found = verdict(database, "UPDATE agent_status SET last_seen = '2030-01-15T11:59:50.000Z' WHERE rowid = 2")

    assert (found.heartbeats_lost, found.is_clean) == (1, False)


def test_a_pc_that_the_record_does_not_know_has_lost_its_heartbeats(database: Path) -> None:
    assert verdict(database, "DELETE FROM agent_status WHERE rowid = 3").heartbeats_lost == 1


def test_an_acknowledged_report_whose_command_is_not_completed_is_lost(database: Path) -> None:
    found = verdict(database, "UPDATE agent_commands SET status = 'delivered'")

    assert (found.reports_lost, found.is_clean) == (1, False)


def test_a_command_that_has_not_arrived_yet_is_counted_but_not_lost(database: Path) -> None:
    books = ledger()
    books.asked["c-2"] = Asked(1, 1.0)

    found = verdict(database, books=books)

    assert (found.commands_not_arrived, found.is_clean) == (1, True)


def test_a_ledger_reads_as_it_was_written(tmp_path: Path) -> None:
    write_ledger(ledger(), tmp_path / "ledger.json")

    assert read_ledger(tmp_path / "ledger.json") == ledger()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version":2}', '{"version":1,"epoch":"e"}'])
def test_what_is_no_ledger_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(text)

    with pytest.raises(BadUsage, match="--ledger"):
        read_ledger(path)


@pytest.mark.parametrize(
    ("words", "acked_seq"),
    [({"acked_seq": 15}, 15), ({"acked_seq": 99}, 20), ({"count": 3}, 13), ({"count": 0}, 10), ({}, 20)],
)
def test_an_answer_acknowledges_what_it_says_and_never_more_than_was_sent(
    words: dict[str, object], acked_seq: int
) -> None:
    assert acknowledged_seq(words, first_seq=11, last_seq=20) == acked_seq
