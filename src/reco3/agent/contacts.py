"""Keeps count of how the server is reached, and says so once when it is lost and once when it is back.

It refuses to mistake a refusal for an outage: a server that answers 400 is there.
"""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from reco3.agent.http_client import HTTP_UNAUTHORIZED, Backoff, ContactError, RefusedError, UnreachableError
from reco3.agent.log_file import log_event
from reco3.agent.modes import Modes

UNAUTHORIZED_DELAY_S = 30.0
NEVER_TAKEN_HINT = "agent_id and api_key must be those the server knows; a new PC comes in by reco3 agent enrol"
NO_LONGER_TAKEN_HINT = (
    "this key was good until now: an operator revoked or replaced it, or it was rotated and the agent not restarted; "
    "restart the agent, or ask the operator for a token: reco3 agent enrol CONFIG --server URL --token-file FILE"
)

# Troubles with the server as a whole: any answer to any request shows that they are over.
_GENERAL = (UnreachableError.__name__, str(HTTP_UNAUTHORIZED))

T = TypeVar("T")


def is_failed_contact(error: ContactError) -> bool:
    """Whether this counts towards SAFE: no answer, nonsense, 401, a redirect or 5xx; but not another 4xx."""
    if not isinstance(error, RefusedError) or error.status == HTTP_UNAUTHORIZED:
        return True
    return not 400 <= error.status < 500  # noqa: PLR2004 - HTTP's client errors


def delay_after_s(error: ContactError, backoff: Backoff) -> float:
    """How long to wait before asking again; a wrong key is not mended by asking often."""
    if not isinstance(error, RefusedError):
        return backoff.next_delay_s()
    delay_s = backoff.next_delay_s(error.retry_after_s)
    return max(delay_s, UNAUTHORIZED_DELAY_S) if error.status == HTTP_UNAUTHORIZED else delay_s


class Contact:
    """Passes requests through and counts how they went; shared by both threads."""

    def __init__(self, modes: Modes) -> None:
        self._modes = modes
        self._lock = threading.Lock()
        self._troubles: dict[str, str] = {}
        self._was_taken = False

    def ask(self, what: str, request: Callable[[], T]) -> T:
        """Make a request; `what` names it in the log. Raises: ContactError, as the request did."""
        try:
            answer = request()
        except ContactError as error:
            self._note_trouble(what, error)
            if is_failed_contact(error):
                self._modes.note_failure()
            raise
        self._note_success(what)
        self._modes.note_success()
        return answer

    def _note_trouble(self, what: str, error: ContactError) -> None:
        kind = str(error.status) if isinstance(error, RefusedError) else type(error).__name__
        with self._lock:
            is_news = kind not in self._troubles.values()
            self._troubles[what] = kind
        if not is_news:
            return
        if kind != str(HTTP_UNAUTHORIZED):
            log_event("contact_lost", logging.WARNING, request=what, error=str(error))
        elif self._was_taken:
            log_event("key_refused", logging.ERROR, request=what, error=str(error), hint=NO_LONGER_TAKEN_HINT)
        else:
            log_event("contact_lost", logging.WARNING, request=what, error=str(error), hint=NEVER_TAKEN_HINT)

    def _note_success(self, what: str) -> None:
        with self._lock:
            troubles = {name: kind for name, kind in self._troubles.items() if name != what and kind not in _GENERAL}
            is_news = bool(self._troubles) and not troubles
            self._troubles = troubles
            self._was_taken = True
        if is_news:
            log_event("contact_back", request=what)
