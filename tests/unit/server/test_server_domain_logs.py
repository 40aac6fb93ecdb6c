"""Log lines: levels, times and texts become storable; numbering is checked."""

from datetime import UTC, datetime

import pytest

from builders import PC, entry, taken_batch
from fakes import START
from reco3.protocol.limits import MAX_LOG_MESSAGE_CHARS
from reco3.server.domain.errors import BadInput
from reco3.server.domain.logs import MAX_SEQ, check_batch, line_of, unseen_entries

NUMBERED = {"stream": "app.log", "epoch": "1"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("ERROR", "ERROR"),
        (" error\n", "ERROR"),
        ("warning", "WARN"),
        ("Warn", "WARN"),
        ("FATAL", "CRITICAL"),
        ("emerg", "CRITICAL"),
        ("crit", "CRITICAL"),
        ("alert", "CRITICAL"),
        ("err", "ERROR"),
        ("notice", "INFO"),
        ("DEBUG", "INFO"),
        ("info", "INFO"),
        ("", "ERROR"),
        ("<b>", "ERROR"),
        ("\0", "ERROR"),
    ],
)
def test_every_word_for_a_level_becomes_one_of_ours(sent: str, kept: str) -> None:
    assert line_of(PC, entry(level=sent), START).level == kept


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2030-01-15T11:59:58Z", datetime(2030, 1, 15, 11, 59, 58, tzinfo=UTC)),
        ("2030-01-15T12:59:58+01:00", datetime(2030, 1, 15, 11, 59, 58, tzinfo=UTC)),
        ("2030-01-15 11:59:58", datetime(2030, 1, 15, 11, 59, 58, tzinfo=UTC)),
        ("2030-01-15T11:59:58.123456Z", datetime(2030, 1, 15, 11, 59, 58, 123456, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_utc(sent: str, kept: datetime) -> None:
    assert line_of(PC, entry(ts=sent), START).ts == kept


@pytest.mark.parametrize("sent", ["yesterday", "1767225600", "2030-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_does_not_parse_is_kept_beside_the_line(sent: str) -> None:
    line = line_of(PC, entry(ts=sent), START)

    assert line.ts == START
    assert line.meta == {"ts_sent": sent}


def test_a_line_without_a_time_gets_the_time_of_its_arrival() -> None:
    line = line_of(PC, entry(ts=""), START)

    assert (line.ts, line.created_at, line.meta) == (START, START, {})


def test_a_line_that_is_too_long_is_cut_and_says_so() -> None:
    line = line_of(PC, entry("x" * (MAX_LOG_MESSAGE_CHARS + 5), meta={"file": "a"}), START)

    assert len(line.msg) == MAX_LOG_MESSAGE_CHARS
    assert line.meta == {"file": "a", "chars_cut": 5}


def test_nul_becomes_its_picture_in_message_and_code() -> None:
    line = line_of(PC, entry("a\0b", code="c\0d"), START)

    assert (line.msg, line.code) == ("a\u2400b", "c\u2400d")


def test_a_code_is_cut_and_an_empty_one_is_none() -> None:
    assert line_of(PC, entry(code=""), START).code is None
    assert len(line_of(PC, entry(code="x" * 999), START).code or "") == 128


@pytest.mark.parametrize(
    ("numbering", "field"),
    [
        ({"stream": "a"}, "first_seq"),
        ({"first_seq": 1}, "first_seq"),
        ({"epoch": "1", "first_seq": 1}, "first_seq"),
        ({**NUMBERED, "first_seq": 0}, "first_seq"),
        ({**NUMBERED, "first_seq": -1}, "first_seq"),
        ({**NUMBERED, "first_seq": MAX_SEQ + 1}, "first_seq"),
        ({**NUMBERED, "stream": "", "first_seq": 1}, "stream"),
        ({**NUMBERED, "stream": "x" * 65, "first_seq": 1}, "stream"),
        ({**NUMBERED, "stream": "a\0", "first_seq": 1}, "stream"),
        ({**NUMBERED, "epoch": "x" * 65, "first_seq": 1}, "epoch"),
    ],
)
def test_numbering_is_complete_and_in_bounds_or_refused(numbering: dict[str, object], field: str) -> None:
    with pytest.raises(BadInput) as refusal:
        check_batch(taken_batch(entry(), **numbering).batch)

    assert refusal.value.field == field


@pytest.mark.parametrize(("count", "is_taken"), [(0, True), (500, True), (501, False)])
def test_a_batch_holds_at_most_five_hundred_lines(count: int, is_taken: bool) -> None:
    batch = taken_batch(*[entry()] * count).batch

    if is_taken:
        check_batch(batch)
    else:
        with pytest.raises(BadInput, match="logs: expected at most 500 entries, got 501"):
            check_batch(batch)


@pytest.mark.parametrize(
    ("first_seq", "acked_seq", "unseen"),
    [
        (1, 0, ["a", "b", "c"]),
        (1, 2, ["c"]),
        (1, 3, []),
        (1, 99, []),
        (3, 2, ["a", "b", "c"]),
        (50, 2, ["a", "b", "c"]),
    ],
)
def test_entries_that_were_seen_are_skipped(first_seq: int, acked_seq: int, unseen: list[str]) -> None:
    batch = taken_batch(entry("a"), entry("b"), entry("c"), **NUMBERED, first_seq=first_seq).batch

    assert [found.msg for found in unseen_entries(batch, acked_seq)] == unseen


def test_an_older_agents_entries_are_all_new() -> None:
    batch = taken_batch(entry("a"), entry("b")).batch

    assert unseen_entries(batch, 99) == batch.logs
