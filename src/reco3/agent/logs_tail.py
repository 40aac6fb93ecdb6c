"""Follows log files across rotation and spools their WARN, ERROR and CRITICAL lines.

It refuses to guess: where a file was truncated or replaced before it was read to its end, a `LOG_GAP` entry says so.
What nobody can tell: a file truncated and filled again beyond the point read between two looks, with the same first
1,024 bytes and the same 64 bytes before that point.
"""

import contextlib
import io
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reco3.agent.digests import sha256_hex
from reco3.agent.log_lines import MAX_LINE_BYTES, decode_line, extract_entry, format_ts, may_matter, visible
from reco3.agent.platform import birth_mark, open_shared
from reco3.agent.spool import GAP_CODE, FileOffset, Spool
from reco3.protocol.commands import Severity
from reco3.protocol.limits import MAX_LOG_CODE_CHARS, MAX_LOG_MESSAGE_CHARS
from reco3.protocol.messages import LogEntry

UNREADABLE_CODE = "LOG_UNREADABLE"
CHUNK_BYTES = 256 * 1024

_MAX_CHUNKS_PER_COLLECT = 8
# A storm of errors in one file must not keep the heartbeat waiting.
_MAX_FILE_S = 0.25
_HOLD_S = 5.0
_RELEASE_AFTER_S = 60.0
_MAX_OLDER_FILES = 8
_HEAD_BYTES = 1024
_TAIL_BYTES = 64
_MIN_BYTES_TO_KNOW_A_COPY = 32
_MAX_JOINED_LINES = 50
_MAX_JOINED_BYTES = 8 * 1024


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LogTail:
    """Follows `paths`, plain paths and no patterns, and keeps what matters of them in `spool`.

    A file that exists when its path is seen for the first time ever is followed from its end; whatever appears later,
    from its beginning; what the spool knows, from where it was left.
    """

    def __init__(
        self,
        paths: Sequence[str],
        spool: Spool,
        *,
        now: Callable[[], datetime] = _utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._now = now
        self._monotonic = monotonic
        known = spool.offsets()
        self._followers = [_Follower(path, known.get(path)) for path in dict.fromkeys(paths)]
        self._is_behind = False

    @property
    def is_behind(self) -> bool:
        """Whether the last call of `collect` left something unread for want of time."""
        return self._is_behind

    def collect(self) -> int:
        """Read what is new, spool what matters, and return how many entries were spooled.

        Each file gives at least one chunk where it has it, and up to eight while time allows; the next call goes on
        from there.
        """
        self._is_behind = False
        return sum(self._collect_from(follower) for follower in self._followers)

    def close(self) -> None:
        """Let go of the files."""
        for follower in self._followers:
            follower.close()

    def _collect_from(self, follower: "_Follower") -> int:
        spooled = 0
        until_s = self._monotonic() + _MAX_FILE_S
        for _ in range(_MAX_CHUNKS_PER_COLLECT):
            step = follower.step(self._now(), self._monotonic())
            if step.entries or step.offset != follower.saved:
                self._save(follower, step)
            spooled += len(step.entries)
            if not step.is_more_due:
                return spooled
            if self._monotonic() >= until_s:
                break
        self._is_behind = True
        return spooled

    def _save(self, follower: "_Follower", step: "_Step") -> None:
        try:
            self._spool.append(step.entries, {follower.path: step.offset})
        except BaseException:
            follower.rewind()
            raise
        follower.saved = step.offset


@dataclass(frozen=True, slots=True)
class _Step:
    entries: tuple[LogEntry, ...]
    offset: FileOffset
    is_more_due: bool


@dataclass(slots=True)
class _OpenFile:
    """One file held open: renaming or deleting it does not take it away from us."""

    file: io.FileIO
    device: int
    inode: int
    birth: int = 0
    offset: int = 0
    head: bytes = b""
    tail: bytes = b""
    is_inside_long_line: bool = False
    verified_as: tuple[int, int] | None = None
    held_at: int | None = None
    held_since_s: float = 0.0
    last_growth_s: float | None = None

    def as_offset(self) -> FileOffset:
        return FileOffset(
            device=self.device,
            inode=self.inode,
            birth=self.birth,
            head_bytes=len(self.head),
            head_sha256=_sha256(self.head),
            offset=self.offset,
            tail_sha256=_sha256(self.tail),
            is_inside_long_line=self.is_inside_long_line,
        )

    def skip_to(self, offset: int) -> None:
        """Take everything before `offset` as read."""
        self.offset = offset
        self.head = self.read_at(0, _HEAD_BYTES)
        self.tail = self.read_at(max(0, offset - _TAIL_BYTES), min(offset, _TAIL_BYTES))

    def advance(self, consumed: bytes) -> None:
        """Take `consumed`, which stood at the offset, as read.

        It is remembered rather than looked up again: the file may have become another one meanwhile.
        """
        if len(self.head) < min(_HEAD_BYTES, self.offset + len(consumed)):
            self.head = (self.head[: self.offset] + consumed[:_HEAD_BYTES])[:_HEAD_BYTES]
        self.tail = (self.tail + consumed[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        self.offset += len(consumed)

    def start_over(self) -> None:
        self.offset = 0
        self.head = self.tail = b""
        self.is_inside_long_line = False
        self.held_at = None

    def read_at(self, offset: int, size: int) -> bytes:
        self.file.seek(offset)
        parts = []
        while size > 0 and (part := self.file.read(size)):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def holds(self, known: FileOffset) -> bool:
        """Whether the bytes that `known` tells of are still there."""
        if os.fstat(self.file.fileno()).st_size < known.offset:
            return False
        tail = self.read_at(max(0, known.offset - _TAIL_BYTES), min(known.offset, _TAIL_BYTES))
        head = self.read_at(0, known.head_bytes)
        is_head_same = known.head_bytes == 0 or _sha256(head) == known.head_sha256
        return is_head_same and _sha256(tail) == known.tail_sha256

    def was_overwritten(self) -> bool:
        """Whether what was seen is no longer what stands there; looked up again only when the file changed.

        Seen is more than read: also a file that waits its turn is known by how it begins.
        """
        status = os.fstat(self.file.fileno())
        seen = (status.st_size, status.st_mtime_ns)
        if seen == self.verified_as:
            return False
        head = self.read_at(0, _HEAD_BYTES)
        tail = self.read_at(self.offset - len(self.tail), len(self.tail))
        if status.st_size < self.offset or not head.startswith(self.head) or tail != self.tail:
            return True
        self.head, self.verified_as = head, seen
        return False


class _Follower:
    """One path: the file that stands there now, and rotated predecessors that may still get late lines."""

    def __init__(self, path: str, saved: FileOffset | None) -> None:
        self.path = path
        self.saved = saved
        self._shown_path = visible(os.fsencode(path).decode("utf-8", "backslashreplace"))
        self._current: _OpenFile | None = None
        self._older: list[_OpenFile] = []
        self._unlocated: FileOffset | None = None
        self._size_at_start: tuple[int, int, int] | None = None
        self._is_reported_unreadable = False
        self._markers: list[LogEntry] = []
        self._start()

    def step(self, now: datetime, monotonic_s: float) -> _Step:
        """Read one chunk of whatever is due next."""
        self._attach(now)
        entries, is_more_due = self._read_next(now, monotonic_s)
        markers, self._markers = self._markers, []
        return _Step((*markers, *entries), self._as_offset(), is_more_due)

    def rewind(self) -> None:
        """Go back to what the spool knows: the last step did not reach it."""
        self.close()
        if self.saved is not None:
            self._start()

    def close(self) -> None:
        for opened in (*self._older, *([self._current] if self._current else [])):
            opened.file.close()
        self._current, self._older = None, []

    def _start(self) -> None:
        self._markers = []
        if self.saved is None:
            with contextlib.suppress(OSError):
                status = Path(self.path).stat()
                if stat.S_ISREG(status.st_mode):
                    self._size_at_start = (status.st_dev, status.st_ino, status.st_size)
        elif self.saved.inode or self.saved.older:
            self._unlocated = self.saved
        self._attach(_utc_now())

    def _as_offset(self) -> FileOffset:
        if self._unlocated is not None:
            return self._unlocated
        older = tuple(opened.as_offset() for opened in self._older)
        current = self._current.as_offset() if self._current else FileOffset()
        return replace(current, older=older)

    def _attach(self, now: datetime) -> None:
        """Open the file that is due when none is open."""
        if self._current is not None:
            return
        try:
            if self._unlocated is not None:
                self._locate(self._unlocated, now)
            if self._current is None:
                self._current = self._open_new()
        except FileNotFoundError:
            return
        except OSError as err:
            self._report_unreadable(err, now)
            return
        self._is_reported_unreadable = False

    def _open_new(self) -> _OpenFile:
        opened = _open(self.path)
        if self._size_at_start is not None:
            device, inode, size = self._size_at_start
            if (opened.device, opened.inode) == (device, inode):
                opened.skip_to(min(size, os.fstat(opened.file.fileno()).st_size))
            self._size_at_start = None
        return opened

    def _locate(self, known: FileOffset, now: datetime) -> None:
        """Find the files that the spool tells of, under their old names or their rotated ones.

        Raises:
            OSError: the path may not be read; nothing is decided and the next step tries again.
        """
        at_path = self._open_if_present()
        self._older = [found for older in known.older if (found := _find_rotated(self.path, older))]
        self._unlocated = None
        if not known.inode:
            self._current = at_path
        elif at_path is not None and _is_same_file(at_path, known) and at_path.holds(known):
            self._current = _resumed(at_path, known)
        elif (rotated := _find_rotated(self.path, known)) is not None:
            _close(at_path)
            self._current = rotated
        else:
            self._lose_track(known, at_path, now)
            self._current = at_path

    def _open_if_present(self) -> _OpenFile | None:
        try:
            return _open(self.path)
        except FileNotFoundError:
            return None

    def _lose_track(self, known: FileOffset, at_path: _OpenFile | None, now: datetime) -> None:
        copy = self._take_up_copy(known)
        replaced_by = "truncated" if at_path is not None and _is_same_file(at_path, known) else "replaced"
        self._mark_gap("missing" if at_path is None else replaced_by, now, read_to=known.offset, copy=copy)

    def _take_up_copy(self, known: FileOffset) -> str | None:
        """Read on in the copy that was made before the truncation, where there is one; returns its name.

        When the file was copied and truncated more than once since, the newer copies hold what came in between.
        """
        copy = _find_copy(self.path, known)
        if copy is None:
            return None
        self._older += [copy, *_open_newer_copies(self.path, copy)]
        self._drop_oldest()
        return visible(os.path.basename(copy.file.name))  # noqa: PTH119 - a name for people, of a path that is text

    def _mark_gap(self, reason: str, now: datetime, *, read_to: int, copy: str | None) -> None:
        self._markers.append(
            LogEntry(
                msg=f"{self._shown_path} was {reason} before it was read to its end: possible loss of lines",
                ts=format_ts(now),
                level=Severity.WARN,
                code=GAP_CODE,
                meta={
                    "file": self._shown_path,
                    "reason": reason,
                    "possible_loss": True,
                    "read_to": read_to,
                    **({"read_on_in": copy} if copy else {}),
                },
            )
        )

    def _report_unreadable(self, err: OSError, now: datetime) -> None:
        if self._is_reported_unreadable:
            return
        self._is_reported_unreadable = True
        reason = err.strerror or type(err).__name__
        self._markers.append(
            LogEntry(
                msg=f"{self._shown_path} cannot be read: {reason}; the agent tries again at every turn",
                ts=format_ts(now),
                level=Severity.WARN,
                code=UNREADABLE_CODE,
                meta={"file": self._shown_path, "reason": reason},
            )
        )

    def _read_next(self, now: datetime, monotonic_s: float) -> tuple[list[LogEntry], bool]:
        if self._current is not None and self._current.was_overwritten():
            self._restart_overwritten(self._current, now)
            return [], True
        for opened in list(self._older):
            chunk_bytes = opened.read_at(opened.offset, CHUNK_BYTES)
            if opened.was_overwritten():
                self._mark_gap("truncated", now, read_to=opened.offset, copy=None)
                self._let_go(opened)
                continue
            chunk = self._take_chunk(opened, chunk_bytes, now, monotonic_s)
            if chunk.has_progressed:
                return chunk.entries, True
            self._release_if_idle(opened, monotonic_s)
        if self._current is None:
            return [], False
        # Looked at after reading: what was overwritten before the look is not taken for the rest of the old content.
        chunk_bytes = self._current.read_at(self._current.offset, CHUNK_BYTES)
        if self._current.was_overwritten():
            self._restart_overwritten(self._current, now)
            return [], True
        chunk = self._take_chunk(self._current, chunk_bytes, now, monotonic_s)
        if chunk.has_progressed:
            return chunk.entries, True
        return [], self._move_on(self._current, monotonic_s)

    def _restart_overwritten(self, opened: _OpenFile, now: datetime) -> None:
        known = opened.as_offset()
        self._mark_gap("truncated", now, read_to=known.offset, copy=self._take_up_copy(known))
        opened.start_over()

    def _take_chunk(self, opened: _OpenFile, chunk_bytes: bytes, now: datetime, monotonic_s: float) -> "_Chunk":
        is_flush_due = opened.held_at == opened.offset and monotonic_s - opened.held_since_s >= _HOLD_S
        reader = _ChunkReader(
            file=self._shown_path,
            base=opened.offset,
            is_at_eof=len(chunk_bytes) < CHUNK_BYTES,
            is_flush_due=is_flush_due,
            now=now,
        )
        consumed, opened.is_inside_long_line = reader.read(chunk_bytes, is_inside_long_line=opened.is_inside_long_line)
        if consumed:
            opened.advance(chunk_bytes[:consumed])
        if consumed or opened.last_growth_s is None:
            opened.last_growth_s = monotonic_s
        _note_held(opened, is_held=consumed < len(chunk_bytes), monotonic_s=monotonic_s)
        return _Chunk(reader.entries, has_progressed=consumed > 0)

    def _release_if_idle(self, opened: _OpenFile, monotonic_s: float) -> None:
        if opened.held_at is None and _is_idle(opened, monotonic_s):
            self._let_go(opened)

    def _let_go(self, opened: _OpenFile) -> None:
        opened.file.close()
        self._older.remove(opened)

    def _move_on(self, opened: _OpenFile, monotonic_s: float) -> bool:
        """Go to the next file when another one stands at the path; say whether there is one."""
        try:
            at_path = os.stat(self.path)  # noqa: PTH116 - a Path object per look is what costs most here
        except OSError:
            self._forget_if_deleted(opened, monotonic_s)
            return False
        if (at_path.st_dev, at_path.st_ino) == (opened.device, opened.inode):
            return False
        successor = _open_successor(self.path, opened, known=self._older)
        if successor is None:
            return False
        self._older = [*self._older, opened]
        self._drop_oldest()
        self._current = successor
        return True

    def _drop_oldest(self) -> None:
        while len(self._older) > _MAX_OLDER_FILES:
            self._older.pop(0).file.close()

    def _forget_if_deleted(self, opened: _OpenFile, monotonic_s: float) -> None:
        # A deleted file that is held open keeps its space on the disk.
        if os.fstat(opened.file.fileno()).st_nlink == 0 and _is_idle(opened, monotonic_s):
            opened.file.close()
            self._current = None


@dataclass(frozen=True, slots=True)
class _Chunk:
    entries: list[LogEntry]
    has_progressed: bool


def _is_idle(opened: _OpenFile, monotonic_s: float) -> bool:
    return opened.last_growth_s is not None and monotonic_s - opened.last_growth_s >= _RELEASE_AFTER_S


def _note_held(opened: _OpenFile, *, is_held: bool, monotonic_s: float) -> None:
    if not is_held:
        opened.held_at = None
    elif opened.held_at != opened.offset:
        opened.held_at, opened.held_since_s = opened.offset, monotonic_s


def _sha256(content: bytes) -> str:
    return sha256_hex(content)


def _close(opened: _OpenFile | None) -> None:
    if opened is not None:
        opened.file.close()


def _open(path: str) -> _OpenFile:
    """Open a regular file without keeping anybody from renaming or deleting it.

    Raises:
        OSError: there is no such file, it may not be read, or it is no regular file.
    """
    file = open_shared(path)
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise OSError(0, "not a regular file")
    return _OpenFile(file, status.st_dev, status.st_ino, birth_mark(file))


def _is_same_file(opened: _OpenFile, known: FileOffset) -> bool:
    return (opened.device, opened.inode) == (known.device, known.inode) and known.birth in {0, opened.birth}


def _resumed(opened: _OpenFile, known: FileOffset) -> _OpenFile:
    opened.skip_to(known.offset)
    opened.is_inside_long_line = known.is_inside_long_line
    return opened


def _siblings(path: str) -> Iterator[os.DirEntry[str]]:
    folder, name = os.path.split(path)
    with contextlib.suppress(OSError), os.scandir(folder or ".") as found:
        for one in found:
            if one.name.startswith((f"{name}.", f"{name}-")) and one.is_file(follow_symlinks=False):
                yield one


def _find_rotated(path: str, known: FileOffset) -> _OpenFile | None:
    """Find the file of `known` under a rotated name: the same inode with the same content."""
    for sibling in _siblings(path):
        if sibling.inode() == known.inode and (opened := _open_matching(sibling.path, known)) is not None:
            if _is_same_file(opened, known):
                return opened
            opened.file.close()
    return None


def _find_copy(path: str, known: FileOffset) -> _OpenFile | None:
    """Find the copy that `copytruncate` left: another inode with the content that we know.

    Few bytes prove nothing, so below a minimum nothing is taken for a copy.
    """
    if known.head_bytes < _MIN_BYTES_TO_KNOW_A_COPY:
        return None
    for sibling in _siblings(path):
        if sibling.inode() != known.inode and (opened := _open_matching(sibling.path, known)) is not None:
            return opened
    return None


def _open_newer_copies(path: str, copy: _OpenFile) -> list[_OpenFile]:
    with contextlib.suppress(OSError):
        rotated = sorted(_rotated(path), key=lambda one: one.rank)
        ranks = [one.rank for one in rotated if one.identity == (copy.device, copy.inode)]
        return [_open(one.path) for one in rotated if ranks and one.rank > ranks[0]]
    return []


def _open_matching(path: str, known: FileOffset) -> _OpenFile | None:
    try:
        opened = _open(path)
    except OSError:
        return None
    if opened.holds(known):
        return _resumed(opened, known)
    opened.file.close()
    return None


_ROTATED_SUFFIX = re.compile(r"[.-][0-9][0-9T_:.-]*")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file that may have been written after another: where it is, which it is, and its place in the order."""

    path: str
    identity: tuple[int, int]
    rank: tuple[int, int, str]


def _open_successor(path: str, opened: _OpenFile, *, known: Sequence[_OpenFile]) -> _OpenFile | None:
    """Open the file that was written after `opened`: when rotation came twice between two looks, not yet the path's.

    Names change while we look, so what was opened must still be the successor afterwards; if not, None is for now.
    """
    try:
        successor = _open(_successor(path, opened, known=known).path)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if _successor(path, opened, known=known).identity == (successor.device, successor.inode):
            return successor
    successor.file.close()
    return None


def _successor(path: str, opened: _OpenFile, *, known: Sequence[_OpenFile]) -> _Candidate:
    """Find the rotated file that follows `opened`, or the one at the path when none does.

    Raises:
        OSError: there is nothing at the path, or a name changed while we looked.
    """
    own = (opened.device, opened.inode)
    rotated = list(_rotated(path))
    own_rank = next((one.rank for one in rotated if one.identity == own), None)
    status = os.fstat(opened.file.fileno())
    if own_rank is None:
        # Deleted, moved elsewhere or renamed as nobody usually does it: only the time of writing is left to go by.
        own_rank = (_BY_TIME, status.st_mtime_ns, "")
        rotated = [replace(one, rank=(_BY_TIME, os.stat(one.path).st_mtime_ns, "")) for one in rotated]  # noqa: PTH116 - as above
    passed = {own, *((one.device, one.inode) for one in known)}
    newer = [one for one in rotated if one.rank > own_rank and one.identity not in passed]
    if newer:
        return min(newer, key=lambda one: one.rank)
    at_path = os.stat(path)  # noqa: PTH116 - as above
    return _Candidate(path, (at_path.st_dev, at_path.st_ino), own_rank)


_BY_DATE, _BY_TIME, _BY_COUNTER = 0, 1, 2


def _rotated(path: str) -> Iterator[_Candidate]:
    for sibling in _siblings(path):
        suffix = sibling.path[len(path) :]
        if _ROTATED_SUFFIX.fullmatch(suffix) is not None:
            status = sibling.stat(follow_symlinks=False)
            yield _Candidate(sibling.path, (status.st_dev, status.st_ino), _suffix_rank(suffix))


def _suffix_rank(suffix: str) -> tuple[int, int, str]:
    """Order rotated names by age: `.1` was rotated after `.2`, a later date after an earlier one."""
    digits = suffix[1:]
    is_counter = digits.isdecimal() and len(digits) <= 3  # noqa: PLR2004 - longer ones are dates
    return (_BY_COUNTER, -int(digits), "") if is_counter else (_BY_DATE, 0, suffix)


@dataclass(slots=True)
class _ChunkReader:
    """Cuts a chunk into lines and joins the lines of a traceback to the error that they belong to."""

    file: str
    base: int
    is_at_eof: bool
    is_flush_due: bool
    now: datetime
    entries: list[LogEntry] = field(default_factory=list)
    _record: "_Record | None" = None

    def read(self, chunk: bytes, *, is_inside_long_line: bool) -> tuple[int, bool]:
        """Return how many bytes are dealt with, and whether they end within a line too long to keep."""
        start = 0
        if is_inside_long_line:
            start = chunk.find(b"\n") + 1
            if start == 0:
                return len(chunk), True
        end = chunk.rfind(b"\n") + 1
        if end > start:
            self._read_lines(chunk, start, end)
        return self._read_rest(chunk, max(start, end))

    def _read_lines(self, chunk: bytes, start: int, end: int) -> None:
        for line in (
            chunk[start:end].splitlines(keepends=True) if b"\r" not in chunk else _split_lines(chunk, start, end)
        ):
            self._read_line(line, start)
            start += len(line)

    def _read_line(self, line: bytes, start: int, *, is_partial: bool = False) -> None:
        if self._record is not None:
            if self._record.takes(line):
                return
            self._finish_record()
        if not may_matter(line):
            return
        content = line.rstrip(b"\r\n")
        meta: dict[str, Any] = {"file": self.file, "line_offset": self.base + start}
        if len(content) > MAX_LINE_BYTES:
            meta["cut_bytes"] = len(content) - MAX_LINE_BYTES
        if is_partial:
            meta["partial"] = True
        entry = extract_entry(content[:MAX_LINE_BYTES], now=self.now, meta=meta)
        if entry is not None:
            self._record = _Record(entry, start, content.startswith(_TRACEBACK))

    def _read_rest(self, chunk: bytes, end: int) -> tuple[int, bool]:
        """Deal with what follows the last newline, and with a record that may go on after it."""
        rest = chunk[end:]
        if not self.is_at_eof and end == 0:
            self._read_line(rest, 0)
            self._finish_record()
            return len(chunk), True
        if self._record is not None and self._is_record_to_be_held(rest):
            return self._record.start, False
        if rest and self.is_flush_due:
            self._read_line(rest, end, is_partial=True)
            end = len(chunk)
        self._finish_record()
        return end, False

    def _is_record_to_be_held(self, rest: bytes) -> bool:
        record = self._record
        if record is None or self.is_flush_due:
            return False
        if not self.is_at_eof:
            return record.start > 0
        return record.is_in_traceback or (bool(rest) and record.is_traceback_seen)

    def _finish_record(self) -> None:
        if self._record is not None:
            self.entries.append(self._record.finished())
            self._record = None


def _split_lines(chunk: bytes, start: int, end: int) -> Iterator[bytes]:
    """Cut at newlines alone: a carriage return inside a line ends nothing."""
    while start < end:
        after = chunk.find(b"\n", start) + 1
        yield chunk[start:after]
        start = after


_TRACEBACK = b"Traceback (most recent call last)"
_JOINED_STARTS = (
    _TRACEBACK,
    b"Caused by: ",
    b"Suppressed: ",
    b"During handling of the above exception",
    b"The above exception was the direct cause",
)
_LAST_LINE_OF_TRACEBACK = re.compile(rb"([A-Za-z_][\w.]{0,200})(?::|\s*$)")


@dataclass(slots=True)
class _Record:
    """An entry and the lines that follow it: a stack trace belongs to its error."""

    entry: LogEntry
    start: int
    is_in_traceback: bool
    is_traceback_seen: bool = False
    joined: list[bytes] = field(default_factory=list)
    joined_bytes: int = 0
    cut_lines: int = 0
    exception: str | None = None

    def __post_init__(self) -> None:
        self.is_traceback_seen = self.is_in_traceback

    def takes(self, line: bytes) -> bool:
        """Join `line` when it belongs to this record."""
        content = line.rstrip()
        if not content:
            if self.is_traceback_seen:
                self._join(content)
            return self.is_traceback_seen
        if content.startswith(_JOINED_STARTS):
            self.is_traceback_seen = True
            self.is_in_traceback = self.is_in_traceback or content.startswith(_TRACEBACK)
        elif line[:1] not in b" \t":
            if not self._ends_with(content):
                return False
            self.is_in_traceback = False
        self._join(content)
        return True

    def _ends_with(self, content: bytes) -> bool:
        last = _LAST_LINE_OF_TRACEBACK.match(content) if self.is_in_traceback else None
        if last is None:
            return False
        self.exception = last[1].decode("ascii", "replace").rpartition(".")[2]
        return True

    def _join(self, content: bytes) -> None:
        if len(self.joined) >= _MAX_JOINED_LINES or self.joined_bytes + len(content) > _MAX_JOINED_BYTES:
            self.cut_lines += 1
            return
        self.joined.append(content)
        self.joined_bytes += len(content)

    def finished(self) -> LogEntry:
        if not self.joined and not self.cut_lines:
            return self.entry
        while self.joined and not self.joined[-1]:
            self.joined.pop()
        meta = dict(self.entry.meta or {})
        if self.cut_lines:
            meta["cut_lines"] = self.cut_lines
        msg = "\n".join([self.entry.msg, *(decode_line(line) for line in self.joined)])[:MAX_LOG_MESSAGE_CHARS]
        code = self.entry.code or (self.exception[:MAX_LOG_CODE_CHARS] if self.exception else None)
        return replace(self.entry, msg=msg, code=code, meta=meta)
