"""What the writer remembers of heartbeats: believed only while nobody else writes, and only once it is durable."""

import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from builders import PC, Rig, rig, taken_heartbeat
from fakes import START
from reco3.server.domain.agents import Pulse
from reco3.server.store.database import Database, database_url
from reco3.server.store.transaction import TableTransaction

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Rig]:
    """Services on a SQLite file, where the server is the only one who writes."""
    database = Database(database_url(database_url=None, db_path=tmp_path / "reco3.db"))
    database.open()
    database.start()
    yield rig(database)
    database.close()


async def beat(services: Rig, seconds: int) -> None:
    await services.agents.record_heartbeat(taken_heartbeat(at=START + timedelta(seconds=seconds)))


async def online_rows(services: Rig) -> int:
    rows = await services.store.read(
        lambda tx: tx.audit.newest(event_type="agent_online", actor=None, before_id=None, limit=100)
    )
    return len(rows)


async def test_a_second_heartbeat_is_no_news(here: Rig) -> None:
    await beat(here, 0)
    await beat(here, 10)

    assert await online_rows(here) == 1


async def test_what_a_person_changed_in_the_database_is_seen_by_the_next_heartbeat(here: Rig, tmp_path: Path) -> None:
    await beat(here, 0)
    with sqlite3.connect(tmp_path / "reco3.db", timeout=10) as person:
        person.execute("UPDATE agent_status SET is_online = 0")
    person.close()

    await beat(here, 10)

    assert await online_rows(here) == 2


async def test_what_was_rolled_back_is_not_remembered(here: Rig) -> None:
    await beat(here, 0)

    def failing(tx: TableTransaction) -> None:
        pulse = tx.agents.pulses([PC])[PC]
        tx._pulses.put({PC: pulse._replace(is_online=False)})  # type: ignore[union-attr]
        raise ValueError("this piece of work fails")

    with pytest.raises(ValueError, match="fails"):
        await here.store.write(failing)  # type: ignore[arg-type]
    await beat(here, 10)

    assert await online_rows(here) == 1


async def test_what_became_durable_is_remembered(here: Rig) -> None:
    # The control of the test above: the same change, without the failure, is believed.
    await beat(here, 0)

    def succeeding(tx: TableTransaction) -> None:
        pulse: Pulse = tx.agents.pulses([PC])[PC]
        tx._pulses.put({PC: pulse._replace(is_online=False)})  # type: ignore[union-attr]

    await here.store.write(succeeding)  # type: ignore[arg-type]
    await beat(here, 10)

    assert await online_rows(here) == 2
