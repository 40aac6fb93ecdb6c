"""Fixtures of the console's tests: a key folder of the test's own, and a server that answers as it is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lying_server import LyingServer


@pytest.fixture
def key_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this test's keys; nothing of the developer's is seen."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "config/reco3/keys"


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingServer]:
    """A server that answers as it is told, addressed by every verb."""
    server = LyingServer()
    server.start()
    monkeypatch.setenv("RECO3_URL", server.url)
    monkeypatch.delenv("RECO3_API_KEY", raising=False)
    yield server
    server.stop()
