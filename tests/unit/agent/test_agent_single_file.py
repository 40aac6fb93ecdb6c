"""The agent as a single file: its unpacked folder, its end with what unpacked it, and what its programs inherit."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reco3 import __version__
from reco3.agent import single_file
from reco3.agent.runner import Run, run
from reco3.agent.single_file import MARK, held, main, own_libraries_hidden, remove_abandoned

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders are locked as POSIX systems do it")


def unpacked(parent: Path, name: str, *, is_marked: bool = True) -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "library.so").touch()
    if is_marked:
        (folder / MARK).touch()
    return folder


def frozen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this Python look like one that a single file unpacked there."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(folder), raising=False)


def test_the_folder_of_a_killed_run_is_removed(tmp_path: Path) -> None:
    abandoned = unpacked(tmp_path, "_MEIabc123")

    remove_abandoned(tmp_path)

    assert not abandoned.exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    used = unpacked(tmp_path, "_MEIabc123", is_marked=False)

    with held(used):
        remove_abandoned(tmp_path)
        assert (used / "library.so").exists()
    remove_abandoned(tmp_path)
    assert not used.exists()


def test_two_may_use_a_folder_at_once(tmp_path: Path) -> None:
    """systemd-tmpfiles skips a folder under a shared lock as well, and an exclusive one would keep a reader out."""
    used = unpacked(tmp_path, "_MEIabc123")

    import fcntl  # noqa: PLC0415 - not on Windows

    with held(used):
        handle = os.open(used, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(handle)


@pytest.mark.parametrize("name", ["_MEIabc123", "something"])
def test_a_folder_that_is_not_known_to_be_ours_is_left_alone(tmp_path: Path, name: str) -> None:
    another = unpacked(tmp_path, name, is_marked=name == "something")

    remove_abandoned(tmp_path)

    assert (another / "library.so").exists()


def test_another_users_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    another = unpacked(tmp_path, "_MEIabc123")
    monkeypatch.setattr(os, "geteuid", lambda: another.stat().st_uid + 1)

    remove_abandoned(tmp_path)

    assert another.exists()


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    elsewhere = unpacked(tmp_path, "precious")
    (tmp_path / "_MEIabc123").symlink_to(elsewhere)

    remove_abandoned(tmp_path)

    assert (elsewhere / "library.so").exists()


@pytest.fixture
def unpacker() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_the_agent_dies_with_what_unpacked_it(unpacker: "subprocess.Popen[bytes]") -> None:
    code = f"import time; from reco3.agent.single_file import end_with; end_with({unpacker.pid}); time.sleep(60)"
    agent = subprocess.Popen([sys.executable, "-c", code])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            agent.wait(0.5)
        unpacker.kill()
        unpacker.wait()
        assert agent.wait(5) == -signal.SIGKILL
    finally:
        agent.kill()
        agent.wait()


def test_an_ordinary_python_unpacks_nothing_and_hides_nothing() -> None:
    said: list[str | None] = []

    with own_libraries_hidden(said.append):
        pass

    assert single_file.unpacked_folder() is None
    assert said == []


def test_our_libraries_are_hidden_while_a_program_is_started_and_back_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen(tmp_path, monkeypatch)
    said: list[str | None] = []

    with contextlib.suppress(OSError), own_libraries_hidden(said.append):
        assert said == [None]
        raise OSError("cannot start")

    assert said == [None, str(tmp_path)]


def test_a_program_inherits_nothing_of_the_single_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "LD_LIBRARY_PATH",
        "LD_LIBRARY_PATH_ORIG",
        "_MEIPASS2",
        "_PYI_ARCHIVE_FILE",
        "_PYI_PARENT_PROCESS_LEVEL",
    ):
        monkeypatch.setenv(name, "/tmp/_MEIabc123")  # noqa: S108 - nothing is made there

    outcome = run(Run((sys.executable, "-c", "import os; print(sorted(os.environ))"), 20, 10_000))

    assert "PATH" in outcome.output
    assert "LD_LIBRARY_PATH" not in outcome.output
    assert "_PYI" not in outcome.output
    assert "_MEI" not in outcome.output


def test_the_version_is_told_without_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_its_words_are_the_agents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(tmp_path / "gone.yaml")]) == 2
    assert "gone.yaml" in capsys.readouterr().err


def test_a_run_marks_its_folder_and_cleans_up_after_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = unpacked(tmp_path, "_MEIown123", is_marked=False)
    abandoned = unpacked(tmp_path, "_MEIabc123")
    frozen(own, monkeypatch)
    watched: list[int] = []
    monkeypatch.setattr(single_file, "end_with", watched.append)

    main(["--check", str(tmp_path / "gone.yaml")])

    assert (own / MARK).exists()
    assert not abandoned.exists()
    assert watched == [os.getppid()]
