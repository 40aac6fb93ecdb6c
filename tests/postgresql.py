"""A throw-away PostgreSQL for tests: a cluster of our own, or the server that somebody names.

It listens on a Unix socket in its own folder and nowhere else, and is gone when the tests are over.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import URL

from reco3.server.store.database import Database
from reco3.server.store.tables import metadata

NEEDED = "PostgreSQL is needed: install it (apt-get install postgresql) or set RECO3_TEST_POSTGRES_URL"
QUICK_SETTINGS = (
    "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c listen_addresses= -c max_connections=100"
)


class Postgres:
    """A PostgreSQL server that hands out empty databases of our schema, and uses them again: making one is slow."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._made: list[URL] = []
        self._idle: list[URL] = []

    def borrow(self) -> URL:
        """An empty database, migrated."""
        return self._idle.pop() if self._idle else self.new_database()

    def give_back(self, url: URL) -> None:
        """Take a database back that still has our schema, and empty it."""
        tables = reversed(metadata.sorted_tables)
        self._run(url, "; ".join(f"DELETE FROM {table.name}" for table in tables))
        self._idle.append(url)

    def new_database(self, *, is_migrated: bool = True) -> URL:
        """A database of the caller's own that nobody will use after him."""
        name = f"reco3_test_{uuid.uuid4().hex}"
        self._run(self._url, f'CREATE DATABASE "{name}"')
        url = self._url.set(database=name, drivername="postgresql+psycopg")
        self._made.append(url)
        if is_migrated:
            database = Database(url)
            database.open()
            database.close()
        return url

    def close(self) -> None:
        """Forget every database, even one that somebody is still connected to."""
        for url in self._made:
            self.drop(url)

    def drop(self, url: URL) -> None:
        """Forget one database, if it is still there."""
        self._run(self._url, f'DROP DATABASE IF EXISTS "{url.database}" WITH (FORCE)')

    def cut_connections(self, url: URL) -> None:
        """End everybody's connections to a database, as a restart would."""
        ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        self._run(self._url, f"{ending} WHERE datname = '{url.database}'")

    def _run(self, url: URL, statement: str) -> None:
        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextlib.contextmanager
def own_cluster() -> Iterator[URL]:
    """A PostgreSQL cluster in a temporary folder; without any PostgreSQL a laptop skips and CI fails."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    found = programs[-1] if programs else shutil.which("pg_ctl")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(NEEDED)
        pytest.skip(NEEDED)
    folder = Path(tempfile.mkdtemp(prefix="reco3-pg-"))
    try:
        yield from _running_cluster(Path(found).parent, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _running_cluster(programs: Path, folder: Path) -> Iterator[URL]:
    as_user = _give_away(folder)
    state = str(folder / "state")
    pg_ctl = [*as_user, str(programs / "pg_ctl"), "-D", state, "-s", "-w"]
    _run([*as_user, str(programs / "initdb"), "-D", state, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"])
    _run([*pg_ctl, "-l", str(folder / "log"), "-o", f"{QUICK_SETTINGS} -k {folder}", "start"])
    try:
        yield URL.create("postgresql", username="postgres", database="postgres", query={"host": str(folder)})
    finally:
        _run([*pg_ctl, "-m", "immediate", "stop"])


def _give_away(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root: root hands the folder to another user and speaks through runuser."""
    if os.geteuid() != 0:
        return []
    import pwd  # noqa: PLC0415 - not on Windows, where this file is imported too

    users = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in users else "nobody"
    shutil.chown(folder, user)
    return ["runuser", "-u", user, "--"]


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{argv} failed:\n{done.stdout}{done.stderr}"
