"""How many bytes a PC's history takes, what a window costs, and for how long forgetting keeps a heartbeat waiting.

It writes through the server's own code into a fresh SQLite database and reads the pages with `dbstat`; no server runs.

    python bench/history_size.py [--pcs 200] [--hours 24] [--prune-rows 1000000] [--json FILE]
"""

import argparse
import asyncio
import json
import random
import sqlite3
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from reco3.server.domain.agents import Agent
from reco3.server.domain.history import (
    CHUNK_RESOLUTIONS_S,
    ROLLUP_RESOLUTIONS_S,
    WINDOW_S,
    ClosedWindow,
    Keeping,
    close_windows,
    points_due_at,
)
from reco3.server.domain.metrics import Sample
from reco3.server.domain.points import point_text
from reco3.server.services.ports import Outside, Transaction
from reco3.server.services.retention import Retention, RetentionService
from reco3.server.store.database import Database

START = datetime(2030, 1, 15, tzinfo=UTC)
HEARTBEAT_S = 10
DAY_S = 86_400
LOST_SHARE = 0.002
CHUNK_KEY_BYTES = 25
NAMES = {10: "every sample (10 s)", 60: "1 minute", 900: "15 minutes", 7_200: "2 hours"}
OLD_TABLE = """
CREATE TABLE metric_samples (id INTEGER PRIMARY KEY AUTOINCREMENT, agent_id TEXT NOT NULL, ts TEXT NOT NULL,
  cpu_percent FLOAT, mem_percent FLOAT, disk_percent FLOAT, net_bytes_sent BIGINT, net_bytes_recv BIGINT,
  org_id TEXT DEFAULT 'default' NOT NULL);
CREATE INDEX ix_metric_samples_agent_id_ts ON metric_samples (agent_id, ts);
"""


@dataclass(frozen=True, slots=True)
class Size:
    """One kind of row: how many a PC and day, and their bytes on disk, keys and half-full pages included."""

    name: str
    rows_per_pc_day: float
    bytes_per_pc_day: float


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of the server's process: per heartbeat, per closed window, and per window written."""

    point_us: float
    close_us: float
    write_us: float


@dataclass(frozen=True, slots=True)
class Stalls:
    """What forgetting did to heartbeats that were written all the while, in milliseconds; `quiet` is without it."""

    rows_deleted: int
    seconds: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    quiet_p50_ms: float
    quiet_longest_ms: float


class FakePc:
    """A PC whose numbers vary like a desktop's: bursts of work, slow memory, a disk that fills, chatty network."""

    def __init__(self, number: int, seed: int) -> None:
        self.agent_id = f"pc-{number:06d}"
        self._random = random.Random(f"{seed}:{number}")  # noqa: S311 - repeatable noise, no secret
        self._cpu, self._mem, self._disk = 8.0, self._random.uniform(30, 70), self._random.uniform(20, 90)
        self._sent, self._recv = self._random.randrange(10**11), self._random.randrange(10**12)
        self._phase_s = self._random.uniform(0, HEARTBEAT_S)

    def samples(self, seconds: int) -> Iterator[Sample]:
        """Heartbeats with jitter, some of them lost."""
        for beat in range(seconds // HEARTBEAT_S):
            self._live()
            if self._random.random() >= LOST_SHARE:
                yield self._sample(beat * HEARTBEAT_S + self._phase_s + self._random.gauss(0, 0.02))

    def _live(self) -> None:
        chance = self._random
        target = 60.0 if chance.random() < 0.03 else 8.0  # noqa: PLR2004 - a burst every few minutes
        self._cpu = min(100.0, max(0.2, self._cpu + 0.3 * (target - self._cpu) + chance.gauss(0, 3)))
        self._mem = min(98.0, max(5.0, self._mem + chance.gauss(0, 0.15)))
        self._disk = min(99.0, self._disk + max(0.0, chance.gauss(0, 0.002)))
        self._sent += int(chance.lognormvariate(10.5, 1.4))
        self._recv += int(chance.lognormvariate(11.5, 1.6))

    def _sample(self, after_s: float) -> Sample:
        moment = START + timedelta(milliseconds=round(after_s * 1000))
        shares = round(self._cpu, 1), round(self._mem, 1), round(self._disk, 1)
        return Sample(self.agent_id, moment, *shares, self._sent, self._recv)


def main() -> None:
    """Measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        sizes, costs = measure_sizes(Path(folder) / "history.db", pcs=options.pcs, seconds=options.hours * 3600)
        stalls = asyncio.run(measure_stalls(Path(folder) / "prune.db", rows=options.prune_rows))
    print(markdown(sizes, costs, stalls))
    if options.json:
        found: dict[str, Any] = {"sizes": [asdict(size) for size in sizes], "costs": asdict(costs)}
        options.json.write_text(json.dumps(found | {"stalls": asdict(stalls) if stalls else None}), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pcs", type=int, default=200)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--prune-rows", type=int, default=1_000_000, help="0 leaves that part out")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def measure_sizes(path: Path, *, pcs: int, seconds: int) -> tuple[list[Size], Costs]:
    """Let so many PCs live for so long, window by window, and weigh what is stored."""
    fleet = [FakePc(number, seed=4) for number in range(pcs)]
    texts = {
        pc.agent_id: [(sample.ts, point_text(sample, is_restart=False)) for sample in pc.samples(seconds)]
        for pc in fleet
    }
    closings = sorted(_closings(texts, seconds), key=lambda closing: closing[0])
    began = time.perf_counter()
    asyncio.run(_store(path, [window for _, window in closings]))
    write_us = (time.perf_counter() - began) / max(1, len(closings)) * 1e6
    sizes = [*_weigh(path, pcs * seconds / DAY_S), _old_rows(path.with_name("old.db"), fleet[:10], seconds)]
    return sizes, _costs(write_us)


def _costs(write_us: float) -> Costs:
    """The best of many rounds, which a busy machine disturbs least."""
    samples = list(FakePc(0, seed=4).samples(400))
    text = "".join(point_text(sample, is_restart=False) for sample in samples)
    now = START + timedelta(seconds=WINDOW_S + 30)
    return Costs(
        point_us=_best_us(lambda: point_text(samples[0], is_restart=False)),
        close_us=_best_us(lambda: close_windows("pc-000000", text, now)),
        write_us=write_us,
    )


def _best_us(work: Callable[[], object], *, rounds: int = 200, times: int = 10) -> float:
    return min(timeit.repeat(work, repeat=rounds, number=times)) / times * 1e6


def _closings(texts: dict[str, list[tuple[datetime, str]]], seconds: int) -> Iterator[tuple[int, ClosedWindow]]:
    """Each PC's windows with the moment at which its turn comes."""
    for agent_id, points in texts.items():
        waiting, open_points = iter(points), ""
        due_at = points_due_at(agent_id, START)
        upcoming = next(waiting, None)
        while due_at <= START.timestamp() + seconds + 2 * WINDOW_S:
            now = datetime.fromtimestamp(due_at, UTC)
            while upcoming is not None and upcoming[0] <= now:
                open_points += upcoming[1]
                upcoming = next(waiting, None)
            closed = close_windows(agent_id, open_points, now)
            yield from ((due_at, window) for window in closed.windows)
            open_points, due_at = closed.open_points, closed.due_at


async def _store(path: Path, windows: Sequence[ClosedWindow]) -> None:
    database = Database(URL.create("sqlite", database=str(path)))
    database.open()
    database.start()
    for first in range(0, len(windows), 100):
        chunk = windows[first : first + 100]
        await database.write(lambda tx, chunk=chunk: tx.history.add(chunk))  # type: ignore[misc]
    database.close()


def _weigh(path: Path, days: float) -> list[Size]:
    """Each resolution's share of its table's pages: chunks by their bytes, roll-ups, which are alike, by their rows."""
    with sqlite3.connect(path) as connection:
        return [
            *_shares(connection, "metric_chunks", CHUNK_RESOLUTIONS_S, f"length(points) + {CHUNK_KEY_BYTES}", days),
            *_shares(connection, "metric_rollups", ROLLUP_RESOLUTIONS_S, "1", days),
        ]


def _shares(
    connection: sqlite3.Connection, table: str, resolutions_s: Sequence[int], weight: str, days: float
) -> Iterator[Size]:
    (on_disk,) = connection.execute("SELECT sum(pgsize) FROM dbstat WHERE name = ?", (table,)).fetchone()
    (whole,) = connection.execute(f"SELECT sum({weight}) FROM {table}").fetchone()  # noqa: S608 - our own names
    for resolution_s in resolutions_s:
        query = f"SELECT count(*), sum({weight}) FROM {table} WHERE resolution_s = ?"  # noqa: S608 - our own names
        rows, part = connection.execute(query, (resolution_s,)).fetchone()
        yield Size(NAMES[resolution_s], rows / days, on_disk * part / whole / days)


def _old_rows(path: Path, fleet: Sequence[FakePc], seconds: int) -> Size:
    """The same samples as rows with an index, as they were kept before."""
    with sqlite3.connect(path) as connection:
        connection.executescript(OLD_TABLE)
        rows = sorted((sample for pc in fleet for sample in pc.samples(seconds)), key=lambda sample: sample.ts)
        connection.executemany(
            "INSERT INTO metric_samples VALUES (NULL,?,?,?,?,?,?,?,'default')",
            [(s.agent_id, f"{s.ts:%Y-%m-%dT%H:%M:%S}.{s.ts.microsecond // 1000:03d}Z", *_numbers(s)) for s in rows],
        )
        connection.commit()
        days = len(fleet) * seconds / DAY_S
        (on_disk,) = connection.execute("SELECT sum(pgsize) FROM dbstat WHERE name LIKE '%metric_samples%'").fetchone()
    return Size("for comparison: a row and an index entry a sample", len(rows) / days, on_disk / days)


def _numbers(sample: Sample) -> tuple[object, ...]:
    return sample.cpu_percent, sample.mem_percent, sample.disk_percent, sample.net_bytes_sent, sample.net_bytes_recv


class _Silent:
    """Announces to nobody."""

    def announce(self, topic: str, agent_id: str) -> None:
        """Say nothing."""

    def dismiss(self, name: str) -> None:
        """End nothing."""


async def measure_stalls(path: Path, *, rows: int) -> Stalls | None:
    """Forget half of so many rows while heartbeats are written one after another."""
    if rows == 0:
        return None
    now = START + timedelta(days=3)
    database = Database(URL.create("sqlite", database=str(path)))
    database.open()
    _fill(path, rows, now)
    database.start()
    outside = Outside(database, _Silent(), lambda: now, lambda: "id")
    retention = RetentionService(outside, Retention(Keeping(), timedelta(days=30)))
    quiet = await _beating(database, asyncio.create_task(asyncio.sleep(5)))
    began = time.perf_counter()
    busy = await _beating(database, asyncio.create_task(retention.prune()))
    seconds = time.perf_counter() - began
    left = await database.read(lambda tx: tx._connection.exec_driver_sql("SELECT count(*) FROM metric_chunks").scalar())  # noqa: SLF001 - a bench counts
    database.close()
    return Stalls(
        rows_deleted=rows - int(left or 0),
        seconds=seconds,
        p50_ms=_percentile(busy, 0.5),
        p99_ms=_percentile(busy, 0.99),
        longest_ms=max(busy),
        quiet_p50_ms=_percentile(quiet, 0.5),
        quiet_longest_ms=max(quiet),
    )


def _fill(path: Path, rows: int, now: datetime) -> None:
    """Half of the rows of each PC are older than a day."""
    per_pc = 2 * DAY_S // WINDOW_S
    first_s = int((now - timedelta(days=2)).timestamp())
    keys = (
        (f"pc-{row // per_pc:06d}", 10, first_s + row % per_pc * WINDOW_S, random.randbytes(250))  # noqa: S311 - filler
        for row in range(rows)
    )
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO metric_chunks (agent_id, resolution_s, start_s, points) VALUES (?, ?, ?, ?)", keys
        )
        connection.executemany(
            "INSERT INTO agent_status (agent_id, last_seen, platform, version, payload_json, created_at, updated_at, "
            "is_online, rollup_count) VALUES (?, '2030-01-17T00:00:00.000Z', '', '', '{}', '2030-01-15T00:00:00.000Z', "
            "'2030-01-15T00:00:00.000Z', 1, 0)",
            [(f"pc-{number:06d}",) for number in range(rows // per_pc + 1)],
        )


async def _beating(database: Database, job: asyncio.Task[None]) -> list[float]:
    """Milliseconds of each durable write, one after another, while the job runs."""
    took_ms: list[float] = []
    while not job.done():
        began = time.perf_counter()
        await database.write(_beat)
        took_ms.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.002)
    await job
    return took_ms


def _beat(tx: Transaction) -> None:
    agent = Agent("pc-000000", START, "linux", "1.0", "{}", START, START, is_online=True)
    tx.agents.put([agent])


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def markdown(sizes: Sequence[Size], costs: Costs, stalls: Stalls | None) -> str:
    """Everything as text for people."""
    lines = [
        "| history | rows a PC and day | bytes on disk a PC and day |",
        "|---|---:|---:|",
        *[f"| {size.name} | {size.rows_per_pc_day:,.0f} | {size.bytes_per_pc_day:,.0f} |" for size in sizes],
    ]
    lines += [
        "",
        (
            f"A heartbeat's point: {costs.point_us:.1f} µs. Closing a window: {costs.close_us:.0f} µs. "
            f"Writing it, 100 at a time, durable: {costs.write_us:.0f} µs."
        ),
    ]
    if stalls:
        lines.append(
            f"Forgetting {stalls.rows_deleted:,} rows took {stalls.seconds:.1f} s; writes beside it: p50 "
            f"{stalls.p50_ms:.1f} ms, p99 {stalls.p99_ms:.1f} ms, longest {stalls.longest_ms:.1f} ms "
            f"(without it: p50 {stalls.quiet_p50_ms:.1f} ms, longest {stalls.quiet_longest_ms:.1f} ms)."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
