"""What may name a PC."""

import pytest

from reco3.protocol.limits import is_agent_id


@pytest.mark.parametrize("text", ["pc-001", "A", "a" * 64, "10.0.0.7", "host_name", "-", "."])
def test_letters_digits_dot_underscore_and_hyphen_name_a_pc(text: str) -> None:
    assert is_agent_id(text)


@pytest.mark.parametrize(
    "text",
    ["", "a" * 65, "pc 001", "pc-001\n", "\npc", "pc\0", "pc/1", "../pc", "<b>", "ü", "\u202epc", "pc;1", "a=b", "%41"],
)
def test_anything_else_names_no_pc(text: str) -> None:
    assert not is_agent_id(text)
