"""The packages, built once for all who look at them."""

import pytest
from built import Packages, build, clean_tree


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    folder = tmp_path_factory.mktemp("packages")
    return build(clean_tree(folder / "tree"), folder / "dist")
