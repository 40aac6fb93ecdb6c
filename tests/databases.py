"""Empty SQLite databases: migrated once for all tests of a process, then copied.

What a first start does is tested where it is meant; everywhere else it would be most of the time that a test takes.
"""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy.engine import URL

from reco3.server.store.database import Database


def put_empty_database(path: Path) -> None:
    """Put a database with this code's schema and no row where a server will look for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_empty_database())
    path.chmod(0o600)


@cache
def _empty_database() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="reco3-empty-"))
    try:
        database = Database(URL.create("sqlite", database=str(folder / "reco3.db")))
        database.open()
        database.close()
        assert [path.name for path in folder.iterdir()] == ["reco3.db"], "the log was not written back"
        return (folder / "reco3.db").read_bytes()
    finally:
        shutil.rmtree(folder)
