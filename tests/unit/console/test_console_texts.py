import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reco3.console.texts import columns, cut, json_text, value_text, visible, visible_lines

# The page shows the same texts in the same way.
CASES = json.loads((Path(__file__).parents[2] / "data/page_hostile_texts.json").read_text(encoding="utf-8"))
ANY_TEXT = st.text(st.characters(codec=None))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_texts_show_what_cannot_be_seen(case: dict[str, str]) -> None:
    assert visible(case["text"]) == case["line"]


@given(ANY_TEXT)
def test_no_text_brings_a_control_character_to_the_terminal(text: str) -> None:
    shown = visible(text)

    assert {unicodedata.category(character) for character in shown}.isdisjoint({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


@given(ANY_TEXT)
def test_several_lines_keep_nothing_but_their_line_breaks_and_tabs(text: str) -> None:
    controls = {character for character in visible_lines(text) if unicodedata.category(character) == "Cc"}

    assert controls <= {"\n", "\t"}


@given(st.recursive(ANY_TEXT | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner)))
def test_json_is_printable_ascii_and_says_the_same(content: object) -> None:
    text = json_text(content)

    assert set(text) <= {chr(code) for code in range(32, 127)} | {"\n"}
    assert json.loads(text) == content


@given(ANY_TEXT, st.integers(1, 30))
def test_a_cut_text_fits(text: str, width: int) -> None:
    assert columns(cut(visible(text), width)) <= width


def test_wide_letters_take_two_columns_and_marks_none() -> None:
    assert columns("電腦") == 4
    assert columns("e\u0301") == 1
    assert cut("電腦電腦", 5) == "電腦…"


def test_a_value_that_is_no_text_is_json() -> None:
    assert value_text({"a": [1, None]}) == '{"a": [1, null]}'
    assert value_text("\x1b[2J") == "\u2039U+001B\u203a[2J"
