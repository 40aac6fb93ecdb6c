from pathlib import Path
from typing import Any

import pytest

from builders import cases
from reco3.cli import main
from reco3.console.key_arguments import parse_key_arguments


@pytest.mark.parametrize("case", cases("console_bad_key_usage"), ids=lambda case: case["name"])
def test_bad_usage_says_what_was_expected_and_makes_nothing(
    case: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    code = main(case["argv"])

    printed = capsys.readouterr()
    assert code == 2
    assert case["says"] in printed.err
    assert "sekrit" not in printed.err
    assert "\x1b" not in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_options_may_stand_between_the_words_of_a_payload() -> None:
    words = [
        "break-glass",
        "--pc",
        "a",
        "--type",
        "ROLLBACK",
        "process=x",
        "--reason",
        "r",
        "--out",
        "o",
        "command_id=y",
    ]

    assert parse_key_arguments(words).payload == ["process=x", "command_id=y"]


@pytest.mark.parametrize(
    "argv", [["approve"], ["deny"], ["keys"], ["keys", "init"], ["keys", "break-glass"], ["dev-signer"]]
)
def test_help_is_an_answer_and_no_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--help"]) == 0

    text = capsys.readouterr().out
    assert "usage: reco3" in text
    assert "--passphrase " not in text
