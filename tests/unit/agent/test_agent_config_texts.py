import json
from pathlib import Path

import pytest

from reco3.agent.config import load_config
from reco3.agent.config_texts import TextError, template_text, value_of, with_values

ROOT = Path(__file__).parents[3]
NEW = {"base_url": "https://reco3.example.com", "agent_id": "pc-7", "api_key": 'k"\\#: é'}


def read(tmp_path: Path, text: str) -> tuple[str, str, str]:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    config = load_config(path)
    return config.base_url.host, config.agent_id, config.api_key


@pytest.mark.parametrize(
    "text",
    [
        "base_url: http://127.0.0.1:1\nagent_id: old\napi_key: old\n",
        "# a comment\nbase_url: 'http://127.0.0.1:1'  # here\nagent_id: \"old\" # there\napi_key: old\n# the end\n",
        "api_key:\n  old\nagent_id: |-\n  old\nbase_url: >-\n  http://127.0.0.1:1\ncontrol: {apply_enabled: true}\n",
        "{base_url: 'http://127.0.0.1:1', agent_id: old, api_key: old}\n",
        "base_url: http://127.0.0.1:1\r\nagent_id: old\r\napi_key: old\r\n",
        "control: {approvers: []}\n",
        "base_url: http://127.0.0.1:1 # schöne Grüße ✓\nagent_id: alt\napi_key: alt",
        "",
    ],
)
def test_values_are_put_in_place_whatever_way_they_were_written(tmp_path: Path, text: str) -> None:
    changed = with_values(text, NEW | {"api_key": "new-key"})

    assert read(tmp_path, changed) == ("reco3.example.com", "pc-7", "new-key")


def test_every_other_character_of_the_template_stays(tmp_path: Path) -> None:
    before = template_text()
    after = with_values(before, {"agent_id": "pc-7", "api_key": "new"})

    changed = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert [old.partition(":")[0] for old, _ in changed] == ["agent_id", "api_key"]
    assert all(old.partition("#")[2] == new.partition("#")[2] for old, new in changed)
    assert not load_config(write(tmp_path, after)).control.apply_enabled


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_template_is_the_one_that_administrators_copy() -> None:
    assert template_text() == (ROOT / "agent" / "common" / "config.example.yaml").read_text(encoding="utf-8")


def test_values_survive_whatever_characters_they_hold() -> None:
    assert value_of(with_values("api_key: old # stays\n", NEW), "api_key") == NEW["api_key"]


def test_a_value_that_is_not_there_or_no_word_is_none() -> None:
    assert value_of("agent_id: [a]\n", "agent_id") is None
    assert value_of("agent_id: a\n", "api_key") is None


@pytest.mark.parametrize("text", ["- a\n", "a: [", "just words", "x: &key old\napi_key: *key\n", "\0"])
def test_what_cannot_be_changed_safely_is_refused(text: str) -> None:
    with pytest.raises(TextError):
        with_values(text, {"api_key": "new"})


def test_a_refusal_repeats_nothing_that_follows_a_key() -> None:
    with pytest.raises(TextError) as refusal:
        with_values("api_key: [sekrit", {"api_key": "new"})

    assert "sekrit" not in json.dumps(str(refusal.value))
