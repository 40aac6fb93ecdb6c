"""Brings a database to the schema of this code with Alembic, and refuses one that is newer."""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from reco3.server.domain.errors import StartRefused

_FOLDER = Path(__file__).parent / "migrations"


def migrate(engine: Engine) -> None:
    """Apply every migration that the database lacks, all in one transaction.

    Raises:
        StartRefused: the database was made by a newer RECO3.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    with engine.begin() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if current is not None and current not in known:
            raise StartRefused(
                f"The database is at version {current}, which this RECO3 does not know: it was made by a newer one. "
                "Start that newer version, or restore a backup made before the upgrade."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
