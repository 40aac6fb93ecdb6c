"""Brings a database to the schema of this code with Alembic, and refuses one that is newer.

Alembic is loaded only when there is something to do: a start that finds all in order needs none of its 8 MB.
"""

import logging
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from reco3.server.domain.errors import StartRefused
from reco3.server.store.tables import SCHEMA_REVISION

_FOLDER = Path(__file__).parent / "migrations"
_REVISIONS_TABLE = "alembic_version"


def migrate(engine: Engine) -> None:
    """Apply every migration that the database lacks, all in one transaction.

    Raises:
        StartRefused: the database was made by a newer RECO3.
    """
    with engine.begin() as connection:
        current = _revision_of(connection)
        if current != SCHEMA_REVISION:
            _upgrade(connection, current)


def _revision_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_REVISIONS_TABLE):
        return None
    revision: str | None = connection.execute(text(f"SELECT version_num FROM {_REVISIONS_TABLE}")).scalar()  # noqa: S608 - a constant name
    return revision


def _upgrade(connection: Connection, current: str | None) -> None:
    # Before it is loaded, for it says something even then.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command  # noqa: PLC0415 - see the top
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise StartRefused(
            f"The database is at version {current}, which this RECO3 does not know: it was made by a newer one. "
            "Start that newer version, or restore a backup made before the upgrade."
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
