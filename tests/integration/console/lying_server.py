"""A server that answers as it is told and remembers what was asked, for what an approver must survive."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]


@dataclass
class LyingServer:
    """`answers` by method and path; what is not there is a 404 as RECO3 says it."""

    answers: dict[tuple[str, str], tuple[int, Json]] = field(default_factory=dict)
    requests: list[tuple[str, str, Json]] = field(default_factory=list)
    _http: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        assert self._http is not None
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        owner = self

        class Handler(_Handler):
            rows = owner

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, path: str, body: Json, status: int = 200) -> None:
        self.answers[method, path] = (status, body)

    def posted(self, path: str) -> list[Json]:
        """The bodies of all POSTs to this path so far."""
        return [body for method, where, body in self.requests if (method, where) == ("POST", path)]

    def posts(self) -> list[str]:
        return [path for method, path, _ in self.requests if method == "POST"]


class _Handler(BaseHTTPRequestHandler):
    rows: LyingServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Tests read what was asked, not what was printed."""

    def do_GET(self) -> None:
        self._answer("GET", {})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self._answer("POST", json.loads(self.rfile.read(length) or b"{}"))

    def _answer(self, method: str, body: Json) -> None:
        path = urlsplit(self.path).path
        self.rows.requests.append((method, path, body))
        missing = (404, {"error": "not_found", "message": "There is no such page."})
        status, answer = self.rows.answers.get((method, path), missing)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
