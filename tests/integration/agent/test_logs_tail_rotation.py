import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reco3.agent.logs_tail import LogTail
from reco3.agent.spool import GAP_CODE, Spool
from reco3.protocol.messages import LogEntry

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)


@dataclass
class World:
    """A service that writes and rotates its log, and an agent that comes and goes."""

    folder: Path
    written: int = 0
    now_s: float = 1_000.0
    mtime_ns: int = 1_795_000_000_000_000_000
    is_deleted_file_unread: bool = False
    has_read_of_current: bool = False
    was_truncated_before_a_byte_was_read: bool = False
    seen: list[LogEntry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = self.folder / "app.log"
        self._write_to(self.log, 0)
        self.start()
        self.collect()

    def start(self) -> None:
        self.spool = Spool(self.folder / "state" / "spool.db", max_bytes=64 * 1024 * 1024)
        self.tail = LogTail([str(self.log)], self.spool, now=lambda: NOW, monotonic=lambda: self.now_s)

    def close(self) -> None:
        self.tail.close()
        self.spool.close()

    def write(self, count: int) -> None:
        self._write_to(self.log, count)

    def write_late(self, count: int) -> None:
        if (rotated := self.folder / "app.log.1").exists():
            self._write_to(rotated, count)

    def _write_to(self, path: Path, count: int) -> None:
        with path.open("a") as file:
            for _ in range(count):
                file.write(f"INFO nothing\nERROR line {self.written} of this test\n")
                self.written += 1
        # Real writes are further apart than the tick of the kernel's clock.
        self.mtime_ns += 10_000_000
        os.utime(path, ns=(self.mtime_ns, self.mtime_ns))

    def rotate(self, _count: int) -> None:
        for n in range(40, 0, -1):
            if (old := self.folder / f"app.log.{n}").exists():
                old.rename(self.folder / f"app.log.{n + 1}")
        self.log.rename(self.folder / "app.log.1")
        self.has_read_of_current = False
        self._write_to(self.log, 0)

    def recreate(self, count: int) -> None:
        self.collect()
        self.write(count)
        self.log.unlink()
        self._write_to(self.log, 0)
        self.is_deleted_file_unread = True

    def truncate(self, count: int) -> None:
        self.write(count)
        (self.folder / "app.log.copy").write_bytes(self.log.read_bytes())
        os.truncate(self.log, 0)
        if not self.has_read_of_current:
            self.was_truncated_before_a_byte_was_read = True
        self.has_read_of_current = False
        self._write_to(self.log, 0)

    def restart(self, _count: int) -> None:
        if self.is_deleted_file_unread:
            self.collect()
        self.close()
        self.start()

    def collect(self, _count: int = 0) -> None:
        self.now_s += 6
        self.tail.collect()
        self.is_deleted_file_unread = False
        self.has_read_of_current = self.log.stat().st_size > 0
        while (batch := self.spool.next_batch(500)) is not None:
            self.seen += batch.entries
            self.spool.ack(batch.first_seq + len(batch.entries) - 1)

    def line_numbers(self) -> list[int]:
        return [int(entry.msg.split()[2]) for entry in self.seen if entry.code != GAP_CODE]

    def gaps(self) -> int:
        return sum(entry.code == GAP_CODE for entry in self.seen)


def _steps(*actions: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from(actions), st.integers(0, 3)), max_size=25)


def _live_through(world: World, steps: list[tuple[str, int]]) -> None:
    try:
        for action, count in steps:
            getattr(world, action)(count)
        for _ in range(3):
            world.collect()
    finally:
        world.close()


@settings(max_examples=60, deadline=None)
@given(_steps("write", "rotate", "recreate", "collect", "restart"))
def test_renaming_recreating_and_restarting_lose_nothing_and_repeat_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    world = World(tmp_path_factory.mktemp("world"))

    _live_through(world, steps)

    assert world.line_numbers() == list(range(world.written))
    assert world.gaps() == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(["collect", "restart"])), max_size=10))
def test_late_lines_of_a_rotated_file_are_neither_lost_nor_repeated(
    tmp_path_factory: pytest.TempPathFactory, rotations: list[tuple[int, int, str]]
) -> None:
    world = World(tmp_path_factory.mktemp("world"))

    for early, late, then in rotations:
        _add_rotation(world, early, late, then)
    _live_through(world, [])

    assert sorted(world.line_numbers()) == list(range(world.written))
    assert world.gaps() == 0


def _add_rotation(world: World, early: int, late: int, then: str) -> None:
    world.write(early)
    world.rotate(0)
    world.collect()
    world.write_late(late)
    getattr(world, then)(0)


@settings(max_examples=60, deadline=None)
@given(_steps("write", "truncate", "rotate", "collect", "restart"))
def test_truncation_repeats_nothing_and_loses_nothing_in_silence(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    world = World(tmp_path_factory.mktemp("world"))

    _live_through(world, steps)

    numbers = world.line_numbers()
    assert len(numbers) == len(set(numbers))
    # A file that is emptied before the agent read a byte of it looks as it did before: nobody can tell.
    assert len(numbers) == world.written or world.gaps() > 0 or world.was_truncated_before_a_byte_was_read
