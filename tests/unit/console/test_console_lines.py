import copy
import time
from collections.abc import Iterator
from typing import Any

import pytest

from reco3.console.tables import standing, table_lines
from reco3.console.timelines import timeline_lines

NOW = "2026-11-23T14:03:22.000Z"
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egpj.exe\r\x00"
Json = dict[str, Any]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are shown in this machine's zone; here it is UTC."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def command(**changes: Any) -> Json:
    row = {
        "id": "c-1",
        "agent_id": "pc-001",
        "ts": "2026-11-23T14:03:00.000Z",
        "type": "RESTART_PROCESS",
        "strength": "strong",
        "payload": {"process": "nginx"},
        "status": "pending",
        "needs_approval": True,
        "approved": False,
        "approval": None,
        "created_by": "user:ann",
        "expires_at": "2026-11-23T14:18:00.000Z",
    }
    return row | changes


def step(event: str, second: int, actor: str = "agent:pc-001", **detail: Any) -> Json:
    return {"at": f"2026-11-23T14:03:{second:02}.000Z", "event": event, "actor": actor, "detail": detail}


def hostile(value: Any) -> Any:
    """The same value with escape sequences in every text and name."""
    if isinstance(value, str):
        return value + ESCAPES
    if isinstance(value, dict):
        return {key: hostile(inner) for key, inner in value.items()} | {f"{ESCAPES}": ESCAPES}
    return [hostile(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "waits for approval, expires in 14 min 38 s"),
        ({"expires_at": None}, "waits for approval"),
        ({"approved": True}, "waits for the PC, expires in 14 min 38 s"),
        ({"status": "delivered", "cancel_requested_at": NOW}, "cancel requested"),
        ({"status": "delivered", "accepted_at": NOW}, "accepted by the PC, not begun"),
        ({"status": "running"}, ""),
        ({"status": "unknown"}, "we do not know whether it ran: resolve it"),
        ({"status": "failed", "result": {"error": "apply_enabled is false"}}, "apply_enabled is false"),
        ({"status": "completed", "finished_at": NOW}, "22.00 s after asking"),
        (
            {"status": "completed", "finished_at": NOW, "approval": {"approved_at": "2026-11-23T14:03:21.160Z"}},
            "840 ms after approval",
        ),
        ({"status": "expired"}, ""),
    ],
)
def test_the_standing_says_what_has_to_happen_next_or_how_it_ended(changes: Json, text: str) -> None:
    assert standing(command(**changes), NOW) == text


def test_a_table_aligns_its_columns_and_never_cuts_an_id() -> None:
    rows = [command(id="a" * 90, payload={"process": "電腦"}), command(agent_id="pc-with-a-long-name")]

    lines = table_lines(rows, NOW, width=None)

    assert lines[0].split() == ["ID", "ASKED", "FOR", "PC", "COMMAND", "STATUS", "ASKED", "BY", "STANDING"]
    assert lines[1].startswith("a" * 90 + "  2026-11-23 14:03:00  pc-001 ")
    assert lines[0].index("PC ") == lines[2].index("pc-with-a-long-name")


def test_a_timeline_says_who_when_how_long_and_what_the_pc_found() -> None:
    checks = [{"check": {"tcp_port": 80}, "ok": True}, {"check": {"up_s": 2}, "ok": False, "message": "it ended"}]
    result = {"success": False, "error": "not verified", "exit_code": 0, "output": "a\nb", "verification": checks}
    timeline = [
        step("requested", 0, "user:ann", reason="502 since 13:58"),
        step("approved", 10, "user:bob", expect={"pid": 4711}),
        step("delivered", 11),
        step("failed", 13, result=result),
    ]

    text = "\n".join(timeline_lines(command(status="failed", result=result, timeline=timeline)))

    for words in (
        "asked for by ann",
        "reason: 502 since 13:58",
        "+10.00 s  approved by bob",
        "expect: pid 4711",
        "+1.00 s  sent to the PC\n",
        "+2.00 s  failed",
        "error: not verified",
        "exit_code: 0",
        'check {"tcp_port": 80} held',
        'check {"up_s": 2} FAILED: it ended',
        "| a\n",
    ):
        assert words in text


def test_an_unknown_end_is_called_so_with_its_evidence_and_no_way_to_run_again() -> None:
    evidence = {"before": {"pid": 1, "create_time_ms": 1_795_438_000_000}, "after": {"pid": 2}, "boot_id": "b"}
    result = {"success": False, "code": "interrupted", "evidence": evidence}
    reports = [
        {"received_at": NOW, "status": "unknown", "result": result, "verdict": "taken"},
        {"received_at": NOW, "status": "completed", "result": {"success": True}, "verdict": "conflict"},
    ]

    text = "\n".join(timeline_lines(command(status="unknown", timeline=[step("unknown", 9)], reports=reports)))

    for words in (
        "WE DO NOT KNOW WHETHER IT RAN",
        "before: pid 1, create_time 2026-11-23",
        "after: pid 2",
        "boot_id: b",
        "completed: CONTRADICTS what is recorded",
        "reco3 commands resolve c-1 ran|did-not-run",
        "a new command needs a new approval",
    ):
        assert words in text


def test_no_escape_sequence_from_a_server_reaches_the_terminal() -> None:
    evil = {
        "timeline": [step("requested", 1, note="x", expect={"pid": 1}), step("strange", 2)],
        "reports": [
            {"received_at": "x", "status": "failed", "verdict": "odd", "result": {"output": "o", "error": "e"}}
        ],
        "result": {"error": "e"},
        "resolution": {"outcome": "ran", "reason": "r", "resolved_by": "user:x"},
        "reason": "why",
    }
    row = hostile(copy.deepcopy(command(**evil)))

    text = "\n".join([*table_lines([row], hostile(NOW), width=200), *timeline_lines(row)])

    assert "\u2039U+001B\u203a" in text
    assert set(text).isdisjoint("\x1b\x9b\x07\x00\r\u202e")
    assert all(character == "\n" or character.isprintable() for character in text)


@pytest.mark.parametrize("junk", [None, 5, "text", [1], {"a": 1}])
def test_an_answer_of_another_shape_breaks_nothing(junk: Any) -> None:
    names = (
        "ts",
        "payload",
        "result",
        "approval",
        "timeline",
        "reports",
        "resolution",
        "expires_at",
        "finished_at",
        "id",
    )
    row = command(**dict.fromkeys(names, junk), status="completed")

    assert table_lines([row], junk, width=80)
    assert list(timeline_lines(row))
