"""A small server that answers like the operator API, for tests of the page alone.

It keeps its rows in memory, and a test changes them directly.
It refuses to judge what it is sent: the real server's rules have tests of their own.
"""

import contextlib
import json
import queue
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from e2e import page_access
from e2e.page_access import AccessRows

WEB = Path(__file__).resolve().parents[2] / "src/reco3/server/web"
NOW = datetime(2026, 11, 23, 14, 3, 22, tzinfo=UTC)
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types reco3"
)
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}

Json = dict[str, Any]


def stamp(ago_s: float = 0) -> str:
    """An RFC 3339 time `ago_s` seconds before the server's now."""
    moment = NOW - timedelta(seconds=ago_s)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def agent(agent_id: str = "pc-001", **changes: Any) -> Json:
    """One PC as `GET /api/r3/agents` shows it; `metrics` changes single metrics."""
    metrics = {
        "cpu_percent": 23.4,
        "cpu_count": 8,
        "mem_percent": 61.2,
        "mem_used_mb": 9_900.0,
        "mem_total_mb": 16_200.0,
        "disk_percent": 78.9,
        "disk_used_gb": 371.0,
        "disk_total_gb": 470.0,
        "net_bytes_sent": 4_200_000_000,
        "net_bytes_recv": 91_000_000_000,
        "platform": "linux",
        "hostname": f"host-{agent_id}",
        "mode": "NORMAL",
        "apply_enabled": True,
        "processes": [process("nginx"), process("worker", running=False, pid=None, count=0, pids=[])],
        "interfaces": [{"name": "eth0", "bytes_sent": 4_200_000_000, "bytes_recv": 91_000_000_000}],
        "journal": "epoch-1",
        "veto_s": 0,
    } | changes.pop("metrics", {})
    row = {
        "agent_id": agent_id,
        "status": "ONLINE",
        "last_seen": stamp(3),
        "platform": "linux",
        "version": "0.1.0",
        "mode": metrics["mode"],
        "apply_enabled": metrics["apply_enabled"],
        "recent_error_count": 0,
        "last_error": None,
        "last_error_at": None,
        "org_id": "default",
        "created_at": stamp(86_400),
        "updated_at": stamp(3),
        "metrics": metrics,
    } | changes
    return row | {"payload_json": json.dumps(metrics)}


def process(name: str, **changes: Any) -> Json:
    """One watched process, running."""
    row = {"name": name, "running": True, "pid": 4711, "status": "sleeping", "count": 2, "pids": [4711, 4712]}
    started_ms = int(NOW.timestamp() * 1000) - 3_600_000
    return row | {"restarts": 0, "allow_restart": True, "create_time_ms": started_ms} | changes


def command(command_id: str = "c-1", **changes: Any) -> Json:
    """One command, a restart that waits for approval."""
    row = {
        "id": command_id,
        "agent_id": "pc-001",
        "ts": stamp(12),
        "type": "RESTART_PROCESS",
        "strength": "strong",
        "payload": {"process": "nginx"},
        "status": "pending",
        "result_json": None,
        "result": None,
        "needs_approval": True,
        "approved": False,
        "approval": None,
        "approvals": [],
        "approvals_required": 1,
        "four_eyes": False,
        "rejected_by": None,
        "rejection_reason": None,
        "is_verified_by_pc": None,
        "created_by": "user:admin",
        "delivered_at": None,
        "started_at": None,
        "finished_at": None,
        "reason": None,
        "expires_at": stamp(-888),
        "delivery_count": 0,
        "accepted_at": None,
        "cancel_requested_at": None,
        "expect": None,
        "resolution": None,
    } | changes
    return row | {"payload_json": json.dumps(row["payload"])}


def step(event: str, ago_s: float, actor: str = "user:admin", **detail: Any) -> Json:
    """One entry of a command's timeline."""
    return {"at": stamp(ago_s), "event": event, "actor": actor, "detail": detail}


def report(status: str, ago_s: float, result: Json, verdict: str = "taken") -> Json:
    """One report of a PC about a command."""
    return {"received_at": stamp(ago_s), "status": status, "result": result, "verdict": verdict}


def orphan(report_id: int = 1, **changes: Any) -> Json:
    """A report about a command that the server does not know."""
    row = {"id": report_id, "agent_id": "pc-001", "command_id": "gone-1", "received_at": stamp(90)}
    return row | {"status": "completed", "result": {"success": True, "output": "restarted"}} | changes


def log_line(line_id: int, **changes: Any) -> Json:
    """One error line."""
    row = {
        "id": line_id,
        "agent_id": "pc-001",
        "ts": stamp(line_id * 7),
        "level": "ERROR",
        "code": "E_UPSTREAM",
        "msg": f"line {line_id}: upstream timed out",
        "meta_json": "{}",
    } | changes
    return row | {"created_at": row["ts"]}


def incident(incident_id: int = 1, **changes: Any) -> Json:
    """One open incident."""
    row = {
        "id": incident_id,
        "ts_open": stamp(600),
        "ts_close": None,
        "severity": "ERROR",
        "title": "Agent pc-001: E_UPSTREAM",
        "summary": "upstream timed out",
        "status": "open",
    }
    return row | {"agent_id": "pc-001", "code": "E_UPSTREAM", "count": 3, "last_seen_at": stamp(30)} | changes


def samples(*, step_s: int = 10, count: int = 90, gap: range = range(0)) -> list[Json]:
    """The last 15 minutes of one PC, oldest first, with the samples in `gap` missing."""
    return [
        {
            "ts": stamp((count - 1 - index) * step_s),
            "cpu_percent": 20 + 15 * ((index * 7) % 11) / 10,
            "mem_percent": 55 + index / 15,
            "disk_percent": 78.9,
            "net_bytes_sent": 1_000_000 + index * 40_000 * (1 + index % 3),
            "net_bytes_recv": 9_000_000 + index * index * 9_000,
        }
        for index in range(count)
        if index not in gap
    ]


def history(*, step_s: int = 300, count: int = 288, gap: range = range(0)) -> list[Json]:
    """A longer stretch of one PC in steps, oldest first, with the steps in `gap` missing."""
    return [
        {
            "ts": stamp((count - index) * step_s),
            "count": step_s // 10,
            "expected": step_s // 10,
            "cpu_percent": {"mean": 20 + (index * 7) % 31, "min": 5, "max": 60 + index % 40},
            "mem_percent": {"mean": 50 + index / 15, "min": 48 + index / 15, "max": 53 + index / 15},
            "disk_percent": {"mean": 78.9, "min": 78.9, "max": 79.0},
            "sent_bytes_per_s": {"mean": 4_000 * (1 + index % 9), "max": 90_000},
            "recv_bytes_per_s": {"mean": 9_000 * (1 + index % 17), "max": 400_000},
            "restarts": 0,
        }
        for index in range(count)
        if index not in gap
    ]


@dataclass
class PageServer:
    """The rows, the switches, and what was asked of it."""

    agents: list[Json] = field(default_factory=list)
    commands: list[Json] = field(default_factory=list)
    incidents: list[Json] = field(default_factory=list)
    logs: list[Json] = field(default_factory=list)
    samples: list[Json] = field(default_factory=list)
    history: list[Json] = field(default_factory=list)
    history_step_s: int = 300
    timelines: dict[str, list[Json]] = field(default_factory=dict)
    reports: dict[str, list[Json]] = field(default_factory=dict)
    orphans: list[Json] = field(default_factory=list)
    test_mode: bool = True
    locked: bool = False
    operator: Json | None = field(default_factory=lambda: {"name": "admin", "role": "admin", "how": "test-mode"})
    api_key: str = "right-key"
    setup_token: str = "one-time"
    has_stream: bool = True
    is_locked_out: bool = False
    ahead_s: float = 0
    access: AccessRows = field(default_factory=AccessRows)
    requests: list[tuple[str, str, Json]] = field(default_factory=list)
    _streams: list[queue.Queue[str | None]] = field(default_factory=list)
    _http: "_Server | None" = None

    @property
    def url(self) -> str:
        """Where the server listens."""
        assert self._http is not None
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self, port: int = 0) -> None:
        """Listen on loopback."""
        owner = self

        class Handler(_Handler):
            server_rows = owner

        self._http = _Server(("127.0.0.1", port), Handler)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Hang up on everybody and listen no more."""
        self.cut_streams()
        if self._http:
            self._http.shutdown()
            self._http.server_close()
            self._http.hang_up()

    def tell(self, *topics: str, agent_ids: tuple[str, ...] = ()) -> None:
        """Say on every live stream that something changed."""
        change = json.dumps({"topics": topics, "agent_ids": agent_ids})
        for stream in list(self._streams):
            stream.put(f"event: changed\ndata: {change}\n\n")

    def cut_streams(self) -> None:
        """End every live stream."""
        for stream in list(self._streams):
            stream.put(None)

    def asked(self, method: str, path: str) -> list[Json]:
        """The bodies of all requests so far to this path."""
        return [body for one, where, body in list(self.requests) if (one, where.split("?")[0]) == (method, path)]

    def open_stream(self) -> queue.Queue[str | None]:
        stream: queue.Queue[str | None] = queue.Queue()
        stream.put(f"event: hello\ndata: {json.dumps({'now': stamp()})}\n\n")
        self._streams.append(stream)
        return stream

    def close_stream(self, stream: queue.Queue[str | None]) -> None:
        self._streams.remove(stream)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: list[socket.socket] = []
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember who called, so that `hang_up` reaches connections that are kept alive."""
        self._connections.append(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is no news."""


def _page_of(rows: list[Json], query: dict[str, list[str]]) -> tuple[list[Json], str | None]:
    limit = int(query.get("limit", ["50"])[0])
    start = int(query.get("cursor", ["0"])[0])
    end = start + limit
    return rows[start:end], str(end) if end < len(rows) else None


class _Handler(BaseHTTPRequestHandler):
    server_rows: PageServer
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; the second must not wait for the acknowledgement of the first.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Tests read what was asked, not what was printed."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server_rows.requests.append(("GET", self.path, {}))
        if path.startswith(("/api/", "/agent/", "/health")):
            self._answer_api("GET", path, {})
        else:
            self._answer_file(path)

    def do_POST(self) -> None:
        self._answer_mutation("POST")

    def do_DELETE(self) -> None:
        self._answer_mutation("DELETE")

    def do_PUT(self) -> None:
        self._answer_mutation("PUT")

    def do_PATCH(self) -> None:
        self._answer_mutation("PATCH")

    def stamp(self) -> str:
        """The server's now."""
        return stamp()

    def _answer_mutation(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        self.server_rows.requests.append((method, self.path, body))
        self._answer_api(method, urlsplit(self.path).path, body)

    def _answer_file(self, path: str) -> None:
        files = {"/r3": "templates/reco3.html", "/sw.js": "static/sw.js"}
        files["/manifest.webmanifest"] = "static/manifest.webmanifest"
        file = WEB / files.get(path, path.lstrip("/"))
        if not (file.is_file() and file.is_relative_to(WEB)):
            self._send(404, b'{"error":"not_found","message":"no such file"}', "application/json")
            return
        extra = {"Service-Worker-Allowed": "/"} if path == "/sw.js" else {}
        self._send(200, file.read_bytes(), CONTENT_TYPES[file.suffix], extra)

    def _answer_api(self, method: str, path: str, body: Json) -> None:
        for pattern, route in _routes.items():
            match = re.fullmatch(pattern, f"{method} {path}")
            if match:
                route(self, [unquote(part) for part in match.groups()], body)
                return
        self._json(404, {"error": "not_found", "message": f"no route {method} {path}"})

    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)

    def _json(self, status: int, content: Json, extra: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), "application/json", extra)

    def _send(self, status: int, content: bytes, content_type: str, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Type": content_type, "Content-Length": str(len(content)), "Cache-Control": "no-cache"}
        for name, value in (headers | {"Content-Security-Policy": CSP} | (extra or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def config(self, _parts: list[str], _body: Json) -> None:
        rows = self.server_rows
        content = {"test_mode": rows.test_mode, "require_approval": True, "version": "0.1.0", "locked": rows.locked}
        self._json(200, content)

    def session(self, _parts: list[str], _body: Json) -> None:
        if self.is_known():
            self._json(200, self.server_rows.operator or {})

    def is_known(self) -> bool:
        if self.headers.get("X-API-Key") == self.server_rows.api_key:
            return True
        if self.server_rows.operator is None:
            self._json(401, {"error": "unauthorized", "message": "log in first"})
        return self.server_rows.operator is not None

    def log_in(self, _parts: list[str], body: Json) -> None:
        rows = self.server_rows
        if rows.is_locked_out:
            self._json(429, {"error": "too_many_attempts", "message": "wait"}, {"Retry-After": "90"})
        elif body.get("password") == "right-password":
            rows.operator = {"name": body["name"], "role": "approver", "how": "session"}
            self._json(200, rows.operator)
        elif body.get("api_key") != rows.api_key:
            self._json(401, {"error": "unauthorized", "message": "wrong key"})
        else:
            rows.operator = {"name": "admin", "role": "admin", "how": "session"}
            self._json(200, rows.operator)

    def log_out(self, _parts: list[str], _body: Json) -> None:
        self.server_rows.operator = None
        self._json(200, {"status": "ok"})

    def set_up(self, _parts: list[str], body: Json) -> None:
        rows = self.server_rows
        if body.get("token") != rows.setup_token:
            self._json(403, {"error": "setup_refused", "message": "This set-up link was used already."})
            return
        rows.operator = {"name": "admin", "role": "admin", "how": "session"}
        self._json(200, {"name": "admin", "api_key": "r3_new-administrator-key"})

    def agents(self, _parts: list[str], _body: Json) -> None:
        if not self.is_known():
            return
        rows = self.server_rows.agents
        page, cursor = _page_of(rows, self.query())
        online = sum(row["status"] == "ONLINE" for row in rows)
        totals = {"count": len(rows), "online": online, "offline": len(rows) - online}
        self._json(200, {"agents": page, "next_cursor": cursor, "now": stamp()} | totals)

    def metrics(self, _parts: list[str], _body: Json) -> None:
        if not self.is_known():
            return
        query = self.query()
        if "points" in query:
            rows, step_s = self.server_rows.history, self.server_rows.history_step_s
            stretch = {"agent_id": "pc-001", "from": query["from"][0], "to": query["to"][0], "resolution_s": step_s}
            self._json(200, stretch | {"points": rows, "count": len(rows), "now": stamp()})
            return
        rows = self.server_rows.samples
        self._json(200, {"samples": rows, "count": len(rows), "now": stamp()})

    def log_lines(self, parts: list[str], _body: Json) -> None:
        self._list("logs", [row for row in self.server_rows.logs if row["agent_id"] == parts[0]])

    def command_list(self, _parts: list[str], _body: Json) -> None:
        query = self.query()
        statuses = query.get("status", [""])[0].split(",")
        agent_id = query.get("agent_id", [""])[0]
        rows = [row for row in self.server_rows.commands if statuses == [""] or row["status"] in statuses]
        self._list("commands", [row for row in rows if agent_id in ("", row["agent_id"])])

    def command_detail(self, parts: list[str], _body: Json) -> None:
        if not self.is_known():
            return
        rows = self.server_rows
        if (row := self._command(parts[0])) is not None:
            facts = {"timeline": rows.timelines.get(row["id"], []), "reports": rows.reports.get(row["id"], [])}
            self._json(200, row | facts | {"comments": rows.access.comments.get(row["id"], [])})

    def _command(self, command_id: str) -> Json | None:
        row = next((row for row in self.server_rows.commands if row["id"] == command_id), None)
        if row is None:
            self._json(404, {"error": "command_not_found", "message": "There is no command of that id."})
        return row

    def cancel(self, parts: list[str], _body: Json) -> None:
        if (row := self._command(parts[0])) is None:
            return
        if row["status"] == "pending":
            row.update(status="cancelled", finished_at=stamp())
            self._json(200, {"status": "cancelled"})
        elif row["status"] == "delivered":
            row.update(cancel_requested_at=stamp())
            self._json(200, {"status": "cancel_requested"})
        else:
            self._json(409, {"error": "not_cancellable", "message": "The PC has begun already."})

    def resolve(self, parts: list[str], body: Json) -> None:
        if (row := self._command(parts[0])) is None:
            return
        if row["status"] != "unknown":
            self._json(409, {"error": "not_unknown", "message": "This command is not unknown."})
            return
        who = {"resolved_by": "user:admin", "resolved_at": stamp()}
        row.update(status="completed" if body["outcome"] == "ran" else "failed", resolution=body | who)
        self._json(200, {"status": row["status"]})

    def orphan_reports(self, _parts: list[str], _body: Json) -> None:
        self._list("orphan_reports", self.server_rows.orphans)

    def open_incidents(self, _parts: list[str], _body: Json) -> None:
        self._list("incidents", [row for row in self.server_rows.incidents if row["status"] == "open"])

    def _list(self, name: str, rows: list[Json]) -> None:
        if not self.is_known():
            return
        page, cursor = _page_of(rows, self.query())
        now = stamp(-self.server_rows.ahead_s)
        self._json(200, {name: page, "count": len(page), "next_cursor": cursor, "now": now})

    def create_command(self, _parts: list[str], body: Json) -> None:
        rows = self.server_rows
        if body["payload"].get("endpoint") == "bad":
            message = "payload.endpoint: expected a path such as /api"
            self._json(400, {"error": "bad_payload", "message": message})
            return
        is_strong = body["type"] in {"RESTART_PROCESS", "STOP_PROCESS", "ROLLBACK"}
        facts = {"strength": "strong" if is_strong else "safe", "needs_approval": is_strong, "ts": stamp()}
        command_id = f"new-{len(rows.commands)}"
        rows.commands.insert(0, command(command_id, **body, **facts))
        self._json(200, {"id": command_id, "status": "created"})

    def close_incident(self, parts: list[str], _body: Json) -> None:
        for row in self.server_rows.incidents:
            if str(row["id"]) == parts[0]:
                row["status"] = "closed"
        self._json(200, {"status": "closed"})

    def live(self, _parts: list[str], _body: Json) -> None:
        if not self.server_rows.has_stream:
            self._json(503, {"error": "unavailable", "message": "no stream now"})
            return
        if not self.is_known():
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        stream = self.server_rows.open_stream()
        try:
            while (text := stream.get()) is not None:
                self.wfile.write(text.encode())
                self.wfile.flush()
        finally:
            self.server_rows.close_stream(stream)
            self.connection.shutdown(socket.SHUT_RDWR)


_routes: dict[str, Callable[[_Handler, list[str], Json], None]] = {
    "GET /api/config/test-mode": _Handler.config,
    "GET /api/session": _Handler.session,
    "POST /api/session": _Handler.log_in,
    "DELETE /api/session": _Handler.log_out,
    "POST /api/setup": _Handler.set_up,
    "GET /api/r3/agents": _Handler.agents,
    "GET /api/r3/agent/([^/]+)/metrics": _Handler.metrics,
    "GET /api/r3/agent/([^/]+)/logs": _Handler.log_lines,
    "GET /api/agent-commands": _Handler.command_list,
    "POST /api/agent-commands": _Handler.create_command,
    "GET /api/agent-commands/([^/]+)": _Handler.command_detail,
    "POST /api/agent-commands/([^/]+)/cancel": _Handler.cancel,
    "POST /api/agent-commands/([^/]+)/resolve": _Handler.resolve,
    "GET /api/orphan-reports": _Handler.orphan_reports,
    "GET /api/incidents": _Handler.open_incidents,
    "POST /api/incidents/([^/]+)/close": _Handler.close_incident,
    "GET /api/live": _Handler.live,
    **page_access.routes,
}
