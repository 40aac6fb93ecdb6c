"""The database as a whole: its pragmas, its schema, who may write, and what it refuses to open."""

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from builders import agent
from postgresql import Postgres
from reco3.server.domain.errors import Busy, StartRefused
from reco3.server.store import migrating
from reco3.server.store.database import Database, database_url, has_wal_race
from reco3.server.store.tables import SCHEMA_REVISION, metadata

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgresql"])
def own_url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """The address of a database whose schema the test may spoil."""
    if request.param == "sqlite":
        return URL.create("sqlite", database=str(tmp_path / "own.db"))
    url: URL = request.getfixturevalue("postgres").new_database()
    return url


@pytest.fixture
async def own_store(own_url: URL, anyio_backend: str) -> AsyncIterator[Database]:  # noqa: ARG001 - makes anyio run it
    """A store whose schema the test may spoil."""
    database = Database(own_url)
    database.open()
    database.start()
    yield database
    database.close()


def pragma(tx: object, name: str) -> object:
    return tx._connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()  # type: ignore[attr-defined]


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_the_live_writer_connection_survives_a_power_cut(store: Database) -> None:
    names = ("journal_mode", "synchronous", "foreign_keys")

    found = await store.write(lambda tx: {name: pragma(tx, name) for name in names})

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_readers_never_checkpoint(store: Database) -> None:
    assert await store.read(lambda tx: pragma(tx, "wal_autocheckpoint")) == 0


async def test_a_reader_cannot_write(store: Database) -> None:
    with pytest.raises((DBAPIError, Busy)):
        await store.read(lambda tx: tx.agents.put([agent()]))

    assert await store.read(lambda tx: tx.agents.count()) == 0


async def test_the_migrations_make_exactly_the_tables_that_the_code_knows(store: Database) -> None:
    with store._write_engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})

        assert compare_metadata(context, metadata) == []


def test_the_code_names_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrating._FOLDER))

    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_REVISION


def test_a_start_that_finds_all_in_order_does_without_alembic(tmp_path: Path) -> None:
    opened = (
        "import sys; from pathlib import Path; from reco3.server.store.database import Database, database_url;"
        "Database(database_url(database_url=None, db_path=Path('reco3.db'))).open();"
        "print('alembic' in sys.modules)"
    )

    said = [subprocess.check_output([sys.executable, "-c", opened], cwd=tmp_path, text=True) for _ in range(2)]

    assert said == ["True\n", "False\n"]


async def test_a_column_that_no_migration_made_would_be_noticed(own_store: Database) -> None:
    await own_store.write(lambda tx: tx._connection.execute(text("ALTER TABLE agent_status ADD COLUMN stray TEXT")))

    with own_store._write_engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)

    assert [(difference[0], difference[3].name) for difference in differences] == [("remove_column", "stray")]


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(own_store: Database, own_url: URL) -> None:
    await own_store.write(lambda tx: tx._connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    again = Database(own_url)

    with pytest.raises(StartRefused, match=r"at version 9999.*made by a newer one"):
        again.open()
    again.close()

    kept = await own_store.read(
        lambda tx: tx._connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    )
    assert kept == "9999"


async def test_opening_an_up_to_date_database_again_changes_nothing(store: Database, store_url: URL) -> None:
    await store.write(lambda tx: tx.agents.put([agent()]))
    again = Database(store_url)

    again.open()
    again.close()

    assert await store.read(lambda tx: tx.agents.count()) == 1


@pytest.mark.parametrize("own_url", ["postgresql"], indirect=True)
async def test_connections_that_were_cut_are_replaced(own_store: Database, own_url: URL, postgres: Postgres) -> None:
    await own_store.write(lambda tx: tx.agents.put([agent()]))
    assert await own_store.read(lambda tx: tx.agents.count()) == 1

    postgres.cut_connections(own_url)

    assert await own_store.read(lambda tx: tx.agents.count()) == 1
    await own_store.write(lambda tx: tx.agents.put([agent("pc-002")]))
    assert await own_store.read(lambda tx: tx.agents.count()) == 2


@pytest.mark.parametrize("own_url", ["postgresql"], indirect=True)
async def test_a_database_that_is_gone_answers_busy(own_store: Database, own_url: URL, postgres: Postgres) -> None:
    postgres.drop(own_url)

    with pytest.raises(Busy, match="cannot be read"):
        await own_store.read(lambda tx: tx.agents.count())
    with pytest.raises(Busy, match="cannot write"):
        await own_store.write(lambda tx: tx.agents.put([agent()]))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reco3.db"
    path.write_bytes(b"this is a letter, not a database" * 200)
    database = Database(URL.create("sqlite", database=str(path)))

    with pytest.raises(StartRefused, match=r"reco3\.db cannot be opened for writing: file is not a database"):
        database.open()
    database.close()


def test_an_unreachable_postgresql_is_refused_without_showing_its_password(tmp_path: Path) -> None:
    address = f"postgresql://reco3:hunter2@/reco3?host={tmp_path}"
    database = Database(database_url(database_url=address, db_path=tmp_path / "unused.db"))

    with pytest.raises(StartRefused) as refusal:
        database.open()
    database.close()

    assert "hunter2" not in refusal.value.message
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("address", ["mysql://u@h/d", "sqlite:///x.db", "not a url", "", "postgresql://h:port/d"])
def test_only_an_address_of_postgresql_is_taken(address: str, tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="RECO3_DATABASE_URL: expected postgresql://"):
        database_url(database_url=address, db_path=tmp_path / "unused.db")


@pytest.mark.parametrize("address", ["postgresql://u:p@h/d", "postgresql+psycopg://u:p@h:5432/d"])
def test_postgresql_is_spoken_to_through_psycopg_three(address: str, tmp_path: Path) -> None:
    assert database_url(database_url=address, db_path=tmp_path).drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("version", "expected"),
    [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 50, 7), False), ((3, 44, 6), False)],
)
def test_the_wal_race_is_known_by_version(version: tuple[int, ...], expected: bool) -> None:
    assert has_wal_race(version) is expected


def test_the_wal_race_is_judged_by_the_library_in_use() -> None:
    assert has_wal_race() is has_wal_race(sqlite3.sqlite_version_info)
