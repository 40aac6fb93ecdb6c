"""How values look on the wire: times and places in a list."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest

from fakes import START
from reco3.server.domain.errors import BadInput
from reco3.server.web.shapes import cursor_text, parse_cursor, parse_row_cursor, time_text


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (START, "2030-01-15T12:00:00.000Z"),
        (datetime(2030, 1, 1, 0, 0, 0, 1999, tzinfo=UTC), "2030-01-01T00:00:00.001Z"),
        (datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2029-12-31T22:00:00.000Z"),
    ],
)
def test_a_time_is_utc_with_milliseconds_and_a_z(moment: datetime, text: str) -> None:
    assert time_text(moment) == text


def test_a_cursor_comes_back_as_the_place_it_was_made_from() -> None:
    assert parse_cursor(cursor_text(START, "id-1")) == (START, "id-1")
    assert parse_cursor(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ä",
        "!!!!",
        encoded("no time"),
        encoded("2030-01-15T12:00:00.000Z"),
        encoded("2030-01-15T12:00:00 id-1"),
        encoded("0001-01-01T00:00:00.000+14:00 id-1"),
        encoded("2030-01-15T12:00:00.000Z a\0b"),
        cursor_text(START, "id-1") + "!",
        base64.urlsafe_b64encode(b"\xff\xfe \xff").decode(),
    ],
)
def test_a_cursor_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="cursor: expected the next_cursor"):
        parse_cursor(text)


@pytest.mark.parametrize(("text", "number"), [(None, None), ("0", 0), ("17", 17), ("9" * 18, 10**18 - 1)])
def test_a_row_number_is_taken_as_a_cursor(text: str | None, number: int | None) -> None:
    assert parse_row_cursor(text) == number


@pytest.mark.parametrize("text", ["", "-1", "1.0", "x", "²", "9" * 19])
def test_a_row_cursor_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_row_cursor(text)
