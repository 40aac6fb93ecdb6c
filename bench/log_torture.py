"""Log torture: three files rotated in the three ways there are, at 10,000 lines a second, the agent killed every 2 s.

    python bench/log_torture.py [--seconds 180] [--rate 10000] [--kill-every-s 2] [--folder DIR] [--json FILE]

A real server, the real agent (`agent/common/reco_agent.py`) and this process, which writes the logs. Every line is
numbered, so the ledger is a count per file, and what the server holds afterwards must be each number once.

- `renamed.log`: logrotate's default. The file becomes `.1`, older ones move up, a new file is created, and the
  service goes on writing to the old one for a moment, as until its SIGHUP. Nothing may be lost or repeated.
- `recreated.log`: the service deletes its file and creates another under the name. In turn
  (a) under the living agent, with lines in it that nobody has read yet: they exist only as long as the agent holds the
      file open, so the next kill waits until its spool says that it has read that file to its end. A kill within that
      window would destroy lines for every reader there could be; the agent then says `LOG_GAP`.
  (b) while the agent is dead, and the new file gets the same inode (retried until it does), begins with the same 1,200
      bytes and is longer than the old one was. Before that kill the file is left in peace until the spool says that it
      was read to its end: what is deleted unread while nobody runs is nowhere any more.
  Nothing may be lost or repeated.
- `truncated.log`: copytruncate, with lines written between the copy and the truncation. Those are in no file any more;
  each such hole must lie within one copytruncate, and a `LOG_GAP` entry must stand before it.

It refuses to call a run good that was not torture: kills, rotations and reused inodes are counted and must have been.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "bench"))

from processes import free_port  # noqa: E402 - scripts beside this one

AGENT_ID, AGENT_KEY = "torture-pc", "a-key-for-the-torture-alone"
TICK_S = 0.01
KEPT_ROTATIONS = 6
ROTATE_EVERY_S = 3.0
COPYTRUNCATE_EVERY_S = 4.0
LATE_TICKS = 5
# A write that was told of may not have reached the file yet.
IN_FLIGHT_LINES = 1_000
# In every cycle a file is deleted under the living agent; in every third one another while it is dead.
DEAD_RECREATE_EVERY = 3
CATCH_UP_DEADLINE_S = 30.0
DRAIN_DEADLINE_S = 240.0
START_DEADLINE_S = 30.0
MAX_TRIES_FOR_INODE = 5_000
LOOK_EVERY_S = 0.05
LEVELS = ("ERROR", "WARN", "CRITICAL")
LINE = re.compile(r"torture (\w+) (\d{9}) ")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do to the agent."""

    seconds: float
    lines_per_s: int
    kill_every_s: float


class NumberedLog:
    """One log file and the service that writes it: every line is numbered."""

    def __init__(self, path: Path, *, header: bytes = b"") -> None:
        self.path = path
        self.header = header
        self.written = 0
        self.rotations = 0
        self._file = self._create()

    @property
    def name(self) -> str:
        """What its lines call it."""
        return self.path.stem

    def write(self, count: int) -> None:
        """Append lines in one write, as a buffered logger does."""
        if count <= 0:
            return
        ts = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        first = self.written
        lines = [
            f"{ts} {LEVELS[n % 3]} torture {self.name} {n:09d} order refused by the payment gateway, try {n % 7}\n"
            for n in range(first, first + count)
        ]
        self._file.write("".join(lines).encode())
        # Told before it can be read: a copy that is made meanwhile may hold these lines or not.
        self.written = first + count
        self._file.flush()

    def size(self) -> int:
        """How many bytes the file has that is written to."""
        return os.fstat(self._file.fileno()).st_size

    def identity(self) -> tuple[int, int]:
        """Which file is written to: device and inode."""
        status = os.fstat(self._file.fileno())
        return status.st_dev, status.st_ino

    def rename_away(self) -> None:
        """Rotate as logrotate does; the service still writes to the old file until `reopen`."""
        for number in range(KEPT_ROTATIONS - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}.{number}").rename(f"{self.path}.{number + 1}")
        self.path.rename(f"{self.path}.1")
        self.path.touch()
        self.rotations += 1

    def reopen(self) -> None:
        """Write to the file that stands at the path now."""
        self._file.close()
        self._file = self.path.open("ab", buffering=1024 * 1024)

    def recreate(self) -> None:
        """Delete the file and create another."""
        self.path.unlink()
        self._file.close()
        self._file = self._create()
        self.rotations += 1

    def recreate_with_same_inode(self) -> bool:
        """Delete the file and create others until one has its inode; says whether one had."""
        device_inode = self.identity()
        self.path.unlink()
        self._file.close()
        others: list[Path] = []
        is_same = False
        for number in range(MAX_TRIES_FOR_INODE):
            other = self.path.with_name(f"try-{number}")
            other.touch()
            status = other.stat()
            is_same = (status.st_dev, status.st_ino) == device_inode
            if is_same:
                other.rename(self.path)
                break
            others.append(other)
        for other in others:
            other.unlink()
        self._file = self._create()
        self.rotations += 1
        return is_same

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def _create(self) -> BinaryIO:
        file = self.path.open("ab", buffering=1024 * 1024)
        file.write(self.header)
        file.flush()
        return file


class Service:
    """Writes three logs at a steady pace and rotates two of them; the third is rotated by `copytruncate`.

    `risks` are the ranges of numbers that were written while a copytruncate went on.
    """

    def __init__(self, folder: Path, lines_per_s: int) -> None:
        header = b"".join(b"# this header is the same in every file of the service, line %02d\n" % n for n in range(20))
        self.renamed = NumberedLog(folder / "renamed.log")
        self.recreated = NumberedLog(folder / "recreated.log", header=header)
        self.truncated = NumberedLog(folder / "truncated.log")
        self.risks: list[tuple[int, int]] = []
        self.is_at_peace = threading.Event()
        self.lock = threading.RLock()
        self.is_over = False
        self._lines_per_s = lines_per_s
        self._late_until_tick = -1

    @property
    def logs(self) -> tuple[NumberedLog, ...]:
        """All three."""
        return self.renamed, self.recreated, self.truncated

    def run(self) -> None:
        """Write until told that it is over."""
        began_s = time.monotonic()
        tick = 0
        next_rotation_s = ROTATE_EVERY_S
        while not self.is_over:
            elapsed_s = time.monotonic() - began_s
            due = int(elapsed_s * self._lines_per_s / len(self.logs))
            self.renamed.write(due - self.renamed.written)
            self.truncated.write(due - self.truncated.written)
            with self.lock:
                if not self.is_at_peace.is_set():
                    self.recreated.write(due - self.recreated.written)
            if elapsed_s >= next_rotation_s:
                self.renamed.rename_away()
                self._late_until_tick = tick + LATE_TICKS
                next_rotation_s += ROTATE_EVERY_S
            elif tick == self._late_until_tick:
                self.renamed.reopen()
            tick += 1
            time.sleep(max(0.0, began_s + tick * TICK_S - time.monotonic()))

    def copytruncate(self) -> None:
        """Rotate as logrotate's copytruncate does, while the service writes."""
        for number in range(KEPT_ROTATIONS - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.truncated.path}.{number}").rename(f"{self.truncated.path}.{number + 1}")
        at_risk_from = self.truncated.written
        shutil.copyfile(self.truncated.path, f"{self.truncated.path}.1")
        os.truncate(self.truncated.path, 0)
        self.risks.append((at_risk_from - IN_FLIGHT_LINES, self.truncated.written))
        self.truncated.rotations += 1

    def copytruncate_often(self) -> None:
        """Do so every few seconds until told that it is over."""
        while not self.is_over:
            time.sleep(COPYTRUNCATE_EVERY_S)
            self.copytruncate()


@dataclass(slots=True)
class Agent:
    """The real agent; what it cost is added up over all its lives."""

    folder: Path
    config_path: Path
    kills: int = 0
    cpu_s: float = 0.0
    peak_rss_mib: float = 0.0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def spool_path(self) -> Path:
        """Where its spool is."""
        return self.folder / "spool.db"

    def start(self) -> None:
        """Start it; it works within a second."""
        with (self.folder / "agent.err").open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "agent/common/reco_agent.py"), str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)
        self.kills += 1

    def stop(self) -> None:
        """Ask it to stop."""
        self._end(signal.SIGTERM)

    def has_open(self, path: Path, identity: tuple[int, int]) -> bool:
        """Whether it holds that file open."""
        for link in Path(f"/proc/{self._running().pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                status = link.stat()
                if (status.st_dev, status.st_ino) == identity and str(link.readlink()).startswith(str(path)):
                    return True
        return False

    def offsets(self, path: Path) -> Iterator[tuple[tuple[int, int], int]]:
        """How far its spool says that it has read the file at a path and its predecessors."""
        with contextlib.closing(sqlite3.connect(f"file:{self.spool_path}?mode=ro", uri=True)) as spool:
            row = spool.execute("SELECT offset_json FROM offsets WHERE path = ?", (str(path),)).fetchone()
        if row is not None:
            newest = json.loads(row[0])
            for one in (newest, *newest["older"]):
                yield (one["device"], one["inode"]), one["offset"]

    def has_read(self, path: Path, identity: tuple[int, int], size: int) -> bool:
        """Whether its spool holds everything of that file."""
        return any(known == identity and offset >= size for known, offset in self.offsets(path))

    def is_following(self, *paths: Path) -> bool:
        """Whether its spool knows these files."""
        with contextlib.suppress(sqlite3.Error):
            return all(any(self.offsets(path)) for path in paths)
        return False

    def has_sent_everything(self) -> bool:
        """Whether the server has acknowledged all that its spool held."""
        with contextlib.closing(sqlite3.connect(f"file:{self.spool_path}?mode=ro", uri=True)) as spool:
            return spool.execute("SELECT 1 FROM entries LIMIT 1").fetchone() is None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the agent does not run: {(self.folder / 'agent.err').read_text()[-2000:]}")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process = self._running()
        self.cpu_s += cpu_s(process.pid)
        self.peak_rss_mib = max(self.peak_rss_mib, peak_rss_mib(process.pid))
        process.send_signal(how)
        process.wait()
        self._process = None


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What became of one file's lines."""

    written: int
    lost: int
    repeated: int
    unadmitted: int
    rotations: int
    gap_markers: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The run and what came of it; CPU in cores over the time of writing and draining."""

    files: dict[str, FileVerdict]
    seconds: float
    drain_s: float
    kills: int
    reused_inodes: int
    dropped_markers: int
    agent_cpu_cores: float
    agent_peak_rss_mib: float
    server_cpu_cores: float
    database_mib: float

    @property
    def faults(self) -> list[str]:
        """Why the run is not good; empty when it is."""
        found = [
            f"{name}: {one.lost} lost, {one.repeated} repeated"
            for name, one in self.files.items()
            if one.repeated or (one.lost and name != "truncated")
        ]
        truncated = self.files["truncated"]
        if truncated.unadmitted:
            found.append(f"truncated: {truncated.unadmitted} lost lines that no marker admits")
        if self.dropped_markers:
            found.append("the spool dropped lines: the run was too fast for this machine")
        if not self.kills or not self.reused_inodes or any(not one.rotations for one in self.files.values()):
            found.append("this was no torture: nothing was killed, rotated or reused")
        return found


def judge(
    rows: Sequence[tuple[str, str | None, str]], written: dict[str, int], risks: Sequence[tuple[int, int]]
) -> dict[str, FileVerdict]:
    """Compare what the server holds, (message, code, meta) in order, with what was written."""
    counts = {name: bytearray(count) for name, count in written.items()}
    gaps = dict.fromkeys(written, 0)
    holes = _Holes(risks)
    for msg, code, meta_json in rows:
        if code == "LOG_GAP":
            name = Path(json.loads(meta_json)["file"]).stem
            gaps[name] += 1
            holes.admit(name)
            continue
        found = LINE.search(msg)
        if found is not None:
            name, number = found[1], int(found[2])
            counts[name][number] = min(255, counts[name][number] + 1)
            holes.see(name, number)
    return {
        name: FileVerdict(
            written=written[name],
            lost=count.count(0),
            repeated=sum(times - 1 for times in count if times > 1),
            unadmitted=holes.unadmitted(count) if name == "truncated" else count.count(0),
            rotations=0,
            gap_markers=gaps[name],
        )
        for name, count in counts.items()
    }


class _Holes:
    """Which lines of the truncated file are missing at which place, and whether a marker stands before it."""

    def __init__(self, risks: Sequence[tuple[int, int]]) -> None:
        self._risks = risks
        self._next = 0
        self._admitted: list[tuple[int, int]] = []
        self._markers = 0

    def admit(self, name: str) -> None:
        self._markers += name == "truncated"

    def see(self, name: str, number: int) -> None:
        if name != "truncated":
            return
        if number > self._next and self._markers:
            self._markers -= 1
            self._admitted.append((self._next, number))
        self._next = max(self._next, number + 1)

    def unadmitted(self, count: bytearray) -> int:
        if self._markers:
            self._admitted.append((self._next, len(count)))
        lost = [number for number, times in enumerate(count) if times == 0]
        return sum(not (_within(number, self._admitted) and _within(number, self._risks)) for number in lost)


def _within(number: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(first <= number < end for first, end in ranges)


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mib(pid: int) -> float:
    """The most memory that a process has used."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def run(plan: Plan, folder: Path) -> Verdict:
    """Torture an agent in an empty folder and judge what the server holds of it."""
    server = start_server(folder)
    agent = Agent(folder / "state", write_config(folder, server.port))
    agent.folder.mkdir()
    service = Service(folder / "logs", plan.lines_per_s)
    try:
        reused, seconds, drain_s = _torture(plan, service, agent)
        server_cores = cpu_s(server.pid) / (seconds + drain_s)
    finally:
        for log in service.logs:
            log.close()
        server.stop()
    rows = stored_rows(server.db_path)
    files = judge(rows, {log.name: log.written for log in service.logs}, service.risks)
    return Verdict(
        files={log.name: _with_rotations(files[log.name], log.rotations) for log in service.logs},
        seconds=round(seconds, 1),
        drain_s=round(drain_s, 1),
        kills=agent.kills,
        reused_inodes=reused,
        dropped_markers=sum(code == "LOG_DROPPED" for _, code, _ in rows),
        agent_cpu_cores=round(agent.cpu_s / (seconds + drain_s), 3),
        agent_peak_rss_mib=round(agent.peak_rss_mib, 1),
        server_cpu_cores=round(server_cores, 3),
        database_mib=round(server.db_path.stat().st_size / 2**20, 1),
    )


def _with_rotations(verdict: FileVerdict, rotations: int) -> FileVerdict:
    return FileVerdict(**{**asdict(verdict), "rotations": rotations})


def _torture(plan: Plan, service: Service, agent: Agent) -> tuple[int, float, float]:
    agent.start()
    _until(lambda: agent.is_following(*(log.path for log in service.logs)), "the agent did not take up the files")
    agent.kills = 0
    threads = [threading.Thread(target=work, daemon=True) for work in (service.run, service.copytruncate_often)]
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    reused = cycle = 0
    while time.monotonic() - began_s < plan.seconds:
        cycle += 1
        reused += _one_life(plan, service, agent, is_dead_recreate_due=cycle % DEAD_RECREATE_EVERY == 0)
    service.is_over = True
    for thread in threads:
        thread.join()
    service.renamed.reopen()
    seconds = time.monotonic() - began_s
    _until(lambda: _is_drained(agent, service), "the agent did not read everything", DRAIN_DEADLINE_S)
    drain_s = time.monotonic() - began_s - seconds
    agent.stop()
    return reused, seconds, drain_s


def _one_life(plan: Plan, service: Service, agent: Agent, *, is_dead_recreate_due: bool) -> int:
    """Let the agent live for its time, delete a file under it, kill it, start it again; returns reused inodes."""
    life_s = time.monotonic() + plan.kill_every_s
    time.sleep(max(0.0, plan.kill_every_s * 0.7))
    log = service.recreated
    with service.lock:
        identity, size = log.identity(), log.size()
        _until(lambda: agent.has_open(log.path, identity), "the agent did not open the new file")
        log.recreate()
    time.sleep(max(0.0, life_s - time.monotonic()))
    _until(lambda: agent.has_read(log.path, identity, size), "the agent did not read the deleted file")
    if not is_dead_recreate_due:
        agent.kill()
        agent.start()
        return 0
    return _recreate_while_dead(service, agent)


def _recreate_while_dead(service: Service, agent: Agent) -> int:
    log = service.recreated
    service.is_at_peace.set()
    with service.lock:
        identity, size = log.identity(), log.size()
        _until(lambda: agent.has_read(log.path, identity, size), "the agent did not read the file at peace")
        agent.kill()
        is_reused = log.recreate_with_same_inode()
        while log.size() <= size:
            log.write(500)
        service.is_at_peace.clear()
    agent.start()
    return int(is_reused)


def _is_drained(agent: Agent, service: Service) -> bool:
    is_read = all(agent.has_read(log.path, log.identity(), log.size()) for log in service.logs)
    return is_read and agent.has_sent_everything()


def _until(is_so: Callable[[], bool], otherwise: str, deadline_s: float = CATCH_UP_DEADLINE_S) -> None:
    give_up_s = time.monotonic() + deadline_s
    while not is_so():
        if time.monotonic() > give_up_s:
            raise RuntimeError(otherwise)
        time.sleep(LOOK_EVERY_S)


@dataclass(frozen=True, slots=True)
class Server:
    """A real server on loopback."""

    process: subprocess.Popen[bytes]
    port: int
    db_path: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def stop(self) -> None:
        """Ask it to stop."""
        self.process.terminate()
        self.process.wait()


def start_server(folder: Path) -> Server:
    """Start a server of its own and wait until it listens."""
    (folder / "logs").mkdir()
    port, db_path, output = free_port(), folder / "reco3.db", folder / "server.log"
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "RECO3_DB_PATH": str(db_path),
        "RECO3_AGENT_KEYS": json.dumps({AGENT_ID: AGENT_KEY}),
        "PORT": str(port),
    }
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")], cwd=folder, env=environment, stdout=log, stderr=log
        )
    _until(lambda: b"startup complete" in output.read_bytes(), f"see {output}", START_DEADLINE_S)
    return Server(process, port, db_path)


def write_config(folder: Path, port: int) -> Path:
    """The agent's config: three files, looked at five times a second."""
    path = folder / "config.yaml"
    config: dict[str, Any] = {
        "base_url": f"http://127.0.0.1:{port}",
        "agent_id": AGENT_ID,
        "api_key": AGENT_KEY,
        "state_dir": str(folder / "state"),
        "watch": {
            "log_files": [str(folder / "logs" / f"{name}.log") for name in ("renamed", "recreated", "truncated")]
        },
        "intervals": {"logs_sec": 0.2},
        "logging": {"file": str(folder / "agent.log")},
    }
    # YAML is a superset of JSON.
    path.write_text(json.dumps(config), encoding="utf-8")
    path.chmod(0o600)
    return path


def stored_rows(db_path: Path) -> list[tuple[str, str | None, str]]:
    """Every line that the server holds: message, code, meta, in the order of arrival."""
    with contextlib.closing(sqlite3.connect(f"file:{db_path}?mode=ro", uri=True)) as database:
        return database.execute("SELECT msg, code, meta_json FROM agent_logs ORDER BY id").fetchall()


def main() -> int:
    """Run the torture and print its verdict; exit code 1 when a line was lost or repeated without a marker."""
    parser = argparse.ArgumentParser(description="Log torture: rename, delete and recreate, copytruncate, SIGKILL.")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--rate", type=int, default=10_000, help="lines a second, all files together")
    parser.add_argument("--kill-every-s", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="work here and keep what was made; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write the verdict to this file, too")
    options = parser.parse_args()
    plan = Plan(options.seconds, options.rate, options.kill_every_s)
    if options.folder is not None:
        options.folder.mkdir(parents=True)
        verdict = run(plan, options.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            verdict = run(plan, Path(folder))
    print(render(verdict))
    if options.json is not None:
        options.json.write_text(json.dumps({**asdict(verdict), "faults": verdict.faults}, indent=2), encoding="utf-8")
    return 1 if verdict.faults else 0


def render(verdict: Verdict) -> str:
    """The verdict as a table in Markdown."""
    lines = [
        "| file | written | lost | repeated | lost without a marker | rotations | LOG_GAP |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in verdict.files.items():
        lines.append(
            f"| {name} | {one.written:,} | {one.lost} | {one.repeated} | {one.unadmitted} | {one.rotations} "
            f"| {one.gap_markers} |"
        )
    total = sum(one.written for one in verdict.files.values())
    lines += [
        "",
        f"{total:,} lines in {verdict.seconds} s ({total / verdict.seconds:,.0f}/s), stored {verdict.drain_s} s later.",
        f"{verdict.kills} kills, {verdict.reused_inodes} reused inodes.",
        f"Agent: {verdict.agent_cpu_cores} cores, {verdict.agent_peak_rss_mib} MiB at most.",
        f"Server: {verdict.server_cpu_cores} cores, database {verdict.database_mib} MiB.",
        *(f"FAULT: {fault}" for fault in verdict.faults),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
