import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reco3.agent import log_lines
from reco3.agent.log_lines import MAX_LINE_BYTES, extract_entry
from reco3.protocol.limits import MAX_LOG_CODE_CHARS, MAX_LOG_MESSAGE_CHARS

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "data" / "log_lines.json").read_text("utf-8"))
NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _local_time_is_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "EST5EDT,M3.2.0,M11.1.0")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _line_of(case: dict[str, Any]) -> bytes:
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    text: str = case["line"] + case.get("repeat", "") * case.get("times", 0)
    return text.encode()


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_line_is_kept_exactly_when_its_own_level_says_so(case: dict[str, Any]) -> None:
    entry = extract_entry(_line_of(case), now=NOW)

    assert (entry.level if entry else None) == case["level"]


@pytest.mark.parametrize("field", ["ts", "code", "msg"])
def test_what_is_kept_of_a_line_is_what_the_line_says(field: str) -> None:
    told = [case for case in CASES if field in case]

    found = {case["name"]: getattr(extract_entry(_line_of(case), now=NOW), field) for case in told}

    assert found == {case["name"]: case[field] for case in told}


@pytest.mark.parametrize("case", [case for case in CASES if "repeat" in case], ids=lambda case: case["name"])
def test_no_line_takes_long(case: dict[str, Any]) -> None:
    line = _line_of(case)[:MAX_LINE_BYTES]

    began_s = time.process_time()
    extract_entry(line, now=NOW)
    took_s = time.process_time() - began_s

    assert took_s < 1


@given(
    st.binary(max_size=300), st.sampled_from([b"ERROR ", b"{", b'{"level":"error",', b"E0502 10:00:00.1 ", b"2026-"])
)
def test_whatever_the_bytes_are_an_entry_is_printable_and_within_bounds(content: bytes, start: bytes) -> None:
    entry = extract_entry(start + content, now=NOW)

    if entry is not None:
        assert len(entry.msg) <= MAX_LOG_MESSAGE_CHARS
        assert entry.code is None or 0 < len(entry.code) <= MAX_LOG_CODE_CHARS
        assert entry.msg.encode().decode() == entry.msg
        assert all(character == "\t" or ord(character) >= 0x20 for character in entry.msg)
        assert entry.ts.endswith("Z")
        assert datetime.fromisoformat(entry.ts).tzinfo is not None


def test_the_table_holds_both_kinds_of_lines() -> None:
    kept = [case for case in CASES if case["level"] is not None]

    assert len(CASES) >= 40
    assert 20 <= len(kept) <= len(CASES) - 20


TIMES = (
    *("2026-11-23T10:00:00Z", "2026-11-23 10:00:00,123", "2026-13-23 10:00:00", "2026-11-23T10:00:00.123456789+02:00"),
    *("2026/11/23 10:00:00 UTC", "2026-11-23 10:00:00 +0530", "2026-11-23T10:00:00-03", "2026-11-23T10:00:00.5"),
    *("0000-11-23T10:00:00Z", "2026-11-23T10:00:00ZZ", "2026-07-01 12:00:00", ""),
)
BETWEEN = (" ", "  ", " [", "\t", " (<", " <", " - ", "", "         ")
WORDS = ("ERROR", "WARN", "WARNING", "FATAL", "INFO", "LOG", "FINEST", "CRIT", "ERRORS", "error", "Warn")
AFTER = (
    *("", " x", "] boom code=E100", ": 0", ":none", "=3", "/x", " - kept", "> info", "ERROR", " 0 errors", " = 0"),
    *(": failed ValueError: x", "\x1b[0m INFO", ":0 things", " \x00 \u202e", ' code="A.B" level=info'),
)


@given(st.sampled_from(TIMES), st.sampled_from(BETWEEN), st.sampled_from(WORDS), st.sampled_from(AFTER))
def test_the_short_way_for_usual_lines_leads_where_the_long_way_leads(
    time_text: str, between: str, word: str, after: str
) -> None:
    line = time_text + between + word + after

    assert extract_entry(line.encode(), now=NOW) == log_lines._extract_unusual(line, now=NOW, meta=None)
