"""The samples of an older database move into windows when it is opened, on both databases."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.engine import URL

from builders import history_sample
from reco3.server.domain.history import MINUTE_S, QUARTER_S, RAW_S, TWO_HOURS_S, bucketed
from reco3.server.domain.metrics import Sample
from reco3.server.domain.points import point_text, read_points, unpack_points
from reco3.server.domain.rollups import unpack_rollups
from reco3.server.store import migrating
from reco3.server.store.database import Database

pytestmark = pytest.mark.anyio

PCS = ["pc-001", "pc-002", "zz"]


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """A database of the version before windows, with samples."""
    if request.param == "sqlite":
        url = URL.create("sqlite", database=str(tmp_path / "old.db"))
    else:
        url = request.getfixturevalue("postgres").new_database(is_migrated=False)
    engine = create_engine(url)
    bring_to(engine, "0002")
    fill(engine)
    engine.dispose()
    return url


def bring_to(engine: Engine, version: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrating._FOLDER))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)


def old_samples(agent_id: str) -> list[Sample]:
    """Two and a half hours of heartbeats with a gap, a reboot and a missing share."""
    return [
        history_sample(
            n * 10,
            agent_id=agent_id,
            cpu_percent=None if n == 7 else n % 90 + 0.5,
            net_bytes_sent=n * 1_000 if n < 500 else n,
        )
        for n in range(900)
        if not 100 <= n < 200
    ]


def fill(engine: Engine) -> None:
    statement = text(
        "INSERT INTO metric_samples (agent_id, ts, cpu_percent, mem_percent, disk_percent, net_bytes_sent, "
        "net_bytes_recv) VALUES (:agent_id, :ts, :cpu, :mem, :disk, :sent, :recv)"
    )
    is_sqlite = engine.dialect.name == "sqlite"
    rows = [
        {
            "agent_id": sample.agent_id,
            "ts": f"{sample.ts:%Y-%m-%dT%H:%M:%S}.000Z" if is_sqlite else sample.ts,
            "cpu": sample.cpu_percent,
            "mem": sample.mem_percent,
            "disk": sample.disk_percent,
            "sent": sample.net_bytes_sent,
            "recv": sample.net_bytes_recv,
        }
        for agent_id in PCS
        for sample in reversed(old_samples(agent_id))
    ]
    with engine.begin() as connection:
        connection.execute(statement, rows)


async def test_every_old_sample_is_found_again_in_every_resolution(old_url: URL, anyio_backend: str) -> None:  # noqa: ARG001 - makes anyio run it
    database = Database(old_url)
    database.open()

    for agent_id in PCS:
        whole = {"start_s": 0, "end_s": 2**33}
        raw, minutes, quarters, two_hours = await database.read(
            lambda tx, name=agent_id, whole=whole: (  # type: ignore[misc]
                tx.history.chunks(name, resolution_s=RAW_S, **whole),
                tx.history.chunks(name, resolution_s=MINUTE_S, **whole),
                tx.history.rollups(name, resolution_s=QUARTER_S, **whole),
                tx.history.rollups(name, resolution_s=TWO_HOURS_S, **whole),
            )
        )
        texts = [point_text(sample, is_restart=False) for sample in old_samples(agent_id)]
        expected = read_points("".join(texts))
        assert [row for pack in raw for row in unpack_points(pack)] == expected.rows()
        assert [minute for pack in minutes for minute in unpack_rollups(pack)] == bucketed(expected, 60)
        assert quarters == bucketed(expected, 900)
        assert two_hours == bucketed(expected, 7_200)
    database.close()


async def test_the_old_table_is_gone_and_a_database_without_samples_opens_too(old_url: URL, anyio_backend: str) -> None:  # noqa: ARG001 - makes anyio run it
    engine = create_engine(old_url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM metric_samples"))
    database = Database(old_url)

    database.open()
    database.close()

    assert "metric_samples" not in inspect(engine).get_table_names()
    engine.dispose()
