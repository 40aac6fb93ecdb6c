"""The express lane's reader: it reads what agents send, and nothing that a full parser could see differently."""

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reco3.server.web.express_requests import ExpressRequest, read_request

HEADERS = "host: reco3\r\nX-AGENT-ID: pc-001\r\nX-API-Key: devkey\r\n"


def heartbeat(*, headers: str = HEADERS, body: str = "{}", length: str | None = None, line: str | None = None) -> bytes:
    first = line or "POST /agent/heartbeat HTTP/1.1"
    return f"{first}\r\n{headers}content-length: {length or len(body)}\r\n\r\n{body}".encode()


def pull(query: str = "?wait=25", *, headers: str = HEADERS) -> bytes:
    return f"GET /agent/pull{query} HTTP/1.1\r\n{headers}\r\n".encode()


def test_a_heartbeat_is_read() -> None:
    request = read_request(heartbeat(body='{"metrics":{}}'))

    assert request == ExpressRequest("pc-001", "devkey", is_last=False, body=b'{"metrics":{}}')


def test_log_lines_are_read_whoever_wrote_the_head() -> None:
    line = "POST /agent/logs HTTP/1.1"
    own_head = "Host: reco3\r\nX-AGENT-ID: pc-001\r\nX-API-Key: devkey\r\nContent-Length: 11\r\n\r\n"
    read = ExpressRequest("pc-001", "devkey", is_last=False, body=b'{"logs":[]}', has_logs=True)

    assert read_request(heartbeat(line=line, body='{"logs":[]}')) == read
    assert read_request(f'{line}\r\n{own_head}{{"logs":[]}}'.encode()) == read


def test_a_pull_is_read_with_its_wait_and_journal() -> None:
    request = read_request(pull("?wait=25&journal=abc-1"))

    assert request == ExpressRequest("pc-001", "devkey", is_last=False, wait_s=25, journal="abc-1")


def test_a_pull_waits_no_longer_than_the_protocol_allows() -> None:
    request = read_request(pull("?wait=99"))

    assert request is not None
    assert request.wait_s == 30


def test_a_client_that_closes_is_told_apart() -> None:
    request = read_request(heartbeat(headers=HEADERS + "Connection: close\r\n"))

    assert request is not None
    assert request.is_last


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"POST /agent/heartbeat HTTP/1.1\r\n",
        heartbeat()[:-1],
        heartbeat() + b"x",
        heartbeat() + heartbeat(),
        heartbeat(length="02"),
        heartbeat(length="+2"),
        heartbeat(length="2, 2"),
        heartbeat(headers=HEADERS + "content-length: 2\r\n"),
        heartbeat(headers=HEADERS + "Transfer-Encoding: chunked\r\n"),
        heartbeat(headers=HEADERS + "Expect: 100-continue\r\n"),
        heartbeat(headers=HEADERS + "Upgrade: websocket\r\n"),
        heartbeat(headers=HEADERS + "Content-Encoding: gzip\r\n"),
        heartbeat(headers=HEADERS + "X-Agent-Id: pc-002\r\n"),
        heartbeat(headers=HEADERS + " folded\r\n"),
        heartbeat(headers=HEADERS + "name : value\r\n"),
        heartbeat(headers=HEADERS + "name: a\nb\r\n"),
        heartbeat(headers=HEADERS + "Connection: upgrade\r\n"),
        heartbeat(headers="X-AGENT-ID: pc-001\r\nX-API-Key: devkey\r\n"),
        heartbeat(line="POST /agent/heartbeat HTTP/1.0"),
        heartbeat(line="POST /agent/heartbeat/ HTTP/1.1"),
        heartbeat(line="POST /agent/logs?a=b HTTP/1.1"),
        heartbeat(line="POST /agent/log HTTP/1.1"),
        heartbeat(line="PUT /agent/heartbeat HTTP/1.1"),
        heartbeat(line="POST  /agent/heartbeat HTTP/1.1"),
        pull(""),
        pull("?wait=0"),
        pull("?wait=-1"),
        pull("?wait=25&wait=1"),
        pull("?journal=a&wait=25"),
        pull("?wait=25&journal=%00"),
        pull() + b"{}",
        pull(headers=HEADERS + "Content-Length: 2\r\n") + b"{}",
    ],
)
def test_whatever_is_not_beyond_doubt_goes_the_ordinary_way(data: bytes) -> None:
    assert read_request(data) is None


class Parsed:
    """What llhttp, behind the ordinary way, makes of the same bytes."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.url = b""
        self.messages = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1


_pieces = st.sampled_from(
    [
        "POST /agent/heartbeat HTTP/1.1\r\n",
        "POST /agent/logs HTTP/1.1\r\n",
        "Host: h\r\nX-AGENT-ID: pc-001\r\nX-API-Key: k\r\n",
        "Content-Length: 2\r\n\r\n",
        "GET /agent/pull?wait=25 HTTP/1.1\r\n",
        "host: h\r\n",
        "x-agent-id: pc-001\r\n",
        "x-api-key: k\r\n",
        "X-Api-Key:k \r\n",
        "content-length: 2\r\n",
        "Content-Length:2\r\n",
        "transfer-encoding: chunked\r\n",
        "connection: close\r\n",
        "connection: keep-alive\r\n",
        "x: \t y\r\n",
        "\r\n",
        "\n",
        "{}",
        "2\r\n{}\r\n0\r\n\r\n",
        "\0",
        " ",
    ]
)


@settings(max_examples=2_000)
@given(st.lists(_pieces, max_size=12).map("".join))
def test_whatever_is_read_is_what_a_full_parser_reads(text: str) -> None:
    data = text.encode()
    request = read_request(data)
    if request is None:
        return

    parsed = Parsed()
    httptools.HttpRequestParser(parsed).feed_data(data)

    headers = dict(parsed.headers)
    assert parsed.messages == 1
    assert parsed.body == (request.body or b"")
    assert headers.get(b"x-agent-id", b"").decode() == request.agent_id
    assert headers.get(b"x-api-key", b"").decode() == request.key
    posted = b"/agent/logs" if request.has_logs else b"/agent/heartbeat"
    assert parsed.url.startswith(posted if request.body is not None else b"/agent/pull?wait=25")
