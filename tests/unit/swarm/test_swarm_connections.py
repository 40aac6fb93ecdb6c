"""A connection reads the answers that RECO3 gives, and says plainly when it cannot, or when the other side is gone."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from swarm_builders import errand

from builders import cases
from reco3.swarm.connections import Answer, Connection, Errand, Trouble, parse_retry_after_s


class Transport(asyncio.Transport):
    """Takes what is written; closing it is heard at once."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.connection.connection_lost(None)

    def abort(self) -> None:
        self.connection.connection_lost(None)


class Recorder:
    """The owner of a connection, who remembers what he hears."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.troubles: list[Trouble] = []
        self.unanswered: list[Errand | None] = []
        self.watched = 0

    def answered(self, _connection: Connection, _errand: Errand, answer: Answer) -> None:
        self.answers.append(answer)

    def closed(self, _connection: Connection, errand: Errand | None, trouble: Trouble) -> None:
        self.unanswered.append(errand)
        self.troubles.append(trouble)

    def watch(self, _connection: Connection) -> None:
        self.watched += 1


def opened() -> tuple[Connection, Recorder, Transport]:
    owner = Recorder()
    connection = Connection(owner)
    transport = Transport(connection)
    connection.connection_made(transport)
    return connection, owner, transport


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize("case", cases("swarm_answers"), ids=lambda case: case["name"])
def test_an_answer_is_read_as_it_comes(case: dict[str, Any]) -> None:
    connection, owner, transport = opened()
    connection.send(errand())

    for piece in case["pieces"]:
        connection.data_received(piece.encode())

    if "status" in case:
        (answer,) = owner.answers
        assert (answer.status, answer.body.decode()) == (case["status"], case["body"])
        assert answer.retry_after_s() == case.get("retry_after_s")
        assert connection.is_open is not case.get("is_closed", False)
    else:
        transport.close()
        assert owner.answers == []
        assert owner.troubles[0] == case["ends_in"]
        assert owner.unanswered[0] is not None


def test_a_kept_connection_that_closes_at_its_next_use_is_stale() -> None:
    connection, owner, transport = opened()
    connection.send(errand())
    connection.data_received(OK)
    connection.send(errand())

    transport.close()

    assert owner.troubles == [Trouble.STALE]


def test_an_idle_connection_that_closes_leaves_nothing_unanswered() -> None:
    connection, owner, transport = opened()
    connection.send(errand())
    connection.data_received(OK)

    transport.close()

    assert owner.unanswered == [None]


def test_an_answer_that_nobody_asked_for_closes_the_connection() -> None:
    connection, owner, _ = opened()

    connection.data_received(OK)

    assert owner.answers == []
    assert owner.troubles[0] is Trouble.MALFORMED


def test_a_request_that_is_cut_early_was_sent_and_has_no_answer() -> None:
    connection, owner, transport = opened()

    connection.send(errand(is_cut_early=True))

    assert transport.written == [b"?"]
    assert owner.troubles == [Trouble.CUT]


def test_a_request_that_is_cut_late_does_not_hear_its_answer() -> None:
    connection, owner, _ = opened()
    connection.send(errand(is_cut_late=True))

    connection.data_received(OK)

    assert owner.answers == []
    assert owner.troubles == [Trouble.CUT]


def test_an_overdue_answer_is_given_up() -> None:
    connection, owner, _ = opened()
    connection.send(errand(timeout_s=5.0))

    is_watched_before = connection.check_deadline(connection.deadline_at - 0.1)
    is_watched_after = connection.check_deadline(connection.deadline_at)

    assert (is_watched_before, is_watched_after) == (True, False)
    assert owner.troubles == [Trouble.TIMED_OUT]


@pytest.mark.parametrize(
    ("text", "delay_s"),
    [
        (b"120", 120.0),
        (b"tue, 15 jan 2030 12:01:00 gmt", 60.0),
        (b"Tue, 15 Jan 2030 11:00:00 GMT", 0.0),
        (b"soon", None),
        (b"", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: bytes | None, delay_s: float | None) -> None:
    assert parse_retry_after_s(text, datetime(2030, 1, 15, 12, tzinfo=UTC)) == delay_s
