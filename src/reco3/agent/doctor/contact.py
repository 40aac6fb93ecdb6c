"""Asks the server what can be asked without any effect there: its address, its name, whether it takes the key.

It refuses to wait longer than it was told, to pull, to send a heartbeat, and to show a key to whom is no RECO3 server.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from reco3.agent.config import AgentConfig
from reco3.agent.doctor.troubles import Trouble, trouble_of
from reco3.agent.http_client import BadAnswerError, ContactError, Greeting, HttpClient, RefusedError
from reco3.agent.http_wire import Connection, addresses_of

STEP_S = 5.0
ALL_S = 15.0
HTTP_NOT_FOUND = 404

T = TypeVar("T")


class KeyAnswer(StrEnum):
    """What the server says of this PC's key."""

    GOOD = "good"
    REFUSED = "refused"
    NOT_ASKED = "not_asked"
    OLDER_IN_USE = "older_in_use"
    NO_ROUTE = "no_route"
    NO_ANSWER = "no_answer"


class Stage(StrEnum):
    """How far a connection came."""

    NAME = "name"
    CONNECTION = "connection"
    ANSWER = "answer"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Contact:
    """What came of asking; `trouble` stopped it at `stage`, `words` are the server's own and may be hostile."""

    stage: Stage
    trouble: Trouble | None = None
    words: str = ""
    addresses: tuple[str, ...] = ()
    greeting: Greeting | None = None
    local_time: datetime | None = None
    key: KeyAnswer = KeyAnswer.NOT_ASKED


def ask(config: AgentConfig, *, is_older_key_in_use: bool) -> Contact:
    """Ask step by step, and stop at the first that fails."""
    url, deadline_s = config.base_url, time.monotonic() + ALL_S
    addresses: tuple[str, ...] = ()
    stage = Stage.NAME
    try:
        addresses = tuple(_within(deadline_s, lambda: addresses_of(url.host, url.port)))
        stage = Stage.CONNECTION
        _within(deadline_s, lambda: Connection(url.host, url.port, is_tls=False, timeout_s=STEP_S).close())
        stage = Stage.ANSWER
        greeting = _within(deadline_s, lambda: _asked(HttpClient(url), lambda one: one.greet(timeout_s=STEP_S)))
    except (RefusedError, BadAnswerError) as error:
        return Contact(stage, None, str(error), addresses)
    except (ContactError, OSError) as error:
        return Contact(stage, trouble_of(error), str(error), addresses)
    contact = Contact(Stage.DONE, None, "", addresses, greeting, datetime.now(UTC))
    if not greeting.is_reco3:
        return contact
    key, words = _key(config, deadline_s) if not is_older_key_in_use else (KeyAnswer.OLDER_IN_USE, "")
    return Contact(Stage.DONE, None, words, addresses, greeting, contact.local_time, key)


def _key(config: AgentConfig, deadline_s: float) -> tuple[KeyAnswer, str]:
    client = HttpClient(config.base_url, agent_id=config.agent_id, api_key=config.api_key)
    try:
        is_good = _within(deadline_s, lambda: _asked(client, lambda one: one.is_key_good(timeout_s=STEP_S)))
    except RefusedError as error:
        return (KeyAnswer.NO_ROUTE if error.status == HTTP_NOT_FOUND else KeyAnswer.NO_ANSWER), str(error)
    except (ContactError, OSError) as error:
        return KeyAnswer.NO_ANSWER, str(error)
    return (KeyAnswer.GOOD if is_good else KeyAnswer.REFUSED), ""


def _asked(client: HttpClient, question: Callable[[HttpClient], T]) -> T:
    try:
        return question(client)
    finally:
        client.close()


def _within(deadline_s: float, call: Callable[[], T]) -> T:
    """Wait in another thread: looking a name up knows no time limit, and a server may send a byte a second.

    Raises: TimeoutError, and whatever the call raises.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 - it is raised again where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(0.0, min(STEP_S, deadline_s - time.monotonic())))
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]
