import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reco3.agent.http_wire import Connection, Head, HungUpError, NotHttpError, TooLargeError, parse_date

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "data" / "http_answers.json").read_text("utf-8"))
ERRORS: dict[str, type[Exception]] = {
    "NotHttpError": NotHttpError,
    "TooLargeError": TooLargeError,
    "HungUpError": HungUpError,
}


@contextmanager
def answering(*answers: Callable[[socket.socket], None]) -> Iterator[Connection]:
    """A connection to somebody who reads a request's head and body, gives an answer, and in the end hangs up."""
    requests: list[bytes] = []

    def serve() -> None:
        with listener.accept()[0] as sock:
            for answer in answers:
                requests.append(sock.recv(65_536))
                answer(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        connection = Connection("127.0.0.1", listener.getsockname()[1], is_tls=False, timeout_s=5)
        try:
            yield connection
        finally:
            connection.close()
            thread.join(5)


def saying(text: str) -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(text.encode("latin-1"))


def ask(connection: Connection, *, max_bytes: int = 100, timeout_s: float = 5) -> tuple[Head, bytes]:
    connection.send("GET", "/", headers={}, body=None, timeout_s=timeout_s)
    head = connection.read_head()
    return head, connection.read_body(head, max_bytes=max_bytes)


@pytest.mark.parametrize("case", [case for case in CASES if "error" not in case], ids=lambda case: case["name"])
def test_an_answer_is_read_to_its_end(case: dict[str, Any]) -> None:
    with answering(saying(case["answer"])) as connection:
        head, content = ask(connection)

        assert (head.status, content.decode()) == (case["status"], case["content"])
        assert connection.is_reusable is case["is_reusable"]
        assert {name: head.headers.get(name) for name in case.get("headers", {})} == case.get("headers", {})


@pytest.mark.parametrize("case", [case for case in CASES if "error" in case], ids=lambda case: case["name"])
def test_what_is_no_plain_answer_is_refused(case: dict[str, Any]) -> None:
    with answering(saying(case["answer"])) as connection:
        with pytest.raises(ERRORS[case["error"]]):
            ask(connection)

        assert not connection.is_reusable


def test_an_answer_that_comes_byte_by_byte_is_the_same_answer() -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nA: b\r\n\r\n"

    def drip(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(whole)):
            sock.send(whole[place : place + 1])

    with answering(drip) as connection:
        assert ask(connection)[1] == b"abcde"
        assert connection.is_reusable


def test_one_connection_serves_one_exchange_after_the_other() -> None:
    with answering(*[saying(f"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}") for n in range(3)]) as connection:
        assert [ask(connection)[1] for _ in range(3)] == [b"0", b"1", b"2"]


def test_the_deadline_is_for_the_whole_answer_and_not_for_each_part_of_it() -> None:
    done = threading.Event()

    def drip(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while not done.wait(0.05):
            sock.sendall(b"A: b\r\n")

    with answering(drip) as connection:
        began_at = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(connection, timeout_s=0.3)
        done.set()

    assert time.monotonic() - began_at >= 0.3


def test_a_head_without_an_end_is_not_read_for_ever() -> None:
    with answering(saying("HTTP/1.1 200 OK\r\n" + "X: " + "x" * 70_000)) as connection, pytest.raises(NotHttpError):
        ask(connection)


def test_a_request_names_the_host_and_the_length_of_its_body() -> None:
    seen: list[bytes] = []

    def serve() -> None:
        with listener.accept()[0] as sock:
            seen.append(sock.recv(65_536))
            sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve)
        thread.start()
        connection = Connection("127.0.0.1", port, is_tls=False, timeout_s=5)
        connection.send("POST", "/a?b=c", headers={"X-API-Key": "k"}, body=b"{}", timeout_s=5)
        connection.read_head()
        connection.close()
        thread.join(5)

    lines = f"POST /a?b=c HTTP/1.1|Host: 127.0.0.1:{port}|X-API-Key: k|Content-Length: 2||{{}}"
    assert seen == [lines.replace("|", "\r\n").encode()]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "\0"])
def test_a_header_cannot_bring_another_one_along(value: str) -> None:
    with answering() as connection, pytest.raises(ValueError, match="unprintable"):
        connection.send("GET", "/", headers={"X-API-Key": value}, body=None, timeout_s=5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Sun, 31 Feb 2021 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_a_date_is_read(text: str | None, expected: datetime | None) -> None:
    assert parse_date(text) == expected
