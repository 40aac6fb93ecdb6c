"""People at a real server, for tests that speak HTTP: invited, logged in, with the headers that their browsers send."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from servers import Answer, ServerProcess

API_KEY = "the-operators-key"
BY_KEY = {"X-API-Key": API_KEY}
PASSWORD = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Browser:
    """One browser's session at a server; `host` is the name under which it has the page open."""

    server: ServerProcess
    cookie: str
    host: str = "127.0.0.1"

    @property
    def headers(self) -> dict[str, str]:
        """What the browser sends beside a request of its own page."""
        netloc = f"{self.host}:{self.server.port}"
        return {"Cookie": self.cookie, "Host": netloc, "Origin": f"http://{netloc}"}

    def get(self, path: str) -> Answer:
        """GET from the page."""
        return self.server.get(path, **self.headers)

    def post(self, path: str, body: Any = None) -> Answer:
        """POST from the page."""
        return self.server.post(path, body, **self.headers)

    def send(self, method: str, path: str, body: Any = None) -> Answer:
        """Any other method from the page."""
        return self.server.request(method, path, body=body, headers=self.headers)


def browser_of(answer: Answer, server: ServerProcess, host: str = "127.0.0.1") -> Browser:
    """The browser that got this answer to a log-in."""
    assert answer.status == 200, answer.body
    return Browser(server, answer.headers["set-cookie"].partition(";")[0], host)


def invite(server: ServerProcess, name: str, role: str, *, by: Mapping[str, str] = BY_KEY) -> str:
    """Invite somebody; returns the token in the link."""
    answer = server.post("/api/operators", {"name": name, "role": role}, **by)
    assert answer.status == 200, answer.body
    return str(answer.json["token"])


def join(server: ServerProcess, name: str, role: str, *, password: str | None = PASSWORD) -> Browser:
    """Somebody who was invited by the holder of the API key and came in."""
    accepted = {"token": invite(server, name, role), **({"password": password} if password is not None else {})}
    return browser_of(server.post("/api/invitations/accept", accepted), server)


def log_in(server: ServerProcess, name: str, password: str = PASSWORD, *, host: str = "127.0.0.1") -> Browser:
    """Another browser of somebody who has a password."""
    return browser_of(server.post("/api/session", {"name": name, "password": password}), server, host)


def make_token(browser: Browser, role: str) -> str:
    """An API token of the browser's owner."""
    answer = browser.post("/api/tokens", {"name": "ci", "role": role, "expires_in_days": 1})
    assert answer.status == 200, answer.body
    return str(answer.json["token"])


def let_proofs_grow_old(server: ServerProcess) -> None:
    """Restart the server with sessions whose people proved themselves long ago."""
    server.stop()
    with closing(sqlite3.connect(server.db_path)) as connection, connection:
        connection.execute("UPDATE sessions SET proved_at = '2020-01-01T00:00:00.000Z'")
    server.start()
