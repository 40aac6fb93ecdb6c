import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
SOURCES = TESTS.parent / "src" / "reco3"
SCRIPT = (
    "from reco3.agent import failpoints; failpoints.hit('after_start'); failpoints.hit('after_start'); print('alive')"
)


def run(**environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_product_ignores_the_variable() -> None:
    done = run(RECO3_FAILPOINT="after_start", RECO3_FAILPOINT_ARMED="/")

    assert (done.returncode, done.stdout) == (0, "alive\n")


@pytest.mark.parametrize(
    ("failpoint", "output"), [("after_start", -9), ("after_start:2", -9), ("after_start:3", 0), ("before_start", 0)]
)
def test_with_the_module_of_the_tests_the_process_is_killed_there(failpoint: str, output: int) -> None:
    done = run(RECO3_FAILPOINT=failpoint, PYTHONPATH=str(TESTS / "failpoints"))

    assert done.returncode == output


def test_the_module_that_kills_is_not_in_the_package() -> None:
    assert (TESTS / "failpoints" / "reco3_test_failpoints.py").exists()
    assert not list(SOURCES.rglob("reco3_test_failpoints*"))
