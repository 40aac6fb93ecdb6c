"""The whole kill matrix: every failpoint, every failpoint again after the restart, four strong commands.

RECO3_SOAK=1 runs it (about half an hour); a diagonal of it is among the integration tests.
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "agent"))

from kill_matrix import (
    COUNTDOWN_POINTS,
    POINTS,
    SECOND_POINTS,
    VARIANTS,
    CellResult,
    Variant,
    run_cell,
    table,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.environ.get("RECO3_SOAK") != "1", reason="make soak runs it"),
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_no_pair_of_kills_makes_a_command_run_twice_or_its_report_untrue(variant: Variant, tmp_path: Path) -> None:
    results = _play(variant, tmp_path, is_late=False)

    print(f"\n{table(results)}")
    assert max(one.effects for one in results) == 1
    assert [one for one in results if one.is_wrong] == []


def test_an_agent_that_records_after_acting_runs_twice(tmp_path: Path) -> None:
    variant = VARIANTS[0]
    firsts = ("during_act", "after_act", "before_finish")

    results = [
        run_cell(_folder(tmp_path, number), variant, first, second, is_late=True)
        for number, (first, second) in enumerate((first, second) for first in firsts for second in ("", *firsts))
    ]

    print(f"\n{table(results)}")
    assert sum(one.effects > 1 for one in results) >= len(results) // 2
    assert max(one.effects for one in results) > 2


def _play(variant: Variant, tmp_path: Path, *, is_late: bool) -> list[CellResult]:
    pairs = [(first, second) for first in (*POINTS, *COUNTDOWN_POINTS) for second in SECOND_POINTS]
    pairs += [("after_receive", second) for second in COUNTDOWN_POINTS]
    return [
        run_cell(_folder(tmp_path, number), variant, first, second, is_late=is_late)
        for number, (first, second) in enumerate(pairs)
    ]


def _folder(tmp_path: Path, number: int) -> Path:
    folder = tmp_path / f"cell-{number}"
    folder.mkdir()
    return folder
