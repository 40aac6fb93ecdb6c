"""Opens the database, brings it to the schema of this code, and runs reads and writes.

SQLite: one write connection on the writer's thread, WAL, `synchronous=FULL`; readers never write nor checkpoint,
which avoids the WAL race of SQLite before 3.51.3 (https://sqlite.org/wal.html#walresetbug).
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError

from reco3.server.domain.errors import Busy, StartRefused
from reco3.server.services.neighbours import News
from reco3.server.store.hints import Telling
from reco3.server.store.listening import Listener
from reco3.server.store.migrating import migrate
from reco3.server.store.open_points import OpenPoints
from reco3.server.store.page_cache import LEAST_KIB
from reco3.server.store.transaction import TableTransaction
from reco3.server.store.writer import Writer

READER_THREADS = 4
# One read sees one moment, as on SQLite: points may move from a PC's open window to a closed one between two queries.
_READER_OPTIONS = r"-c default_transaction_read_only=on -c default_transaction_isolation=repeatable\ read"
BUSY_TIMEOUT_S = 10

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

log = logging.getLogger(__name__)


class Database:
    """The store over SQLite or PostgreSQL."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._is_sqlite = url.get_backend_name() == "sqlite"
        self._write_engine = self._engine(is_reader=False)
        self._read_engine = self._engine(is_reader=True)
        self._points = OpenPoints() if self._is_sqlite else None
        self._telling = None if self._is_sqlite else Telling()
        self._listener = None if self._is_sqlite else Listener(url)
        self._writer = Writer(self._write_engine, points=self._points, telling=self._telling)
        self._readers = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="reco3-reader")

    def open(self) -> None:
        """Create the file where needed and migrate to this code's schema.

        Raises:
            StartRefused: not writable, unreachable, or of a newer version than this code.
        """
        try:
            if self._is_sqlite:
                _make_file(Path(str(self._url.database)))
            migrate(self._write_engine)
        except (SQLAlchemyError, OSError) as err:
            cause = str(getattr(err, "orig", None) or err).splitlines()[0]
            raise StartRefused(f"The database {self.name} cannot be opened for writing: {cause}.") from err

    @property
    def name(self) -> str:
        """The database's address without its password."""
        return str(self._url.database) if self._is_sqlite else self._url.render_as_string(hide_password=True)

    def start(self) -> None:
        """Begin to accept writes; call it on the event loop that will await them."""
        if self._points is not None:
            with self._read_engine.connect() as connection:
                self._points.load(connection)
        self._writer.start(asyncio.get_running_loop())

    def listen(self, *, heard: Callable[[News], None], missed: Callable[[], None]) -> None:
        """Hear on the running loop what is written, where other processes write too.

        `missed` is called after each silence of the line, the one before its first word too.
        """
        if self._listener is not None and self._telling is not None:
            read = self._telling.read
            self._listener.start(heard=lambda payload: heard(read(payload)), missed=missed)

    async def write(self, work: Callable[[TableTransaction], ResultT]) -> ResultT:
        """Run one piece of work in a durable transaction, together with what waits beside it."""
        result: ResultT = await self._writer.submit(lambda tx, _: [work(tx)], None)
        return result

    async def write_grouped(
        self, work: Callable[[TableTransaction, Sequence[ItemT]], Sequence[ResultT]], item: ItemT
    ) -> ResultT:
        """Hand one item to work that takes many at once."""
        result: ResultT = await self._writer.submit(work, item)
        return result

    def post_grouped(
        self,
        work: Callable[[TableTransaction, Sequence[ItemT]], Sequence[ResultT]],
        item: ItemT,
        *,
        told: Callable[[ResultT, BaseException | None], None],
    ) -> None:
        """Hand one item, which may wait for others, to work that takes many at once.

        `told` hears on the loop when it is durable or failed.

        Raises:
            Busy: too much waits already, or the server is stopping.
        """
        self._writer.post(work, item, told=told, is_patient=True)

    @property
    def is_busy(self) -> bool:
        """Whether so many writes wait that what can wait should come later."""
        return self._writer.is_busy

    @property
    def is_shared(self) -> bool:
        """Whether other server processes may write to the same database."""
        return not self._is_sqlite

    @property
    def is_leading(self) -> bool:
        """Whether this process does what must be done once for all processes on the database."""
        return self._listener is None or self._listener.is_leading

    async def read(self, query: Callable[[TableTransaction], ResultT]) -> ResultT:
        """Run a query on a connection that cannot write.

        Raises:
            Busy: the database cannot be reached.
        """
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._query, query)

    def close(self) -> None:
        """Write what was accepted and let go of every connection."""
        if self._listener is not None:
            self._listener.close()
        self._writer.close()
        self._readers.shutdown()
        self._read_engine.dispose()
        self._write_engine.dispose()

    def _query(self, query: Callable[[TableTransaction], ResultT]) -> ResultT:
        try:
            with self._read_engine.connect() as connection:
                return query(TableTransaction(connection, points=self._points))
        except (OperationalError, InterfaceError) as err:
            log.warning("read_failed cause=%s", str(err.orig).splitlines()[0])
            raise Busy("The database cannot be read now. Send this again in a moment.", retry_after_s=5) from err

    def _engine(self, *, is_reader: bool) -> Engine:
        if not self._is_sqlite:
            size = READER_THREADS if is_reader else 1
            options = {"options": _READER_OPTIONS} if is_reader else {}
            return create_engine(self._url, pool_size=size, pool_pre_ping=True, connect_args=options)
        # A statement of a hundred rows takes long to prepare, and batches come in a hundred sizes.
        settings: dict[str, Any] = {"timeout": BUSY_TIMEOUT_S, "isolation_level": None, "cached_statements": 512}
        engine = create_engine(
            self._url, pool_size=READER_THREADS if is_reader else 1, max_overflow=0, connect_args=settings
        )
        event.listen(engine, "connect", _prepare_reader if is_reader else _prepare_writer)
        event.listen(engine, "begin", _begin_read if is_reader else _begin_write)
        return engine


def _make_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    with path.open("r+b"):
        pass


def _prepare_writer(connection: sqlite3.Connection, _record: object) -> None:
    # The map saves a copy of each page read. A longer log would be written back less often, in stalls of seconds.
    pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=4000")
    for pragma in (*pragmas, "journal_size_limit=134217728", "mmap_size=1073741824", f"cache_size=-{LEAST_KIB}"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_reader(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in ("query_only=ON", "wal_autocheckpoint=0", "mmap_size=268435456"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_write(connection: Connection) -> None:
    # A deferred BEGIN takes the write lock too late and fails instead of waiting.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_read(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def database_url(*, database_url: str | None, db_path: Path) -> URL:
    """The address of the database that the settings name.

    Raises:
        StartRefused: the URL is not one of SQLAlchemy's or not of PostgreSQL.
    """
    if database_url is None:
        return URL.create("sqlite", database=str(db_path))
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError) as err:
        raise StartRefused(
            "RECO3_DATABASE_URL: expected postgresql://user:password@host/name, got something that is no URL."
        ) from err
    if url.get_backend_name() != "postgresql":
        raise StartRefused(f"RECO3_DATABASE_URL: expected postgresql://…, got {url.get_backend_name()}://….")
    return url.set(drivername="postgresql+psycopg")


def has_wal_race(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether this SQLite can corrupt a WAL that several connections write (one writer avoids it)."""
    return version < (3, 51, 3) and version not in {(3, 50, 7), (3, 44, 6)}
