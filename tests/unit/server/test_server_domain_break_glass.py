"""Break-glass: what a PC's log line about a sealed command becomes, however odd it is."""

from typing import Any

import pytest

from fakes import START
from reco3.protocol.messages import LogEntry
from reco3.server.domain.break_glass import BREAK_GLASS_CODE, use_of
from reco3.server.domain.incidents import sighting_of
from reco3.server.domain.logs import LogLine, line_of

META: dict[str, object] = {
    "break_glass_id": "break-glass-1",
    "type": "RESTART_PROCESS",
    "payload": {"process": "nginx"},
    "owners": ["ann", "bob"],
    "used_by": "root",
    "used_at": "2030-01-15T11:00:00.000Z",
    "result": {"success": True, "output": "done"},
}


def line(code: str = BREAK_GLASS_CODE, level: str = "CRITICAL", **meta: Any) -> LogLine:
    entry = LogEntry("used", ts="2030-01-15T11:59:58Z", level=level, code=code, meta={**META, **meta})
    return line_of("pc-001", entry, START)


def test_a_line_about_a_use_becomes_one() -> None:
    use = use_of(line())

    assert use is not None
    assert (use.id, use.agent_id, use.command_type) == ("break-glass-1", "pc-001", "RESTART_PROCESS")
    assert (use.payload_json, use.owners) == ('{"process": "nginx"}', ("ann", "bob"))
    assert use.result_json == '{"success": true, "output": "done"}'
    assert use.used_at.isoformat() == "2030-01-15T11:00:00+00:00"
    assert (use.reported_at, use.reviewed_at) == (START, None)


@pytest.mark.parametrize("use_id", [None, 7, "", "x" * 65, "a/b", "a\0b", "<b>", ["x"]])
def test_a_line_without_a_usable_id_is_none(use_id: object) -> None:
    assert use_of(line(break_glass_id=use_id)) is None


def test_another_code_is_no_use() -> None:
    assert use_of(line(code="BREAK_GLASS_REFUSED")) is None


def test_what_makes_no_sense_is_left_out() -> None:
    use = use_of(line(type="rm -rf", payload="x", owners="ann", used_at="soon", result=[1]))

    assert use is not None
    assert (use.command_type, use.payload_json, use.owners, use.result_json) == ("UNKNOWN", "{}", (), "{}")
    assert use.used_at.isoformat() == "2030-01-15T11:59:58+00:00"


def test_owners_and_payloads_are_bounded() -> None:
    owners = ["x" * 500, 7, "\x1b[31m", *(f"owner-{number}" for number in range(50))]

    use = use_of(line(owners=owners, payload={"process": "x" * 20_000}))

    assert use is not None
    assert (len(use.owners), use.owners[0], use.payload_json) == (16, "x" * 64, "{}")


@pytest.mark.parametrize("level", ["INFO", "WARN", "ERROR", "CRITICAL"])
def test_a_use_is_a_critical_incident_whatever_its_line_says(level: str) -> None:
    sighting = sighting_of(line(level=level))

    assert sighting is not None
    assert (sighting.code, sighting.severity) == (BREAK_GLASS_CODE, "CRITICAL")


def test_a_refused_sheet_that_only_warns_is_no_incident() -> None:
    assert sighting_of(line(code="BREAK_GLASS_REFUSED", level="WARN")) is None
