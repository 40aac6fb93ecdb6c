"""The line on which other server processes are heard: one connection of its own that does nothing but listen.

One of the processes leads: it alone does what must be done once, such as announcing who is silent. The lead is a lock
of that connection, so it ends with the connection, however the process ends
(https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS).
It refuses to pretend that nothing was said while the line was down: whoever listens is told that it was.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg
from sqlalchemy.engine import URL

from reco3.server.store.hints import CHANNEL

LOOK_UP_EVERY_S = 0.5
# A number of our own that nobody else on this database should lock: "reco3" as ASCII.
LEAD = 0x7265636F33
CALL_AGAIN_AFTER_S = 2.0
# A line that broke without a word is noticed within half a minute, instead of the system's two hours.
_LINE = {
    "application_name": "reco3-listener",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}

Heard = Callable[[str], None]
Missed = Callable[[], None]

log = logging.getLogger(__name__)


class Listener:
    """Listens on a thread of its own and tells the event loop.

    `is_leading` says whether this process leads; who has not begun to listen has no neighbours, and does.
    """

    def __init__(self, url: URL) -> None:
        plain = url.set(drivername="postgresql").update_query_dict(_LINE)
        self._address = plain.render_as_string(hide_password=False)
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_down = False
        self.is_leading = True

    def start(self, *, heard: Heard, missed: Missed) -> None:
        """Call `heard` with each notification and `missed` after each silence, on the running loop."""
        loop = asyncio.get_running_loop()
        self.is_leading = False
        self._thread = threading.Thread(
            target=self._run, args=(loop, heard, missed), name="reco3-listener", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._is_closing.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop, heard: Heard, missed: Missed) -> None:
        while not self._is_closing.is_set():
            try:
                with psycopg.connect(self._address, autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._note_up()
                    _tell(loop, missed)
                    while not self._is_closing.is_set():
                        self.is_leading = self.is_leading or _takes_the_lead(connection)
                        for note in connection.notifies(timeout=LOOK_UP_EVERY_S):
                            _tell(loop, heard, note.payload)
            except psycopg.Error as err:
                self.is_leading = False
                self._note_down(err)
                self._is_closing.wait(CALL_AGAIN_AFTER_S)

    def _note_down(self, err: psycopg.Error) -> None:
        if not self._is_down:
            self._is_down = True
            log.warning("neighbours_not_heard cause=%s", (str(err).splitlines() or [type(err).__name__])[0])

    def _note_up(self) -> None:
        if self._is_down:
            self._is_down = False
            log.warning("neighbours_heard_again")


def _takes_the_lead(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LEAD,)).fetchone()
    return row is not None and row[0] is True


def _tell(loop: asyncio.AbstractEventLoop, told: Callable[..., None], *words: str) -> None:
    # A loop that was closed meanwhile needs to know nothing more.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(told, *words)
