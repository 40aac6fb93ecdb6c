"""How much of the database the writer keeps in memory: all rows that heartbeats change, however many PCs there are.

A heartbeat rewrites its PC's row. Where the rows do not fit, each one costs a page read and a page thrown out.
It refuses to take more than `MOST_KIB`.
"""

from sqlalchemy import Connection

LEAST_KIB = 32 * 1024
MOST_KIB = 512 * 1024
# A row of 700 bytes on pages that are rarely full, and the parts of the history's trees that are used all the time.
KIB_PER_PC = 2
STEP_KIB = 16 * 1024


class PageCache:
    """The size of SQLite's page cache on the write connection (https://sqlite.org/pragma.html#pragma_cache_size)."""

    def __init__(self) -> None:
        self._kib = LEAST_KIB

    def fit(self, connection: Connection, *, pcs: int) -> None:
        """Make room for the rows of so many PCs; what was given is kept."""
        wanted = min(MOST_KIB, LEAST_KIB + pcs * KIB_PER_PC)
        if wanted >= self._kib + STEP_KIB or (wanted == MOST_KIB and self._kib < MOST_KIB):
            self._kib = wanted
            connection.exec_driver_sql(f"PRAGMA cache_size=-{wanted}")
