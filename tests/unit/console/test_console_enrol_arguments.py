from typing import Any

import pytest

from builders import cases
from reco3.console.enrolments import main


@pytest.mark.parametrize("case", cases("enrol_bad_usage"), ids=lambda case: case["name"])
def test_bad_usage_says_what_was_expected_and_repeats_no_secret(
    case: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(case["argv"])

    printed = capsys.readouterr()
    assert code == 2
    assert case["says"] in printed.err
    assert "sekrit" not in printed.err
    assert printed.out == ""
