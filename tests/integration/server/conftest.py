"""One real server per module, in test mode, unless the module asks for another environment."""

from collections.abc import Iterator

import pytest

from servers import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A running server; `SERVER_ENVIRONMENT` in the module overrides its settings."""
    environment: dict[str, str] = getattr(request.module, "SERVER_ENVIRONMENT", {"RECO3_TEST_MODE": "1"})
    process = ServerProcess(tmp_path_factory.mktemp("server"), **environment).start()
    yield process
    process.stop()
