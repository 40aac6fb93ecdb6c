import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from scripted_server import Answer, ScriptedServer, answer

from reco3.agent import http_wire
from reco3.agent.http_client import (
    MAX_ANSWER_BYTES,
    BadAnswerError,
    BaseUrl,
    HttpClient,
    RefusedError,
    UnreachableError,
)
from reco3.protocol.messages import CommandReport, Heartbeat, Metrics

HEARTBEAT = Heartbeat(Metrics(mode="NORMAL"))


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[HttpClient]:
    client = HttpClient(BaseUrl("127.0.0.1", server.port, is_tls=False), agent_id="pc-001", api_key="k")
    yield client
    client.close()


def test_a_redirect_is_refused_and_not_followed(server: ScriptedServer, client: HttpClient) -> None:
    server.rules["/agent/heartbeat"] = lambda _: answer(307, Location=f"{server.url}/elsewhere")

    with pytest.raises(RefusedError) as caught:
        client.heartbeat(HEARTBEAT)

    assert caught.value.status == 307
    assert server.sent("/elsewhere") == []


def test_a_refusal_carries_the_servers_words_and_delay(server: ScriptedServer, client: HttpClient) -> None:
    server.rules["*"] = lambda _: answer(429, {"error": "slow_down", "message": "too many"}, Retry_After="7")

    with pytest.raises(RefusedError) as caught:
        client.heartbeat(HEARTBEAT)

    error = caught.value
    assert (error.status, error.code, error.message, error.retry_after_s) == (429, "slow_down", "too many", 7)


@pytest.mark.parametrize("value", ["-1", "soon", "1e9", "9" * 30, ""])
def test_a_delay_that_makes_no_sense_is_ignored(server: ScriptedServer, client: HttpClient, value: str) -> None:
    server.rules["*"] = lambda _: answer(503, Retry_After=value)

    with pytest.raises(RefusedError) as caught:
        client.heartbeat(HEARTBEAT)

    assert caught.value.retry_after_s is None


def test_an_answer_larger_than_allowed_is_not_read_to_its_end(server: ScriptedServer, client: HttpClient) -> None:
    server.rules["*"] = lambda _: Answer(200, b'{"a": "' + b"x" * MAX_ANSWER_BYTES + b'"}')

    with pytest.raises(BadAnswerError, match="at most"):
        client.heartbeat(HEARTBEAT)


def test_a_stale_connection_is_replaced_and_the_request_repeated_once(
    server: ScriptedServer, client: HttpClient
) -> None:
    client.heartbeat(HEARTBEAT)
    server.go_down()
    server.come_up()

    client.heartbeat(HEARTBEAT)

    assert len({request.client_port for request in server.sent("/agent/heartbeat")}) == 2


def test_a_server_that_is_away_is_unreachable(server: ScriptedServer, client: HttpClient) -> None:
    server.go_down()

    with pytest.raises(UnreachableError, match="refused"):
        client.heartbeat(HEARTBEAT)


def test_a_server_that_does_not_answer_in_time_is_unreachable(server: ScriptedServer, client: HttpClient) -> None:
    release = threading.Event()
    server.rules["*"] = lambda _: answer() if release.wait(5) else None

    with pytest.raises(UnreachableError, match="in time"):
        client.report(CommandReport("c-1", "running"), timeout_s=0.2)

    release.set()
    assert len(server.sent("/agent/report")) == 1


def test_an_interruption_breaks_off_a_held_pull_and_lets_a_last_report_through(
    server: ScriptedServer, client: HttpClient
) -> None:
    ended: list[Exception] = []

    def pull() -> None:
        try:
            client.pull(wait_s=25)
        except UnreachableError as error:
            ended.append(error)

    thread = threading.Thread(target=pull)
    thread.start()
    server.wait_for("/agent/pull")

    client.interrupt()
    thread.join(5)
    client.report(CommandReport("c-1", "completed"))

    assert len(ended) == 1
    assert len(server.sent("/agent/pull")) == 1
    assert len(server.sent("/agent/report")) == 1


def test_head_and_body_leave_in_one_write(
    server: ScriptedServer, client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []

    class Recorded(socket.socket):
        def sendall(self, data: bytes, *flags: int) -> None:  # type: ignore[override]
            if threading.current_thread() is threading.main_thread():
                writes.append(data)
            super().sendall(data, *flags)

    monkeypatch.setattr(socket, "socket", Recorded)

    client.heartbeat(HEARTBEAT)

    assert len(server.sent("/agent/heartbeat")) == len(writes) == 1
    assert writes[0].startswith(b"POST /agent/heartbeat HTTP/1.1\r\n")
    assert writes[0].endswith(
        b'{"metrics":{"mode":"NORMAL","processes":[],"interfaces":[]},"platform":"","version":""}'
    )


class _Ok(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nothing."""


class _TlsServer(HTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust us hangs up; that is what the test is about."""


@pytest.fixture
def tls_files(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *subject],
        check=True,
        capture_output=True,
    )
    return tmp_path


@pytest.fixture
def tls_port(tls_files: Path) -> Iterator[int]:
    listener = _TlsServer(("127.0.0.1", 0), _Ok)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls_files / "cert.pem", tls_files / "key.pem")
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
    yield listener.server_address[1]
    listener.shutdown()
    listener.server_close()


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tls_port: int) -> None:
    client = HttpClient(BaseUrl("localhost", tls_port, is_tls=True), agent_id="pc-001", api_key="k")

    with pytest.raises(UnreachableError, match=r"(?i)certificate verify failed"):
        client.heartbeat(HEARTBEAT)


def test_a_certificate_that_the_machine_trusts_is_accepted(
    tls_port: int, tls_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_files / "cert.pem"))
    http_wire.tls_context.cache_clear()
    client = HttpClient(BaseUrl("localhost", tls_port, is_tls=True), agent_id="pc-001", api_key="k")

    client.heartbeat(HEARTBEAT)

    client.close()
    http_wire.tls_context.cache_clear()
