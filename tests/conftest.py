"""Fixtures that several folders of tests share: the event loop's kind, real stores, a throw-away PostgreSQL."""

import contextlib
import gc
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL, make_url

from databases import put_empty_database
from postgresql import Postgres, own_cluster
from reco3.server.store.database import Database


def pytest_configure() -> None:
    """Collecting makes thousands of objects and no garbage: look for none, nor among them ever after."""
    gc.disable()


def pytest_collection_finish() -> None:
    """See `pytest_configure`."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix files that mostly wait with those that compute, so that the processor always has something to do.

    A long one that starts last would be waited for alone, so the last part of the run has none.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    ends = {"e2e": 0.75, "integration": 0.9}
    kinds = {path: next((kind for kind in ends if kind in path.parts), "unit") for path in files}
    places: dict[Path, float] = {}
    for kind in set(kinds.values()):
        alike = [path for path in files if kinds[path] == kind]
        places |= {path: ends.get(kind, 1.0) * number / len(alike) for number, path in enumerate(alike)}
    items[:] = [item for path in sorted(files, key=lambda path: (places[path], path)) for item in files[path]]


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the server does."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL: the one that RECO3_TEST_POSTGRES_URL names, or a cluster of our own."""
    given = os.environ.get("RECO3_TEST_POSTGRES_URL")
    with contextlib.ExitStack() as stack:
        url = make_url(given) if given else stack.enter_context(own_cluster())
        server = Postgres(url)
        stack.callback(server.close)
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """The address of an empty database of each kind."""
    if request.param == "sqlite":
        put_empty_database(tmp_path / "reco3.db")
        yield URL.create("sqlite", database=str(tmp_path / "reco3.db"))
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.borrow()
    yield url
    server.give_back(url)


@pytest.fixture
async def store(store_url: URL, anyio_backend: str) -> AsyncIterator[Database]:  # noqa: ARG001 - makes anyio run it
    """The real store, open and started, on SQLite and on PostgreSQL."""
    database = Database(store_url)
    database.open()
    database.start()
    yield database
    database.close()
