import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reco3.agent import logs_tail
from reco3.agent.logs_tail import CHUNK_BYTES, LogTail
from reco3.agent.spool import FileOffset, Spool
from reco3.protocol.limits import MAX_LOG_MESSAGE_CHARS
from reco3.protocol.messages import LogEntry

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)


@dataclass
class Pc:
    """An agent's tail over one real log file, with a clock that the test moves."""

    folder: Path
    max_bytes: int = 64 * 1024 * 1024
    now_s: float = 1_000.0
    seen: list[LogEntry] = field(default_factory=list)
    spool: Spool | None = None
    tail: LogTail | None = None

    @property
    def log(self) -> Path:
        return self.folder / "app.log"

    def start(self) -> None:
        self.spool = Spool(self.folder / "state" / "spool.db", max_bytes=self.max_bytes)
        self.tail = LogTail([str(self.log)], self.spool, now=lambda: NOW, monotonic=lambda: self.now_s)

    def stop(self) -> None:
        if self.tail is not None and self.spool is not None:
            self.tail.close()
            self.spool.close()
        self.tail = self.spool = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def write(self, text: str) -> None:
        with self.log.open("a", encoding="utf-8", newline="") as file:
            file.write(text)

    def rotate(self) -> None:
        for n in (3, 2, 1):
            if (old := self.folder / f"app.log.{n}").exists():
                old.rename(self.folder / f"app.log.{n + 1}")
        self.log.rename(self.folder / "app.log.1")

    def copytruncate(self) -> None:
        shutil.copyfile(self.log, self.folder / "app.log.1")
        os.truncate(self.log, 0)

    def collect(self, *, after_s: float = 15.0) -> list[LogEntry]:
        assert self.tail is not None
        self.now_s += after_s
        count = self.tail.collect()
        new = self._take_spooled()
        assert count == len(new)
        self.seen += new
        return new

    def _take_spooled(self) -> list[LogEntry]:
        assert self.spool is not None
        taken: list[LogEntry] = []
        while (batch := self.spool.next_batch(500)) is not None:
            taken += batch.entries
            self.spool.ack(batch.first_seq + len(batch.entries) - 1)
        return taken


@pytest.fixture
def pc() -> Iterator[Pc]:
    # Not in memory, where the tests' other files may be: no such file system gives an inode's number out again.
    with tempfile.TemporaryDirectory(dir="/var/tmp" if sys.platform == "linux" else None) as folder:  # noqa: S108 - a random name below it
        pc = Pc(Path(folder))
        yield pc
        pc.stop()


def texts(entries: list[LogEntry]) -> list[str]:
    return [entry.msg for entry in entries]


def test_history_is_not_sent_when_a_file_is_seen_for_the_first_time(pc: Pc) -> None:
    pc.write("ERROR old\n")
    pc.start()
    pc.write("ERROR new\n")

    assert texts(pc.collect()) == ["ERROR new"]


def test_a_file_that_appears_while_the_agent_runs_is_read_from_its_beginning(pc: Pc) -> None:
    pc.start()
    assert pc.collect() == []

    pc.write("ERROR first\n")

    assert texts(pc.collect()) == ["ERROR first"]


def test_a_file_that_appears_while_the_agent_is_down_is_read_from_its_beginning(pc: Pc) -> None:
    pc.start()
    pc.collect()
    pc.stop()
    pc.write("ERROR first\n")

    pc.start()

    assert texts(pc.collect()) == ["ERROR first"]


def test_a_restarted_agent_goes_on_where_it_was(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    pc.collect()
    pc.stop()
    pc.write("ERROR 2\n")
    pc.start()

    assert texts(pc.collect()) == ["ERROR 2"]


def test_lines_written_while_down_are_read_from_the_rotated_file_and_from_the_new_one(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    pc.collect()
    pc.stop()
    pc.write("ERROR 2\n")
    pc.rotate()
    pc.write("ERROR 3\n")
    pc.start()

    assert texts(pc.collect()) == ["ERROR 2", "ERROR 3"]


@pytest.mark.parametrize("suffix", ["-20261123", ".2026-11-23", ".old", "-20261123-1795428000"])
def test_a_rotated_file_is_found_under_any_usual_name(pc: Pc, suffix: str) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    pc.collect()
    pc.stop()
    pc.write("ERROR 2\n")
    pc.log.rename(f"{pc.log}{suffix}")
    pc.write("ERROR 3\n")
    pc.start()

    assert texts(pc.collect()) == ["ERROR 2", "ERROR 3"]


def test_three_rotations_between_two_looks_lose_nothing(pc: Pc) -> None:
    pc.start()
    pc.write("INFO up\n")
    pc.collect()
    for n in range(4):
        pc.write(f"ERROR {n}\n")
        if n < 3:
            pc.rotate()

    assert texts(pc.collect()) == ["ERROR 0", "ERROR 1", "ERROR 2", "ERROR 3"]


def test_late_lines_in_the_rotated_file_are_still_read(pc: Pc) -> None:
    pc.start()
    with pc.log.open("a") as writer:
        writer.write("ERROR 1\n")
        writer.flush()
        pc.collect()
        pc.rotate()
        pc.write("ERROR new file\n")
        pc.collect()
        writer.write("ERROR late\n")
    pc.restart()

    assert texts(pc.collect()) == ["ERROR late"]


def test_a_deleted_file_is_read_to_its_end_and_its_successor_from_the_beginning(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    pc.collect()
    pc.write("ERROR 2\n")
    pc.log.unlink()
    pc.write("ERROR 3\n")

    assert texts(pc.collect()) == ["ERROR 2", "ERROR 3"]


def test_a_deleted_file_is_let_go_when_nobody_writes_to_it_any_more(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    pc.collect()
    pc.log.unlink()
    before = _count_open(pc.folder)

    pc.collect(after_s=120)

    assert (before, _count_open(pc.folder)) == (1, 0)


def test_rotated_files_are_let_go_when_nobody_writes_to_them_any_more(pc: Pc) -> None:
    pc.start()
    for n in range(3):
        pc.write(f"ERROR {n}\n")
        pc.collect()
        pc.rotate()
    pc.write("ERROR last\n")
    pc.collect()
    before = _count_open(pc.folder)

    pc.collect(after_s=120)

    assert (before, _count_open(pc.folder)) == (4, 1)


def _count_open(folder: Path) -> int:
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    return sum(link.startswith(f"{folder}/app.log") for link in links)


def test_copytruncate_is_told_and_what_the_copy_holds_is_recovered(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR one, long enough to know the file by\n")
    pc.collect()
    pc.write("ERROR two, never read before the truncation\n")
    pc.copytruncate()
    pc.write("ERROR 3\n")

    gap, *rest = pc.collect()

    assert (gap.level, gap.code) == ("WARN", "LOG_GAP")
    assert gap.meta == {
        "file": str(pc.log),
        "reason": "truncated",
        "possible_loss": True,
        "read_to": 43,
        "read_on_in": "app.log.1",
    }
    assert texts(rest) == ["ERROR two, never read before the truncation", "ERROR 3"]


def test_two_copytruncates_between_two_looks_lose_nothing_that_a_copy_holds(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR one, long enough to know the file by\n")
    pc.collect()
    pc.write("ERROR two\n")
    pc.copytruncate()
    pc.write("ERROR three\n")
    (pc.folder / "app.log.1").rename(pc.folder / "app.log.2")
    pc.copytruncate()
    pc.write("ERROR four\n")

    gap, *rest = pc.collect()

    assert (gap.meta or {})["read_on_in"] == "app.log.2"
    assert texts(rest) == ["ERROR two", "ERROR three", "ERROR four"]


def test_a_file_that_waits_its_turn_is_known_by_how_it_begins(pc: Pc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_tail, "_MAX_CHUNKS_PER_COLLECT", 1)
    monkeypatch.setattr(logs_tail, "CHUNK_BYTES", 256)
    pc.start()
    pc.write("ERROR one, long enough to know the file by\n")
    pc.collect()
    pc.write("".join(f"ERROR {n} that only the copy holds\n" for n in range(30)))
    pc.copytruncate()
    pc.write("ERROR a, which waits until the copy was read to its end\n")
    pc.collect()
    pc.collect()
    (pc.folder / "app.log.1").rename(pc.folder / "app.log.2")
    pc.copytruncate()
    pc.write("ERROR b, written after another truncation that nobody looked for\n")

    while pc.collect():
        continue

    assert [entry.code for entry in pc.seen].count("LOG_GAP") == 2
    assert texts(pc.seen)[-2:] == [
        "ERROR a, which waits until the copy was read to its end",
        "ERROR b, written after another truncation that nobody looked for",
    ]
    assert len({entry.msg for entry in pc.seen if entry.code is None}) == 33


def test_a_copy_that_is_overwritten_while_it_is_read_on_is_told(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR one, long enough to know the file by\n")
    pc.collect()
    pc.copytruncate()
    pc.collect()
    (pc.folder / "app.log.1").write_text("ERROR something else, which is much longer than what the copy held before\n")

    (gap,) = pc.collect()

    assert (gap.code, (gap.meta or {})["reason"]) == ("LOG_GAP", "truncated")


def test_late_lines_make_no_successor_of_a_file_that_was_read_before(pc: Pc) -> None:
    pc.start()
    with pc.log.open("a") as late_writer:
        late_writer.write("ERROR 1\n")
        late_writer.flush()
        pc.collect()
        pc.rotate()
        pc.write("ERROR 2\n")
        pc.collect(after_s=120)
        pc.collect(after_s=120)
        late_writer.write("ERROR too late to be followed\n")
        late_writer.flush()
        pc.rotate()
        os.utime(pc.folder / "app.log.2", (2_000_000_000, 2_000_000_000))
        pc.write("ERROR 3\n")

    assert texts(pc.collect()) == ["ERROR 3"]


def test_a_truncated_file_that_outgrew_its_old_size_is_noticed(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    pc.collect()
    os.truncate(pc.log, 0)
    pc.write("ERROR a\nERROR b\n")

    gap, *rest = pc.collect()

    assert gap.code == "LOG_GAP"
    assert texts(rest) == ["ERROR a", "ERROR b"]


def test_a_file_overwritten_with_as_many_bytes_is_noticed(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    pc.collect()
    pc.log.write_text("ERROR 2\n")
    os.utime(pc.log, (2_000_000_000, 2_000_000_000))

    assert texts(pc.collect())[1:] == ["ERROR 2"]


def test_a_truncation_while_the_agent_is_down_is_told(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR 1, and a long line\n")
    pc.collect()
    pc.stop()
    os.truncate(pc.log, 0)
    pc.write("ERROR 2\n")
    pc.start()

    gap, *rest = pc.collect()

    assert (gap.code, (gap.meta or {})["reason"]) == ("LOG_GAP", "truncated")
    assert texts(rest) == ["ERROR 2"]


def test_a_reused_inode_is_no_proof_of_the_same_file(pc: Pc) -> None:
    pc.start()
    pc.write("same header\nERROR 1\n")
    pc.collect()
    pc.stop()
    with pc.log.open("r+") as file:  # The same inode, other content, longer than what was read.
        file.write("same header\nERROR 2\nERROR 3\n")
    pc.start()

    gap, *rest = pc.collect()

    assert gap.code == "LOG_GAP"
    assert texts(rest) == ["ERROR 2", "ERROR 3"]


def test_a_reused_inode_with_the_same_end_is_told_by_its_beginning(pc: Pc) -> None:
    end = "INFO " + "same end " * 20 + "\n"
    pc.start()
    pc.write("ERROR 1\n" + end)
    pc.collect()
    pc.stop()
    with pc.log.open("r+") as file:
        file.write("ERROR 2\n" + end)
    pc.start()

    assert texts(pc.collect())[1:] == ["ERROR 2"]


def test_a_truncation_ends_a_line_that_was_too_long(pc: Pc) -> None:
    pc.start()
    pc.write("x" * (CHUNK_BYTES + 10))
    pc.collect()
    os.truncate(pc.log, 0)
    pc.write("ERROR first\nERROR second\n")

    assert texts(pc.collect())[1:] == ["ERROR first", "ERROR second"]


def test_without_the_check_of_content_a_reused_inode_would_be_skipped(pc: Pc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_tail._OpenFile, "holds", lambda _self, _known: True)
    pc.start()
    pc.write("same header\nERROR 1\n")
    pc.collect()
    pc.stop()
    with pc.log.open("r+") as file:
        file.write("same header\nERROR 2\nERROR 3\n")
    pc.start()

    assert texts(pc.collect()) == ["ERROR 3"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands out an inode's number again at once")
def test_a_successor_with_the_same_inode_and_the_same_content_up_to_the_offset_is_another_file(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR disk gone\n" * 3)
    pc.collect()
    pc.stop()
    _recreate_with_same_inode(pc.log)
    pc.write("ERROR disk gone\n" * 5)
    pc.start()

    gap, *rest = pc.collect()

    assert (gap.meta or {})["reason"] == "replaced"
    assert len(rest) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands out an inode's number again at once")
def test_without_the_birth_mark_such_a_successor_would_be_taken_for_its_predecessor(
    pc: Pc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_tail, "birth_mark", lambda _file: 0)
    pc.start()
    pc.write("ERROR disk gone\n" * 3)
    pc.collect()
    pc.stop()
    _recreate_with_same_inode(pc.log)
    pc.write("ERROR disk gone\n" * 5)
    pc.start()

    assert len(pc.collect()) == 2


def _recreate_with_same_inode(path: Path) -> None:
    inode = path.stat().st_ino
    path.unlink()
    for number in range(2_000):
        path.touch()
        if path.stat().st_ino == inode:
            return
        path.rename(path.with_name(f"other-{number}"))
    pytest.skip("this filesystem does not hand out an inode's number again")


def test_a_file_that_is_gone_after_a_restart_is_told(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    pc.collect()
    pc.stop()
    pc.log.unlink()
    pc.start()

    (gap,) = pc.collect()

    assert (gap.meta or {})["reason"] == "missing"
    assert pc.collect() == []


def test_a_partial_line_waits_for_its_end(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR ha")

    first = pc.collect()
    pc.write("lf\n")

    assert first == []
    assert texts(pc.collect(after_s=1)) == ["ERROR half"]


def test_a_partial_line_waits_no_longer_than_five_seconds(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR half")
    pc.collect()

    early = pc.collect(after_s=4.9)
    (late,) = pc.collect(after_s=0.2)

    assert early == []
    assert late.msg == "ERROR half"
    assert (late.meta or {})["partial"] is True
    assert pc.collect() == []


def test_a_partial_line_survives_a_restart_unread(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR ha")
    pc.collect()
    pc.restart()
    pc.write("lf\n")

    assert texts(pc.collect()) == ["ERROR half"]


TRACEBACK = """\
2026-11-23T10:00:00Z ERROR request failed
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    run()
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in <module>
    stop()
app.errors.StopFailedError: no
"""


def test_a_traceback_belongs_to_its_error(pc: Pc) -> None:
    pc.start()
    pc.write(TRACEBACK + "2026-11-23T10:00:01Z INFO next\n2026-11-23T10:00:02Z ERROR other\n")

    failed, other = pc.collect()

    assert failed.msg == TRACEBACK.rstrip()
    assert failed.code == "StopFailedError"
    assert other.msg == "2026-11-23T10:00:02Z ERROR other"


def test_a_traceback_is_not_torn_by_the_end_of_what_is_written_so_far(pc: Pc) -> None:
    pc.start()
    cut = TRACEBACK.index("    run()")
    pc.write(TRACEBACK[:cut])
    first = pc.collect()
    pc.write(TRACEBACK[cut:])

    assert first == []
    assert texts(pc.collect(after_s=1)) == [TRACEBACK.rstrip()]


def test_an_uncaught_traceback_is_an_error_of_its_own(pc: Pc) -> None:
    pc.start()
    pc.write('Traceback (most recent call last):\n  File "a.py", line 1\nValueError: x\n')

    (entry,) = pc.collect()

    assert (entry.level, entry.code) == ("ERROR", "ValueError")


def test_a_java_stack_trace_belongs_to_its_error(pc: Pc) -> None:
    trace = "ERROR [main] x\njava.lang.Foo\n"  # The second line has no marker and is no part of it.
    pc.start()
    pc.write(trace + "ERROR y\n\tat a.b(C.java:1)\nCaused by: java.io.IOException: z\n\t... 2 more\nINFO z\n")

    assert texts(pc.collect()) == [
        "ERROR [main] x",
        "ERROR y\n\tat a.b(C.java:1)\nCaused by: java.io.IOException: z\n\t... 2 more",
    ]


def test_a_traceback_without_end_is_bounded(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR x\n" + "  frame\n" * 1_000 + "ERROR y\n")

    first, second = pc.collect()

    assert first.msg.count("\n") == 50
    assert (first.meta or {})["cut_lines"] == 950
    assert second.msg == "ERROR y"


def test_a_long_line_is_cut_and_says_so(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR " + "x" * 20_000 + "\nERROR next\n")

    long, after = pc.collect()

    assert len(long.msg) == MAX_LOG_MESSAGE_CHARS
    assert (long.meta or {})["cut_bytes"] == 20_006 - 16_384
    assert after.msg == "ERROR next"


def test_a_line_of_many_mebibytes_is_one_line_even_across_a_restart(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR start" + " ERROR" * (CHUNK_BYTES // 3))
    first = pc.collect()
    pc.restart()
    pc.write(" ERROR\nERROR next\n")

    assert len(first) == 1
    assert texts(pc.collect()) == ["ERROR next"]


def test_windows_line_ends_are_no_part_of_a_line(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR a\r\nINFO b\r\nERROR c\rERROR d\r\n")

    assert texts(pc.collect()) == ["ERROR a", "ERROR c\\x0dERROR d"]


def test_an_entry_says_where_its_line_stands(pc: Pc) -> None:
    pc.start()
    pc.write("INFO ä\nERROR x\n")

    (entry,) = pc.collect()

    assert entry.meta == {"file": str(pc.log), "line_offset": len("INFO ä\n".encode())}


def test_a_burst_is_read_in_bounded_bites_and_to_its_end(pc: Pc) -> None:
    pc.start()
    pc.write("".join(f"2026-11-23T10:00:00Z INFO filler {n:0200}\nERROR {n}\n" for n in range(40_000)))
    size = pc.log.stat().st_size
    rounds = 0

    while len(pc.seen) < 40_000 and rounds < 10:
        pc.collect()
        rounds += 1

    assert texts(pc.seen) == [f"ERROR {n}" for n in range(40_000)]
    assert rounds == -(-size // (8 * CHUNK_BYTES))


def test_what_is_no_file_is_told_once_and_read_when_it_is_one(pc: Pc) -> None:
    pc.log.mkdir()
    pc.start()

    (told,) = pc.collect()
    silent = pc.collect()
    pc.log.rmdir()
    pc.write("ERROR 1\n")

    assert (told.code, told.level) == ("LOG_UNREADABLE", "WARN")
    assert (told.meta or {})["reason"] == "Is a directory"
    assert silent == []
    assert texts(pc.collect()) == ["ERROR 1"]


def test_a_pipe_does_not_hang_the_agent(pc: Pc) -> None:
    os.mkfifo(pc.log)
    pc.start()

    assert [entry.code for entry in pc.collect()] == ["LOG_UNREADABLE"]


def test_a_file_that_cannot_be_read_for_a_while_is_resumed_where_it_was(pc: Pc) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    pc.collect()
    pc.stop()
    pc.write("ERROR 2\n")
    pc.log.rename(pc.folder / "aside")
    pc.log.symlink_to(pc.log)  # A loop: looking at it is an error that is not "missing".
    pc.start()
    told = pc.collect()
    pc.log.unlink()
    (pc.folder / "aside").rename(pc.log)

    assert [entry.code for entry in told] == ["LOG_UNREADABLE"]
    assert texts(pc.collect()) == ["ERROR 2"]


def test_what_the_spool_could_not_take_is_read_again(pc: Pc, monkeypatch: pytest.MonkeyPatch) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    pc.collect()
    pc.write("ERROR 2\n")
    assert pc.spool is not None

    def refuse(_lines: object, _offsets: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(pc.spool, "append", refuse)
        with pytest.raises(sqlite3.OperationalError):
            pc.collect()

    assert texts(pc.collect()) == ["ERROR 2"]


def test_a_first_look_that_could_not_be_kept_loses_nothing(pc: Pc, monkeypatch: pytest.MonkeyPatch) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    assert pc.spool is not None

    def refuse(_lines: object, _offsets: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(pc.spool, "append", refuse)
        with pytest.raises(sqlite3.OperationalError):
            pc.collect()

    assert texts(pc.collect()) == ["ERROR 1"]


def test_a_path_given_twice_is_followed_once(pc: Pc) -> None:
    pc.start()
    assert pc.spool is not None
    twice = LogTail([str(pc.log), str(pc.log)], pc.spool, now=lambda: NOW)
    pc.write("ERROR 1\n")

    assert twice.collect() == 1
    twice.close()


def test_an_idle_file_costs_no_commit(pc: Pc, monkeypatch: pytest.MonkeyPatch) -> None:
    pc.start()
    pc.write("ERROR 1\n")
    pc.collect()
    assert pc.spool is not None
    saved: list[FileOffset] = []
    monkeypatch.setattr(pc.spool, "append", lambda _lines, offsets: saved.extend(offsets.values()))

    pc.collect()

    assert saved == []
