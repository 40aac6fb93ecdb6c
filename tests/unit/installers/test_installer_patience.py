"""Files that somebody still has open for a moment, as happens on Windows after a service has stopped."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from reco3.installers.host import Host

FILE, OTHER = PurePosixPath("/file"), PurePosixPath("/other")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.at_each_sleep: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.at_each_sleep()


def make_host(root: Path, clock: Clock, patience_s: float) -> Host:
    (root / "file").write_text("x")
    return Host(print, root=root, now_s=lambda: clock.now_s, sleep=clock.sleep, patience_s=patience_s)


@pytest.fixture
def is_held(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """While the flag is set, nothing can be renamed or removed."""
    held = {"file": True}
    for name in ("replace", "unlink"):
        real = getattr(Path, name)

        def refuse(path: Path, *args: object, _real: Callable[..., object] = real) -> object:
            if held["file"]:
                raise PermissionError(13, "The process cannot access the file", str(path))
            return _real(path, *args)

        monkeypatch.setattr(Path, name, refuse)
    return held


@pytest.mark.parametrize("act", ["rename", "remove"])
def test_a_file_that_is_let_go_of_in_time_is_waited_for(tmp_path: Path, is_held: dict[str, bool], act: str) -> None:
    clock = Clock()
    host = make_host(tmp_path, clock, patience_s=10)
    clock.at_each_sleep = lambda: is_held.update(file=clock.now_s < 3)

    if act == "rename":
        host.rename(FILE, OTHER)
    else:
        host.remove(FILE)

    assert not host.exists(FILE)
    assert clock.now_s == 3


@pytest.mark.parametrize("patience_s", [0, 10])
def test_one_that_is_not_is_an_error_after_that_time(
    tmp_path: Path, is_held: dict[str, bool], patience_s: float
) -> None:
    clock = Clock()
    host = make_host(tmp_path, clock, patience_s)
    assert is_held["file"]

    with pytest.raises(PermissionError):
        host.rename(FILE, OTHER)

    assert clock.now_s == patience_s
    assert host.exists(FILE)
