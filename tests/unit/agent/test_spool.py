import json
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reco3.agent.spool import (
    DROPPED_CODE,
    GAP_CODE,
    MAX_BATCH_BYTES,
    QUARANTINED_CODE,
    Batch,
    FileOffset,
    Spool,
    SpoolTooNewError,
)
from reco3.protocol.messages import LogBatch, LogEntry

MIB = 1024 * 1024
OpenSpool = Callable[..., Spool]


@pytest.fixture
def open_spool(tmp_path: Path) -> Iterator[OpenSpool]:
    opened: list[Spool] = []

    def open_one(*, max_bytes: int = MIB) -> Spool:
        opened.append(Spool(tmp_path / "spool.db", max_bytes=max_bytes))
        return opened[-1]

    yield open_one
    for spool in opened:
        spool.close()


def a_line(msg: str = "disk gone", level: str = "ERROR") -> LogEntry:
    return LogEntry(
        msg=msg, ts="2026-11-23T10:00:00.000Z", level=level, code="X", meta={"file": "/a", "line_offset": 3}
    )


def lines(count: int, *, level: str = "ERROR", start: int = 0) -> list[LogEntry]:
    return [a_line(f"line {start + n}", level) for n in range(count)]


def texts(batch: Batch | None) -> list[str]:
    return [] if batch is None else [entry.msg for entry in batch.entries]


def test_an_entry_comes_out_as_it_went_in(open_spool: OpenSpool) -> None:
    spool = open_spool()

    spool.append([a_line(), LogEntry(msg="Ü\U0001f4a5")], {})

    batch = spool.next_batch(10)
    assert batch is not None
    assert batch.entries == (a_line(), LogEntry(msg="Ü\U0001f4a5"))
    assert (batch.stream, batch.first_seq) == ("logs", 1)


def test_an_empty_spool_has_no_batch(open_spool: OpenSpool) -> None:
    assert open_spool().next_batch(10) is None


def test_a_batch_that_was_not_acknowledged_comes_again_with_the_same_numbers(open_spool: OpenSpool) -> None:
    first_run = open_spool()
    first_run.append(lines(3), {})
    sent = first_run.next_batch(2)

    first_run.append(lines(5, level="CRITICAL", start=3), {})
    again = first_run.next_batch(10)
    first_run.close()
    after_restart = open_spool().next_batch(10)

    assert sent is not None
    assert again is not None
    assert texts(sent) == ["line 0", "line 1"]
    assert (again.epoch, again.first_seq, again.bodies[:2]) == (sent.epoch, sent.first_seq, sent.bodies)
    assert after_restart == again


def test_a_smaller_limit_sends_the_start_of_the_same_batch(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(lines(4), {})
    sent = spool.next_batch(4)

    half = spool.next_batch(2)

    assert sent is not None
    assert half is not None
    assert (half.first_seq, half.entries) == (sent.first_seq, sent.entries[:2])


def test_numbers_go_on_densely_after_an_acknowledgement(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(lines(5), {})
    first = spool.next_batch(2)
    assert first is not None

    spool.ack(first.first_seq + 1)
    second = spool.next_batch(10)

    assert second is not None
    assert second.first_seq == 3
    assert texts(second) == ["line 2", "line 3", "line 4"]
    assert spool.pending_count() == 3


def test_numbers_go_on_after_everything_was_acknowledged_and_the_agent_restarted(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(lines(2), {})
    spool.next_batch(10)
    spool.ack(2)
    spool.close()

    restarted = open_spool()
    restarted.append(lines(1, start=2), {})

    batch = restarted.next_batch(10)
    assert batch is not None
    assert batch.first_seq == 3


def test_an_old_acknowledgement_forgets_nothing_new(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(lines(2), {})
    spool.next_batch(1)
    spool.ack(1)
    spool.next_batch(1)

    spool.ack(1)

    assert texts(spool.next_batch(10)) == ["line 1"]


def test_what_was_never_sent_is_not_forgotten_by_an_acknowledgement(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(lines(3), {})
    spool.next_batch(1)

    spool.ack(1)

    assert spool.pending_count() == 2


def test_an_acknowledgement_of_a_number_never_given_out_starts_a_new_epoch(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(lines(3), {})
    before = spool.next_batch(2)

    spool.ack(100)
    after = spool.next_batch(10)

    assert before is not None
    assert after is not None
    assert after.epoch != before.epoch
    assert after.first_seq == 1
    assert texts(after) == ["line 0", "line 1", "line 2"]


def test_two_spools_have_different_epochs(tmp_path: Path) -> None:
    epochs = set()

    for name in ("a.db", "b.db"):
        spool = Spool(tmp_path / name, max_bytes=MIB)
        spool.append(lines(1), {})
        batch = spool.next_batch(1)
        assert batch is not None
        epochs.add(batch.epoch)
        spool.close()

    assert len(epochs) == 2


def test_a_batch_never_outgrows_the_servers_limit(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=64 * MIB)
    spool.append([a_line("x" * 16_000) for _ in range(300)], {})

    batch = spool.next_batch(500)

    assert batch is not None
    assert 1 < len(batch.entries) <= MAX_BATCH_BYTES // 16_000


def test_no_more_than_the_protocol_allows_come_at_once(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(lines(600), {})

    assert len(texts(spool.next_batch(10_000))) == 500


def test_offsets_are_kept_with_the_lines_they_belong_to(open_spool: OpenSpool) -> None:
    offset = FileOffset(1, 2**63 + 5, 10, "ab", 77, "cd", is_inside_long_line=True, older=(FileOffset(1, 3),))
    spool = open_spool()
    spool.append(lines(1), {"/a": FileOffset(), "/b": offset})
    spool.append([], {"/a": offset})
    spool.close()

    assert open_spool().offsets() == {"/a": offset, "/b": offset}


def test_an_entry_that_cannot_be_kept_keeps_the_offset_from_moving(open_spool: OpenSpool) -> None:
    spool = open_spool()

    with pytest.raises(TypeError):
        spool.append([a_line(), LogEntry(msg="x", meta={"no JSON": object()})], {"/a": FileOffset(offset=9)})

    assert spool.offsets() == {}
    assert spool.pending_count() == 0


def test_when_space_runs_out_the_oldest_and_least_severe_go_first_and_one_marker_says_so(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=2_000)
    spool.append([*lines(2, level="CRITICAL"), *lines(5, level="WARN", start=2), *lines(5, start=7)], {})

    spool.append(lines(12, start=12), {})

    batch = spool.next_batch(100)
    assert batch is not None
    (marker,) = [entry for entry in batch.entries if entry.code == DROPPED_CODE]
    kept = [entry.msg for entry in batch.entries if entry.code != DROPPED_CODE]
    assert kept[:2] == ["line 0", "line 1"]
    assert kept[-1] == "line 23"
    assert not {f"line {n}" for n in range(2, 7)} & set(kept)
    assert marker.meta == {
        "dropped": 24 - len(kept),
        "levels": {"WARN": 5, "ERROR": 24 - len(kept) - 5},
        "first_ts": "2026-11-23T10:00:00.000Z",
        "last_ts": "2026-11-23T10:00:00.000Z",
    }
    assert marker.level == "ERROR"


def test_however_often_lines_are_dropped_one_marker_counts_them_all(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=2_000)

    for n in range(20):
        spool.append(lines(5, level="WARN", start=5 * n), {})

    batch = spool.next_batch(100)
    assert batch is not None
    markers = [entry.meta or {} for entry in batch.entries if entry.code == DROPPED_CODE]
    dropped = 100 - (len(batch.entries) - 1)
    assert [(marker["dropped"], marker["levels"]) for marker in markers] == [(dropped, {"WARN": dropped})]


def test_a_marker_tells_from_when_to_when_lines_were_dropped(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=2_000)

    for minute in range(30):
        spool.append([LogEntry(msg="x", ts=f"2026-11-23T10:{minute:02}:00.000Z", level="WARN")], {})

    batch = spool.next_batch(100)
    assert batch is not None
    marker, first_kept, *_ = batch.entries
    assert (marker.meta or {})["first_ts"] == "2026-11-23T10:00:00.000Z"
    assert (marker.meta or {})["last_ts"] < (first_kept.ts or "")


def test_the_last_fifth_of_the_space_is_for_errors_alone(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=20_000)

    spool.append(lines(200, level="WARN"), {})
    warnings_kept = spool.pending_count()
    spool.append(lines(15, start=200), {})

    batch = spool.next_batch(500)
    assert batch is not None
    sizes = [len(body) + 64 for body in batch.bodies]
    levels = [entry.level for entry in batch.entries if entry.code != DROPPED_CODE]
    assert sum(sizes[:warnings_kept]) <= 16_000
    assert levels.count("ERROR") == 15
    assert 0 < levels.count("WARN") < 200


def test_a_marker_that_was_sent_counts_no_more_and_another_one_takes_over(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=2_000)
    spool.append(lines(40), {})
    sent = spool.next_batch(500)

    spool.append(lines(40, start=40), {})

    again = spool.next_batch(500)
    assert sent is not None
    assert again is not None
    assert again.bodies[: len(sent.bodies)] == sent.bodies
    dropped = [(entry.meta or {})["dropped"] for entry in again.entries if entry.code == DROPPED_CODE]
    assert len(dropped) == 2
    assert sum(dropped) + len(again.bodies) - 2 == 80


def test_what_a_killed_predecessor_may_have_sent_is_never_dropped(open_spool: OpenSpool) -> None:
    killed = open_spool(max_bytes=20_000)
    killed.append(lines(100, level="WARN"), {})
    sent = killed.next_batch(100)

    successor = open_spool(max_bytes=20_000)
    successor.append(lines(400, start=100), {})

    again = successor.next_batch(500)
    assert sent is not None
    assert again is not None
    assert again.bodies[: len(sent.bodies)] == sent.bodies


def test_a_line_that_is_set_aside_is_kept_here_and_a_marker_goes_under_its_number(
    open_spool: OpenSpool, tmp_path: Path
) -> None:
    spool = open_spool()
    spool.append(lines(3), {})
    before = spool.next_batch(3)

    set_aside = spool.quarantine_oldest("400 bad_request: logs[0].msg")

    after = spool.next_batch(3)
    assert before is not None
    assert after is not None
    assert set_aside == a_line("line 0")
    assert (after.first_seq, after.bodies[1:]) == (before.first_seq, before.bodies[1:])
    marker = after.entries[0]
    assert (marker.code, marker.level) == (QUARANTINED_CODE, "ERROR")
    assert marker.meta == {"reason": "400 bad_request: logs[0].msg", "file": "/a", "line_offset": 3}
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        assert connection.execute("SELECT reason, body FROM quarantine").fetchall() == [
            ("400 bad_request: logs[0].msg", before.bodies[0])
        ]
    connection.close()


def test_a_marker_that_is_refused_like_its_line_is_given_up(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(lines(2), {})
    spool.next_batch(2)
    spool.quarantine_oldest("400")

    given_up = spool.quarantine_oldest("400")

    batch = spool.next_batch(2)
    assert given_up is None
    assert batch is not None
    assert (batch.first_seq, texts(batch)) == (2, ["line 1"])


def test_only_the_newest_hundred_lines_stay_set_aside(open_spool: OpenSpool, tmp_path: Path) -> None:
    spool = open_spool()
    spool.append(lines(103), {})
    for seq in range(1, 104):
        spool.next_batch(1)
        spool.quarantine_oldest("400")
        spool.ack(seq)

    with sqlite3.connect(tmp_path / "spool.db") as connection:
        bodies = [json.loads(body)["msg"] for (body,) in connection.execute("SELECT body FROM quarantine ORDER BY id")]
    connection.close()
    assert bodies == [f"line {n}" for n in range(3, 103)]


def test_a_batch_goes_out_as_the_message_of_the_protocol(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append([a_line("\u00dc \ud800 \x00 \u2028"), LogEntry(msg="bare", ts=None, level=None)], {})

    batch = spool.next_batch(10)

    assert batch is not None
    message = msgspec.json.decode(batch.to_json(), type=LogBatch)
    assert (message.stream, message.epoch, message.first_seq) == (batch.stream, batch.epoch, 1)
    assert message.logs == [a_line("\u00dc ? \x00 \u2028"), LogEntry(msg="bare")]


SPOOL_OF_VERSION_1 = """
CREATE TABLE numbering (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    epoch TEXT NOT NULL, next_seq INTEGER NOT NULL, total_bytes INTEGER NOT NULL
);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, seq INTEGER, is_dropped_marker INTEGER NOT NULL, severity INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, ts TEXT NOT NULL, level TEXT NOT NULL, code TEXT, msg TEXT NOT NULL, meta_json TEXT
);
CREATE UNIQUE INDEX entries_by_seq ON entries (seq) WHERE seq IS NOT NULL;
CREATE INDEX entries_by_worth ON entries (severity, id) WHERE seq IS NULL AND NOT is_dropped_marker;
CREATE TABLE offsets (path TEXT PRIMARY KEY, offset_json TEXT NOT NULL);
INSERT INTO numbering VALUES (1, 'old', 43, 200);
INSERT INTO entries VALUES (7, 41, 0, 2, 90, 't1', 'ERROR', NULL, 'sent', '{"file":"/a"}');
INSERT INTO entries VALUES (8, 42, 0, 2, 90, 't2', 'ERROR', 'X', 'sent too', NULL);
INSERT INTO entries
    VALUES (9, NULL, 1, 1, 90, 't3', 'WARN', 'LOG_DROPPED', 'dropped', '{"dropped":2,"levels":{"WARN":2}}');
INSERT INTO offsets VALUES ('/a', '{"device":1,"inode":2,"head_bytes":0,"head_sha256":"","offset":5,
    "tail_sha256":"","is_inside_long_line":false,"older":[]}');
PRAGMA user_version = 1;
"""


def test_a_spool_of_an_older_agent_is_carried_over_under_its_numbers(open_spool: OpenSpool, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.executescript(SPOOL_OF_VERSION_1)
    connection.close()

    spool = open_spool()

    batch = spool.next_batch(10)
    assert batch is not None
    assert (batch.epoch, batch.first_seq, texts(batch)) == ("old", 41, ["sent", "sent too", "dropped"])
    assert batch.entries[0] == LogEntry(msg="sent", ts="t1", level="ERROR", meta={"file": "/a"})
    assert spool.offsets() == {"/a": FileOffset(device=1, inode=2, offset=5)}


def test_an_offset_with_fields_of_a_newer_agent_is_read(open_spool: OpenSpool, tmp_path: Path) -> None:
    open_spool().close()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("""INSERT INTO offsets VALUES ('/a', '{"device":1,"inode":2,"offset":5,"new":true}')""")
    connection.close()

    assert open_spool().offsets() == {"/a": FileOffset(device=1, inode=2, offset=5)}


def test_without_a_shortage_nothing_is_dropped(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=MIB)

    spool.append(lines(24), {})

    assert texts(spool.next_batch(100)) == [f"line {n}" for n in range(24)]


def test_what_was_sent_is_never_dropped_for_want_of_space(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=1_000)
    spool.append(lines(4, level="WARN"), {})
    sent = spool.next_batch(4)

    spool.append(lines(50, level="CRITICAL"), {})

    assert spool.next_batch(4) == sent


def test_the_file_stays_in_proportion_to_its_bound(open_spool: OpenSpool, tmp_path: Path) -> None:
    spool = open_spool(max_bytes=MIB)

    for n in range(100):
        spool.append([a_line("x" * 300) for _ in range(200)], {"/a": FileOffset(offset=n)})
    spool.close()

    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size < 3 * MIB


def test_a_file_that_is_no_spool_is_set_aside_and_the_gap_is_told(open_spool: OpenSpool, tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"not a database at all" * 1000)

    batch = open_spool().next_batch(10)

    assert batch is not None
    assert [entry.code for entry in batch.entries] == [GAP_CODE]
    assert len(list(tmp_path.glob("spool.db.unreadable-*"))) == 1


def test_a_spool_of_a_newer_agent_is_left_alone(open_spool: OpenSpool, tmp_path: Path) -> None:
    open_spool().close()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("PRAGMA user_version = 3")
    connection.close()

    with pytest.raises(SpoolTooNewError, match="expected a spool of version 2 or older, found 3"):
        open_spool()


def test_nobody_else_may_read_the_spool(open_spool: OpenSpool, tmp_path: Path) -> None:
    open_spool().append(lines(1), {})

    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}

    assert modes == {0o600}


def test_a_commit_waits_for_the_disk_also_after_an_acknowledgement_that_did_not(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(lines(1), {})
    spool.next_batch(1)
    spool.ack(1)

    (level,) = spool._connection.execute("PRAGMA synchronous").fetchone()

    assert level == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.sampled_from(["WARN", "ERROR", "CRITICAL"]), st.integers(1, 9)),
            st.tuples(st.just("send"), st.just(""), st.integers(1, 7)),
            st.tuples(st.just("ack"), st.just(""), st.integers(0, 7)),
            st.tuples(st.just("reopen"), st.just(""), st.just(0)),
        ),
        max_size=40,
    )
)
def test_a_server_sees_dense_numbers_and_every_line_once_or_counted_as_dropped(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool.db"
    spool, held, appended, acked = Spool(path, max_bytes=2_000), dict[int, LogEntry](), 0, 0

    for action, level, count in [*steps, ("drain", "", 500)]:
        if action == "append":
            spool.append(lines(count, level=level, start=appended), {})
            appended += count
        elif action == "reopen":
            spool.close()
            spool = Spool(path, max_bytes=2_000)
        elif action == "ack":
            acked = min(len(held), acked + count)
            spool.ack(acked)
        while action in ("send", "drain") and (batch := spool.next_batch(count)) is not None:
            for seq, entry in enumerate(batch.entries, start=batch.first_seq):
                assert held.setdefault(seq, entry) == entry
            if action == "send":
                break
            acked = batch.first_seq + len(batch.entries) - 1
            spool.ack(acked)
    spool.close()

    assert sorted(held) == list(range(1, len(held) + 1))
    kept = [entry.msg for entry in held.values() if entry.code != DROPPED_CODE]
    dropped = sum((entry.meta or {})["dropped"] for entry in held.values() if entry.code == DROPPED_CODE)
    assert len(kept) == len(set(kept))
    assert len(kept) + dropped == appended
