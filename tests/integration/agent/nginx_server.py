"""A real nginx from the distribution, run as a process of our own from a folder of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

NEEDED = "nginx is needed: install it (apt-get install nginx-light), its own service need not run"
STARTED_WITHIN_S = 10.0
LONGEST_GAP_S = 0.1

CONF = """\
daemon on;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/limits/http.conf;
    server {{
        listen 127.0.0.1:{port};
        include {folder}/limits/server.conf;
        location / {{ return 204; }}
        location /old {{ rewrite ^/old(.*)$ /api$1 last; }}
        location /api {{ try_files $uri @answer; }}
        location @answer {{ return 204; }}
    }}
}}
"""


class Nginx:
    """One nginx on a free loopback port, with empty files of limits included."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            if os.environ.get("CI"):
                pytest.fail(NEEDED)
            pytest.skip(NEEDED)
        self.folder = folder
        self.limits_path = folder / "limits" / "http.conf"
        self.server_path = folder / "limits" / "server.conf"
        self.pid_path = folder / "nginx.pid"
        self.port = _free_port()
        self.argv = (program, "-p", str(folder), "-c", str(folder / "nginx.conf"))
        folder.joinpath("limits").mkdir()
        self.limits_path.touch()
        self.server_path.touch()
        self.configure(CONF)
        folder.chmod(0o755)

    def configure(self, conf: str) -> None:
        (self.folder / "nginx.conf").write_text(conf.format(folder=self.folder, port=self.port), encoding="utf-8")

    def start(self) -> None:
        subprocess.run(self.argv, check=True, timeout=20, capture_output=True)
        deadline = time.monotonic() + STARTED_WITHIN_S
        while self.status("/") is None:
            assert time.monotonic() < deadline, self.errors()

    def stop(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            pid = self.master()
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + STARTED_WITHIN_S
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                threading.Event().wait(0.02)

    def master(self) -> int:
        return int(self.pid_path.read_text(encoding="ascii"))

    def errors(self) -> str:
        path = self.folder / "error.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def status(self, target: str) -> int | None:
        """The status of one GET on a connection of its own, None when nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
                sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                return _status(sock.recv(200))
        except OSError:
            return None


class Load:
    """What became of a steady stream of requests."""

    def __init__(self) -> None:
        self.sent = 0
        self.accepted = 0
        self.seconds = 0.0
        self.longest_gap_s = 0.0

    @property
    def accepted_rps(self) -> float:
        return self.accepted / self.seconds

    @property
    def sent_rps(self) -> float:
        return self.sent / self.seconds


def put_steady_load(nginx: Nginx, target: str, *, rps: float, seconds: float) -> Load:
    """Measure again, twice at most, when this machine had no time to send for longer than the limit forgives."""
    for _ in range(2):
        load = put_load(nginx, target, rps=rps, seconds=seconds)
        if load.longest_gap_s < LONGEST_GAP_S:
            return load
    return put_load(nginx, target, rps=rps, seconds=seconds)


def put_load(nginx: Nginx, target: str, *, rps: float, seconds: float) -> Load:
    """Send requests at an even rate over one kept-alive connection, from a thread, and count the answers."""
    load = Load()
    thread = threading.Thread(target=_send, args=(nginx, target, rps, seconds, load))
    thread.start()
    thread.join()
    return load


def _send(nginx: Nginx, target: str, rps: float, seconds: float, load: Load) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    pause = threading.Event()
    began_at = last_at = time.monotonic()
    sock = _connected(nginx)
    while (now := time.monotonic()) - began_at < seconds:
        load.longest_gap_s, last_at = max(load.longest_gap_s, now - last_at), now
        due_in_s = began_at + load.sent / rps - now
        if due_in_s > 0:
            pause.wait(due_in_s)
        if load.sent % 500 == 499:  # nginx closes a connection after 1000 requests.
            sock.close()
            sock = _connected(nginx)
        sock.sendall(request)
        load.sent += 1
        load.accepted += _read_answer(sock) == 204
    load.seconds = time.monotonic() - began_at
    sock.close()


def _connected(nginx: Nginx) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", nginx.port), timeout=5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _read_answer(sock: socket.socket) -> int | None:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(4096)
    head, _, body = answer.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    missing = (lengths[0] if lengths else 0) - len(body)
    while missing > 0:
        missing -= len(sock.recv(4096))
    return _status(head)


def _status(head: bytes) -> int | None:
    words = head.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
