"""What the bytes say in plain words."""

from typing import Any

import pytest

from offered_envelopes import envelope, honest_offer
from reco3.console.envelope_texts import envelope_lines, offer_lines
from reco3.console.offers import read_offer
from reco3.protocol.envelope import EnvelopePolicy, Expected

ASKED_S = 1_795_438_700
ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e"


def said(now_s: float = ASKED_S + 60, **changes: Any) -> str:
    return "\n".join(envelope_lines(envelope(now_s=ASKED_S, **changes), now_s=now_s))


def test_every_fact_that_matters_is_said() -> None:
    text = said()

    for words in (
        "RESTART the process nginx",
        "pc-001",
        "pid 4711, started 2026-11-2",
        "no other is touched",
        "bob",
        "shop answers 502",
        "14 min 00 s left",
        "c-1",
        "bm9uY2Ut…",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "STOP_PROCESS"}, "STOP the process nginx, and leave it stopped"),
        ({"type": "ROLLBACK", "payload": {}}, "ROLL BACK the last change that RECO3 made there"),
        ({"type": "ROLLBACK", "payload": {"command_id": "c-0"}}, "ROLL BACK what command c-0 changed"),
        ({"type": "ROLLBACK", "payload": {"process": "shop"}}, "ROLL BACK the process shop"),
        ({"expect": None}, "whichever runs under that name then"),
        ({"expect": Expected(None, None)}, "not running when this was asked for"),
        ({"expect": Expected(7, None)}, "pid 7; no other"),
        ({"reason": None}, "(no reason was given)"),
        ({"policy": EnvelopePolicy.BREAK_GLASS}, "once, on the PC itself"),
        ({"requested_by": "user:carol"}, "asked by  carol"),
    ],
)
def test_each_kind_of_command_has_words_of_its_own(changes: dict[str, Any], words: str) -> None:
    assert words in said(**changes)


def test_a_time_that_is_over_is_called_so() -> None:
    assert "(OVER)" in said(now_s=ASKED_S + 901)


def test_no_text_in_the_bytes_moves_the_terminal_or_makes_a_line_of_its_own() -> None:
    text = said(reason="fine\n  what      nothing at all\tx", payload={"process": ESCAPES}, requested_by="b\u00f6b")

    assert set(text).isdisjoint("\x1b\x07\u202e\t")
    assert len([line for line in text.splitlines() if line.startswith("  what ")]) == 1


def test_what_the_server_says_is_called_so() -> None:
    answer = honest_offer() | {"signatures": [{"owner": "carol\x1b", "key_id": "00"}], "approvals_required": 2}

    text = "\n".join(offer_lines(read_offer(answer, command_id="c-1", now_s=0 + envelope().created_at), now_s=0))

    assert "The server says: 1 of 2 approvals, so far by carol\u2039U+001B\u203a." in text
    assert "The server says: that PC pins 1 key." in text


def test_a_pc_that_verifies_nothing_is_called_so() -> None:
    answer = honest_offer() | {"pc": {"approvers_pinned": 0}}

    text = "\n".join(offer_lines(read_offer(answer, command_id="c-1", now_s=envelope().created_at), now_s=0))

    assert "approvals are not verified by this PC" in text
