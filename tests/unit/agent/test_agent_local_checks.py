import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from reco3.agent.local_checks import HttpUrl, connect, get_status


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names; `/302` points somewhere that nobody may be led to."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        status = int(self.path.strip("/").partition("?")[0] or 200)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/200")
        self.send_header("Content-Length", "10")
        self.end_headers()  # The body never comes: nobody may wait for it.

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def web() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def url_of(server: http.server.ThreadingHTTPServer, target: str) -> HttpUrl:
    url = HttpUrl.parse(f"http://127.0.0.1:{server.server_address[1]}{target}")
    assert url is not None
    return url


@pytest.mark.parametrize("status", [200, 204, 404, 500])
def test_the_status_of_an_answer_is_told_without_its_body(web: http.server.ThreadingHTTPServer, status: int) -> None:
    assert get_status(url_of(web, f"/{status}?a=b"), timeout_s=5).status == status


def test_a_redirect_is_a_status_and_is_not_followed(web: http.server.ThreadingHTTPServer) -> None:
    reply = get_status(url_of(web, "/302"), timeout_s=5)

    assert reply.status == 302
    assert web.asked == ["/302"]  # type: ignore[attr-defined]


def test_nobody_at_the_port_is_said_so() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]

    assert get_status(HttpUrl("127.0.0.1", port, is_tls=False, target="/"), timeout_s=2).detail == "Connection refused"
    assert connect(port, timeout_s=2) == "Connection refused"


def test_somebody_who_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = HttpUrl("127.0.0.1", silent.getsockname()[1], is_tls=False, target="/")

        assert get_status(url, timeout_s=0.2).detail == "no answer in time"


def test_somebody_who_speaks_no_http_is_said_so() -> None:
    def greet(server: socket.socket) -> None:
        with server.accept()[0] as sock:
            sock.sendall(b"220 smtp ready\r\n")

    with socket.create_server(("127.0.0.1", 0)) as rude:
        thread = threading.Thread(target=greet, args=(rude,))
        thread.start()
        url = HttpUrl("127.0.0.1", rude.getsockname()[1], is_tls=False, target="/")

        assert get_status(url, timeout_s=2).detail == "not an HTTP answer: it has no status line"
        thread.join()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_counts_on_either_loopback(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        server = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with server:
        assert connect(server.getsockname()[1], timeout_s=2) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://127.0.0.1", "http://127.0.0.1:80/"),
        ("https://web.example.com:8443/health?a=b", "https://web.example.com:8443/health?a=b"),
        ("http://[::1]:81/x", "http://[::1]:81/x"),
    ],
)
def test_an_address_is_read(text: str, shown: str) -> None:
    assert str(HttpUrl.parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://",
        "http://a:b@127.0.0.1/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1/#x",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nHost: x",
        "http://127.0.0.1/\u00e9",
        "http://127.0.0.1/" + "x" * 500,
    ],
)
def test_anything_else_is_no_address(text: str) -> None:
    assert HttpUrl.parse(text) is None
