"""Open points on SQLite: in the journal and in memory, the same whoever looks and whenever the server is started."""

import random
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from builders import PC, Rig, rig, taken_heartbeat
from databases import put_empty_database
from fakes import START
from reco3.server.domain.audit import HeartbeatAudit
from reco3.server.domain.points import read_points, unpack_points
from reco3.server.services.ports import Transaction
from reco3.server.store.database import Database
from reco3.server.store.open_points import FOLD_AFTER_S, PRUNE_EVERY_S, Open, OpenPoints, read_open_points

pytestmark = pytest.mark.anyio

OTHER = "pc-005"  # Its windows begin four minutes after those of `PC`.
ALWAYS = 2**40


@asynccontextmanager
async def running(path: Path, points: OpenPoints | None = None) -> AsyncIterator[Rig]:
    """The services over a database, as after a start of the server."""
    database = Database(URL.create("sqlite", database=str(path)))
    if points is not None:
        database._points = database._writer._points = points
    database.open()
    database.start()
    try:
        yield rig(database, heartbeat_audit=HeartbeatAudit.ROLLUP)
    finally:
        database.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    put_empty_database(tmp_path / "reco3.db")
    return tmp_path / "reco3.db"


async def beat(services: Rig, second: int, agent_id: str = PC) -> None:
    at = START + timedelta(seconds=second)
    services.clock.now = at
    await services.agents.record_heartbeat(taken_heartbeat(agent_id, at=at, net_bytes_sent=second))


def seconds_in(text: str) -> list[int]:
    return [row[5] for row in read_points(text).rows()]


async def open_seconds(services: Rig, agent_id: str = PC) -> list[int]:
    return seconds_in(await services.store.read(lambda tx: tx.history.open_points(agent_id)))


async def all_seconds(services: Rig, agent_id: str = PC) -> list[int]:
    """Every heartbeat that is kept of a PC, packed or open, by what it said of itself."""

    def query(tx: Transaction) -> list[int]:
        packs = tx.history.chunks(agent_id, resolution_s=10, start_s=0, end_s=ALWAYS)
        packed = [row[5] for pack in packs for row in unpack_points(pack)]
        return packed + seconds_in(tx.history.open_points(agent_id))

    return await services.store.read(query)


def sql(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def in_place(path: Path, agent_id: str, known: Open | None) -> list[int]:
    """What a reader of the file alone finds, or one who was given something to remember."""
    database = Database(URL.create("sqlite", database=str(path)))
    with database._read_engine.connect() as connection:
        found = seconds_in(read_open_points(connection, agent_id, known))
    database.close()
    return found


async def test_a_heartbeat_leaves_its_pcs_row_as_short_as_it_was(path: Path) -> None:
    async with running(path) as services:
        for second in range(0, 300, 10):
            await beat(services, second)

        assert sql(path, "SELECT open_points FROM agent_status") == [("",)]
        assert sql(path, "SELECT count(*) FROM points_journal") == [(30,)]
        assert await open_seconds(services) == list(range(0, 300, 10))


async def test_a_start_finds_every_open_point_again_and_none_twice(path: Path) -> None:
    async with running(path) as services:
        for second in range(0, 400, 10):
            await beat(services, second)
    kept = sql(path, "SELECT points_folded_at > 0, length(open_points) > 0 FROM agent_status")

    async with running(path) as services:
        found = await open_seconds(services)
        await beat(services, 400)
        again = await open_seconds(services)

    assert kept == [(1, 1)]
    assert found == list(range(300, 400, 10))
    assert again == list(range(300, 410, 10))


@pytest.mark.parametrize("seed", range(12))
async def test_whenever_the_server_dies_no_point_is_lost_or_kept_twice(path: Path, seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    said: dict[str, list[int]] = {PC: [], OTHER: [], "pc-009": []}
    second = 0
    for run in range(6):
        # What a power cut leaves: the file and its log, as they are on the disk while somebody has them open.
        home = tmp_path / f"run-{run}"
        home.mkdir()
        async with running(path) as services:
            for _ in range(chance.randrange(1, 60)):
                second += chance.choice((1, 7, 10, 10, 10, 45, 400))
                agent_id = chance.choice(list(said))
                await beat(services, second, agent_id)
                said[agent_id].append(second)
            found = {agent_id: await all_seconds(services, agent_id) for agent_id in said}
            for left in (path, path.with_name(path.name + "-wal")):
                shutil.copy(left, home / left.name)
        path = home / path.name

        assert found == said

    async with running(path) as services:
        assert {agent_id: await all_seconds(services, agent_id) for agent_id in said} == said


async def test_who_reads_the_file_alone_reads_the_journal(path: Path) -> None:
    async with running(path) as services:
        for second in range(0, 400, 10):
            await beat(services, second)
            await beat(services, second + 1, OTHER)

    assert in_place(path, PC, None) == list(range(300, 400, 10))
    assert in_place(path, OTHER, None) == list(range(241, 401, 10))
    assert in_place(path, "pc-nobody", None) == []


async def test_a_window_that_closed_between_two_looks_is_not_believed(path: Path) -> None:
    async with running(path) as services:
        for second in range(0, 400, 10):
            await beat(services, second)
    before_closing = Open("", folded_at=0, since=1)
    folded_at = sql(path, "SELECT points_folded_at FROM agent_status")[0][0]
    assert isinstance(folded_at, int)

    assert in_place(path, PC, before_closing) == list(range(300, 400, 10))
    assert in_place(path, PC, Open("of another row", folded_at, 0)) == list(range(300, 400, 10))


async def test_a_transaction_that_fails_leaves_the_points_as_they_were(path: Path) -> None:
    async with running(path) as services:
        await beat(services, 0)

        def fail(tx: Transaction) -> None:
            tx.agents.beat({})
            tx._changes.append({PC: "." + "A" * 40})  # type: ignore[attr-defined]
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await services.store.write(fail)
        await beat(services, 10)

        assert await open_seconds(services) == [0, 10]
    assert in_place(path, PC, None) == [0, 10]
    assert sql(path, "SELECT id FROM points_journal") == [(1,), (2,)]


async def test_a_damaged_row_of_the_journal_loses_what_was_in_it_and_stops_nobody(path: Path) -> None:
    async with running(path) as services:
        for second in range(0, 50, 10):
            await beat(services, second)
    sql(path, "UPDATE points_journal SET points = x'c1ff00' WHERE id = 3")

    async with running(path) as services:
        assert await open_seconds(services) == [0, 10, 30, 40]
        await beat(services, 50)
        assert await open_seconds(services) == [0, 10, 30, 40, 50]


async def test_a_pc_that_somebody_deleted_has_no_past_when_it_comes_back(path: Path) -> None:
    async with running(path) as services:
        await beat(services, 0)
        await beat(services, 1, OTHER)
    sql(path, f"DELETE FROM agent_status WHERE agent_id = '{PC}'")

    async with running(path) as services:
        assert await open_seconds(services) == []
        await beat(services, 20)
        await beat(services, 21, OTHER)
        assert (await open_seconds(services), await open_seconds(services, OTHER)) == ([20], [1, 21])


async def test_the_journal_keeps_what_is_needed_and_no_more(path: Path) -> None:
    """Windows close every five minutes, so of an hour some minutes are left; the silent are folded after a while."""
    clock = [0.0]
    async with running(path, OpenPoints(clock=lambda: clock[0])) as services:
        await beat(services, 0, "pc-silent")
        for second in range(1, 3_600, 10):
            clock[0] = float(second)
            await beat(services, second)
            rows = sql(path, "SELECT count(*) FROM points_journal")[0][0]
            assert isinstance(rows, int)
            assert rows <= (FOLD_AFTER_S + 360 + 2 * PRUNE_EVERY_S) / 10

        assert rows <= (360 + 2 * PRUNE_EVERY_S) / 10
        assert await all_seconds(services) == list(range(1, 3_600, 10))
        assert await open_seconds(services, "pc-silent") == [0]
    async with running(path) as services:
        assert await all_seconds(services) == list(range(1, 3_600, 10))
        assert await open_seconds(services, "pc-silent") == [0]


async def test_an_upgraded_database_goes_on_with_the_points_in_its_rows(path: Path) -> None:
    async with running(path) as services:
        for second in range(0, 100, 10):
            await beat(services, second)
        text = await services.store.read(lambda tx: tx.history.open_points(PC))
    sql(path, f"UPDATE agent_status SET open_points = '{text}'")
    sql(path, "DELETE FROM points_journal")

    async with running(path) as services:
        await beat(services, 100)
        assert await open_seconds(services) == list(range(0, 110, 10))


async def test_rows_of_an_emptied_journal_are_not_numbered_anew(path: Path) -> None:
    async with running(path) as services:
        for second in range(0, 370, 10):
            await beat(services, second)
    sql(path, "DELETE FROM points_journal")

    async with running(path) as services:
        await beat(services, 370)
    async with running(path) as services:
        assert await open_seconds(services) == list(range(300, 380, 10))
