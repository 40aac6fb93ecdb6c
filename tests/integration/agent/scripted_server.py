"""A real HTTP server that records what an agent sends and answers what a test tells it to."""

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    wait_s: int | None
    headers: dict[str, str]
    body: Any
    client_port: int
    at: float
    journal: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)


def answer(status: int = 200, body: Any = None, **headers: str) -> Answer:
    content = json.dumps({"status": "ok"} if body is None else body).encode()
    return Answer(status, content, {name.replace("_", "-"): value for name, value in headers.items()})


# The connection is closed after the request was read: the answer was lost on its way.
LOST = Answer(0, b"")

Rule = Callable[[Request], Answer | None]


class ScriptedServer:
    """Speaks the agent protocol; a rule for a path may answer in its place. Can go down and come up on its port."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.rules: dict[str, Rule] = {}
        self.holds_pulls = True
        self._held_pulls = 0
        self.cancels: list[str] = []
        self._orders: list[dict[str, Any]] = []
        self._changed = threading.Condition()  # Re-entrant: a look may ask what was sent.
        self._listener: _Listener | None = None
        self.port = 0
        self.come_up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def come_up(self) -> None:
        self._listener = _Listener(self, self.port)
        self.port = self._listener.server_address[1]
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def go_down(self) -> None:
        """Refuse connections and cut off those there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown()
            listener.server_close()
            listener.cut_off()
        with self._changed:
            self._changed.notify_all()

    def deliver(self, *orders: dict[str, Any]) -> None:
        with self._changed:
            self._orders += orders
            self._changed.notify_all()

    def is_idle(self) -> bool:
        """Whether an agent waits for orders and has taken all that there were."""
        with self._changed:
            return self._held_pulls > 0 and not self._orders

    def sent(self, path: str) -> list[Request]:
        with self._changed:
            return [request for request in self.requests if request.path == path]

    def wait_for(self, path: str, is_it: Callable[[Request], bool] = lambda _: True, *, after: int = 0) -> Request:
        """The first matching request, not counting the first `after` requests of all."""
        return self.wait_until(
            lambda: next(
                (request for request in self.requests[after:] if request.path == path and is_it(request)), None
            )
        )

    def wait_for_report(self, command_id: str, status: str | None = None, *, after: int = 0) -> dict[str, Any]:
        def is_it(request: Request) -> bool:
            body = request.body
            is_final = body["status"] != "running" if status is None else body["status"] == status
            return bool(body["command_id"] == command_id and is_final)

        report: dict[str, Any] = self.wait_for("/agent/report", is_it, after=after).body
        return report

    def wait_until(self, look: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
        """Look at every request that comes, and at files every now and then, until there is something to see."""
        deadline = time.monotonic() + deadline_s
        with self._changed:
            while not (seen := look()):
                assert time.monotonic() < deadline, f"not seen in {deadline_s} s; {self._seen()}"
                self._changed.wait(0.05)
            return seen

    def respond(self, request: Request, *, is_there: Callable[[], bool]) -> Answer:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        rule = self.rules.get(request.path) or self.rules.get("*")
        return (rule and rule(request)) or self._default(request, is_there)

    def _default(self, request: Request, is_there: Callable[[], bool]) -> Answer:
        if request.path == "/agent/pull":
            orders = self._take_orders(request.wait_s or 0, is_there)
            return answer(body={"commands": orders, "cancels": list(self.cancels)})
        if request.path == "/agent/logs":
            body = request.body
            return answer(body={"status": "ok", "acked_seq": body["first_seq"] + len(body["logs"]) - 1})
        return answer()

    def _take_orders(self, wait_s: int, is_there: Callable[[], bool]) -> list[dict[str, Any]]:
        listener = self._listener
        with self._changed:
            if self.holds_pulls:
                self._held_pulls += 1
                self._changed.wait_for(lambda: self._orders or self._listener is not listener, wait_s)
                self._held_pulls -= 1
            if not is_there():
                return []  # It was killed while it waited: the orders are for its next run.
            orders, self._orders = self._orders, []
            return orders

    def _seen(self) -> str:
        return "; ".join(f"{request.path} {json.dumps(request.body)[:200]}" for request in self.requests[-8:])


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, script: ScriptedServer, port: int) -> None:
        self.script = script
        self._sockets: list[socket.socket] = []
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._sockets.append(request)
        super().process_request(request, client_address)

    def cut_off(self) -> None:
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An agent that is killed or stopped breaks its connection; that is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _is_client_there(self) -> bool:
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Nothing: the requests are recorded."""

    def _serve(self, body: Any) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        wait, journal = query.get("wait"), query.get("journal")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(
            self.command,
            parts.path,
            int(wait[0]) if wait else None,
            headers,
            body,
            self.client_address[1],
            time.monotonic(),
            journal[0] if journal else None,
        )
        reply = self.server.script.respond(request, is_there=self._is_client_there)
        if reply is LOST:
            self.close_connection = True
            return
        self.send_response_only(reply.status)
        usual = {"Date": self.date_time_string(), "Content-Length": str(len(reply.content))}
        for name, value in (usual | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.content)
