import json
from pathlib import Path
from typing import Any

import pytest

from reco3.console.arguments import parse_arguments, parse_payload
from reco3.console.commands import main

CASES = json.loads((Path(__file__).parents[2] / "data/console_bad_usage.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_bad_usage_says_what_was_expected_and_exits_with_2(
    case: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(case["argv"])

    printed = capsys.readouterr()
    assert code == 2
    assert case["says"] in printed.err
    assert "sekrit" not in printed.err
    assert "\x1b" not in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("command_type", "words", "payload"),
    [
        ("SET_MODE", ["mode=SAFE"], {"mode": "SAFE"}),
        ("SET_RATE_LIMIT", ["endpoint=/api", "limit_rps=50"], {"endpoint": "/api", "limit_rps": 50}),
        ("SET_RATE_LIMIT", ["limit_rps=50", "endpoint=/api"], {"endpoint": "/api", "limit_rps": 50}),
        ("NOTIFY_OPS", ["severity=INFO", "message=50"], {"severity": "INFO", "message": "50"}),
        ("RESTART_PROCESS", ["process=42"], {"process": "42"}),
        ("RESTART_PROCESS", ["process=a=b"], {"process": "a=b"}),
        ("ROLLBACK", [], {}),
        ("FUTURE_TYPE", ["count=5"], {"count": "5"}),
    ],
)
def test_a_payload_is_text_but_where_the_command_takes_a_number(
    command_type: str, words: list[str], payload: dict[str, object]
) -> None:
    assert parse_payload(command_type, words) == payload


def test_options_may_stand_between_the_words_of_a_payload() -> None:
    words = ["create", "SET_RATE_LIMIT", "pc-001", "endpoint=/api", "--wait", "limit_rps=50", "--reason", "load"]

    options = parse_arguments(words)

    assert options.payload == ["endpoint=/api", "limit_rps=50"]
    assert options.wait
    assert options.reason == "load"


def test_common_options_are_taken_before_and_after_the_verb() -> None:
    before = parse_arguments(["--server", "http://a", "--json", "list"])
    after = parse_arguments(["list", "--server", "http://a", "--json"])

    assert (before.server, before.json) == (after.server, after.json) == ("http://a", True)


def test_help_explains_every_verb_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    text = capsys.readouterr().out
    for word in ("list", "show", "create", "approve", "cancel", "resolve", "exit codes", "--api-key-file"):
        assert word in text
    assert "--api-key " not in text
