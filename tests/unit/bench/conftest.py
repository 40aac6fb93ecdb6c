"""A place to measure in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ground import Ground


@pytest.fixture
def ground(tmp_path: Path) -> Callable[[], Ground]:
    """Makes a ground of the test's own."""
    return lambda: Ground(tmp_path / "bench", tmp_path / "run", is_quick=True)
