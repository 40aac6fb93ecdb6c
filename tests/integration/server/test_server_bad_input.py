"""Bad input: answered with the field's name, in the one shape of errors, and nothing is stored."""

import contextlib
import json
import select
import socket
import time
from typing import Any

import pytest

from builders import cases, expanded
from servers import Answer, ServerProcess, agent_headers, read_answer

MEBIBYTE = 1024 * 1024
DEEP = b'{"metrics":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
BAD_BODIES = cases("server_bad_bodies")


@pytest.fixture(scope="module", autouse=True)
def pc(server: ServerProcess) -> ServerProcess:
    """The server, once one PC has reported that it watches nginx."""
    heartbeat = {"metrics": {"processes": [{"name": "nginx", "running": True}]}}
    assert server.say("/agent/heartbeat", heartbeat).status == 200
    return server


def sent(server: ServerProcess, path: str, raw: bytes) -> Answer:
    headers = agent_headers() if path.startswith("/agent/") else {"Content-Type": "application/json"}
    return server.request("POST", path, raw=raw, headers=headers)


def assert_refused(answer: Answer, status: int, field: str = "") -> None:
    assert answer.status == status, answer.body
    assert set(answer.json) == {"error", "message"}
    assert answer.json["message"].startswith(field), answer.json
    assert b"Traceback" not in answer.body
    assert b".py" not in answer.body
    assert len(answer.body) < 1_000


@pytest.mark.parametrize("case", BAD_BODIES, ids=[case["name"] for case in BAD_BODIES])
def test_a_bad_body_is_refused_naming_its_field(server: ServerProcess, case: dict[str, Any]) -> None:
    raw = case["raw"].encode() if "raw" in case else json.dumps(expanded(case["body"])).encode()

    answer = sent(server, case["path"], raw)

    assert_refused(answer, case.get("status", 400), case["field"])


ROUTES = ["/agent/heartbeat", "/agent/logs", "/agent/report", "/api/agent-commands", "/api/session", "/api/setup"]
MALFORMED = {
    "nothing": b"",
    "a word": b"hello",
    "half": b'{"metrics": {',
    "two documents": b"{} {}",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "text": b'"text"',
    "not utf-8": b'{"platform": "\xff\xfe"}',
    "utf-16": '{"metrics":{}}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "deep nesting": DEEP,
    "a huge number": b'{"metrics":{"net_bytes_sent":' + b"9" * 10_000 + b"}}",
    "a lone surrogate": b'{"platform":"\\ud800","metrics":{"hostname":"\\udfff\\ud800x"}}',
    "a raw NUL": b'{"metrics":{}}\x00',
    "a raw newline in text": b'{"metrics":{"hostname":"a\nb"}}',
    "single quotes": b"{'metrics': {}}",
    "infinity": b'{"metrics":{"cpu_percent":Infinity}}',
}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("name", list(MALFORMED))
def test_what_is_no_json_object_of_ours_is_refused(server: ServerProcess, path: str, name: str) -> None:
    assert_refused(sent(server, path, MALFORMED[name]), 400)


def test_bad_input_stores_nothing(server: ServerProcess) -> None:
    before = server.get("/api/audit?limit=1").json["events"][0]["id"]

    for path in ROUTES:
        for raw in MALFORMED.values():
            sent(server, path, raw)

    assert server.get("/api/audit?limit=1").json["events"][0]["id"] == before


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/r3/agents?limit=0", "limit"),
        ("/api/r3/agents?limit=501", "limit"),
        ("/api/r3/agents?limit=x", "limit"),
        ("/api/r3/agents?limit=1e3", "limit"),
        ("/api/r3/agents?limit=" + "9" * 5_000, "limit"),
        ("/api/agent-commands?cursor=nonsense", "cursor"),
        ("/api/agent-commands?cursor=%ff", "cursor"),
        ("/api/agent-commands?agent_id=%00", "path"),
        ("/api/incidents?status=lost", "status"),
        ("/api/incidents?cursor=AAAA", "cursor"),
        ("/api/audit?cursor=-1", "cursor"),
        ("/api/audit?actor=a%00b", "path"),
        ("/api/r3/agent/pc-001/logs?cursor=1.5", "cursor"),
        ("/api/r3/agent/pc-001/logs?limit=-1", "limit"),
        ("/api/r3/agent/pc-001/metrics?minutes=0", "minutes"),
        ("/api/r3/agent/pc-001/metrics?minutes=999999", "minutes"),
        ("/api/r3/agent/a%00b/logs", "path"),
    ],
)
def test_a_bad_query_is_refused_naming_its_parameter(server: ServerProcess, path: str, field: str) -> None:
    assert_refused(server.get(path), 400, field)


@pytest.mark.parametrize("wait", ["x", "-1", "1.5", "", "²", "0x10", "1e1"])
def test_a_bad_wait_is_refused(server: ServerProcess, wait: str) -> None:
    quoted = "%C2%B2" if wait == "²" else wait

    assert_refused(server.pull(f"?wait={quoted}"), 400, "wait")


@pytest.mark.parametrize(
    "path", ["/api/r3/agent/pc-404/logs", "/api/r3/agent/%2e%2e/logs", "/api/r3/agent/%C3%BC/logs"]
)
def test_a_pc_that_nobody_heard_of_is_not_found(server: ServerProcess, path: str) -> None:
    answer = server.get(path)

    assert_refused(answer, 404)
    assert answer.json["error"] in ("agent_not_found", "not_found")


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/agent/heartbeat", MEBIBYTE),
        ("/agent/report", MEBIBYTE),
        ("/agent/logs", 4 * MEBIBYTE),
        ("/api/agent-commands", MEBIBYTE),
        ("/api/session", MEBIBYTE),
    ],
)
def test_a_body_may_have_its_cap_and_not_one_byte_more(server: ServerProcess, path: str, limit: int) -> None:
    fitting = sent(server, path, b"{" + b" " * (limit - 1))
    too_large = sent(server, path, b"{" + b" " * limit)

    assert_refused(fitting, 400)
    assert_refused(too_large, 413)
    assert too_large.json["error"] == "too_large"


@pytest.mark.parametrize(("path", "limit"), [("/agent/heartbeat", MEBIBYTE), ("/agent/logs", 4 * MEBIBYTE)])
def test_a_body_without_a_declared_length_is_capped_too(server: ServerProcess, path: str, limit: int) -> None:
    with contextlib.closing(server.connection()) as connection:
        connection.request("POST", path, body=iter([b"{" + b" " * limit]), headers=agent_headers(), encode_chunked=True)

        assert_refused(read_answer(connection), 413)


def test_an_endless_body_is_refused_long_before_its_end(server: ServerProcess) -> None:
    head = (
        "POST /agent/heartbeat HTTP/1.1\r\nHost: localhost\r\nX-AGENT-ID: pc-001\r\nX-API-Key: devkey\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as stream:
        stream.sendall(head.encode())
        for _ in range(100 * 16):
            if select.select([stream], [], [], 0.002)[0]:
                break
            stream.sendall(chunk)

        assert stream.recv(12) == b"HTTP/1.1 413"


def test_a_strangers_large_body_is_refused_before_it_is_read(server: ServerProcess) -> None:
    with contextlib.closing(server.connection()) as connection:
        connection.putrequest("POST", "/agent/heartbeat")
        connection.putheader("Content-Length", str(100 * MEBIBYTE))
        connection.endheaders()

        assert read_answer(connection).status == 413


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /agent/logs HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /agent/logs HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /agent/logs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Many: 1\r\n" * 10_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Endless: " + b"a" * 1_000_000,
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /" + b"a" * 1_000_000,
    ],
)
def test_broken_or_endless_http_is_refused_and_the_server_goes_on(server: ServerProcess, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as stream:
        answered = b""
        with contextlib.suppress(ConnectionError):
            stream.sendall(head)
            answered = stream.recv(100)

    assert answered == b"" or answered.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))
    assert server.get("/health").status == 200


def test_the_largest_head_that_is_taken_is_generous(server: ServerProcess) -> None:
    assert server.get("/health", **{"X-Long": "a" * 60_000}).status == 200


def test_an_offer_to_speak_another_protocol_is_declined(server: ServerProcess) -> None:
    websocket = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "x",
        "Sec-WebSocket-Version": "13",
    }

    assert server.get("/health", **websocket).json == {"status": "ok"}
    assert server.get("/agent/pull", **websocket).status == 401


@pytest.mark.slow
def test_headers_that_do_not_arrive_in_ten_seconds_close_the_connection(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as stream:
        begun = time.monotonic()
        stream.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")

        assert stream.recv(1_000) == b""
        assert 8 < time.monotonic() - begun < 13
