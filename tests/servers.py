"""The real server as a process, for tests that speak HTTP to it.

It starts `python app.py` on a free loopback port with its own instance folder, and stops what it started.
The folder holds an empty database already; a test of a first start says so.
"""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from databases import put_empty_database

ROOT = Path(__file__).parents[1]
STARTED = b"Application startup complete"
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 15.0
ANSWER_DEADLINE_S = 30.0
AGENT_KEYS = {"pc-001": "devkey", "pc-002": "otherkey"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)


def free_port() -> int:
    """A loopback port that nobody uses, below those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret: other tests choose at the same time
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def agent_headers(agent_id: str = "pc-001", key: str | None = None) -> dict[str, str]:
    """The two headers that an agent proves itself with."""
    return {"X-AGENT-ID": agent_id, "X-API-Key": key if key is not None else AGENT_KEYS.get(agent_id, "")}


class ServerProcess:
    """A server of its own: `start`, talk to `base_url`, then `stop` or `kill`.

    Its environment is made from `PATH` and what the test gives, so that no variable of the developer leaks in.
    """

    is_first_start = False

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.db_path = folder / "instance" / "reco3.db"
        self.port = free_port()
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "RECO3_DB_PATH": str(self.db_path),
            "RECO3_AGENT_KEYS": json.dumps(AGENT_KEYS),
            "PORT": str(self.port),
            "PYTHONWARNINGS": "error",
            **environment,
        }
        self.argv = [sys.executable, str(ROOT / "app.py")]
        self._log_path = folder / "server.log"
        self._log_before = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """Where the server answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def spawned(self) -> subprocess.Popen[bytes]:
        """The server's process."""
        assert self._process is not None, "the server was not started"
        return self._process

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.spawned.pid

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting for it to answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.is_first_start or self.db_path.exists()):
            put_empty_database(self.db_path)
        with self._log_path.open("ab") as log:
            self._log_before = log.tell()
            self._process = subprocess.Popen(
                self.argv,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self._process

    def start(self) -> Self:
        """Start the server and wait until it answers `/health`."""
        process = self.spawn()
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline and process.poll() is None:
            if self._is_up():
                return self
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"the server did not come up:\n{self.log_text()}")

    def _is_up(self) -> bool:
        # Its own log says so first: another test's server might answer on a port that this one could not get.
        if STARTED not in self._log_path.read_bytes()[self._log_before :]:
            return False
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", "/health").status == http.client.OK
        return False

    def stop(self) -> None:
        """Ask the server to stop, and demand that it did so cleanly."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        assert code == 0, f"exit code {code}:\n{self.log_text()}"
        assert "Traceback" not in self.log_text(), self.log_text()

    def kill(self) -> None:
        """End the server as a power cut would, if it runs."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()

    def log_text(self) -> str:
        """Everything that the server has printed."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def connection(self) -> http.client.HTTPConnection:
        """A fresh connection, for tests that keep it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_DEADLINE_S)

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        raw: bytes | None = None,
    ) -> Answer:
        """Send one request, with the path exactly as given; `body` is sent as JSON, `raw` as it is."""
        sent = dict(headers or {})
        if raw is None and body is not None:
            raw = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        with contextlib.closing(self.connection()) as connection:
            connection.request(method, path, body=raw, headers=sent)
            return read_answer(connection)

    def get(self, path: str, **headers: str) -> Answer:
        """GET as an operator."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        """POST JSON as an operator."""
        return self.request("POST", path, body=body, headers=headers)

    def say(self, path: str, body: Any, *, agent_id: str = "pc-001") -> Answer:
        """POST JSON as an agent."""
        return self.request("POST", path, body=body, headers=agent_headers(agent_id))

    def pull(self, query: str = "", *, agent_id: str = "pc-001") -> Answer:
        """Ask for commands as an agent."""
        return self.request("GET", f"/agent/pull{query}", headers=agent_headers(agent_id))


def read_answer(connection: http.client.HTTPConnection) -> Answer:
    """The answer to what was sent on a connection."""
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


@contextlib.contextmanager
def held_pull(
    server: ServerProcess, agent_id: str, key: str, *, path: str = "/agent/pull?wait=20&journal=j"
) -> Iterator[http.client.HTTPConnection]:
    """A pull that the server holds open by now."""
    with contextlib.closing(server.connection()) as connection:
        connection.request("GET", path, headers=agent_headers(agent_id, key))
        for _ in range(2):  # Two requests later, what came before them has been taken up.
            server.get("/health")
        yield connection
