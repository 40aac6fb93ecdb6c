"""What the installer for Windows refuses, and what it says; on fakes, never run on Windows."""

from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

import pytest
from fake_windows import PYTHON, FakeWindows
from windows_runs import ORDER, answer_after_doing, change, install, installed, uninstall

from reco3.installers import windows
from reco3.installers.steps import take
from reco3.installers.troubles import InstallError


@pytest.fixture
def pc(tmp_path: Path) -> Iterator[FakeWindows]:
    pc = FakeWindows(tmp_path)
    yield pc
    pc.look()
    assert pc.leaks == []


@pytest.mark.parametrize(
    ("home", "python", "code"),
    [
        (r"C:\100%TEMP%\agent", str(PYTHON), "place_with_percent"),
        (r"C:\Program Files\agent", r"C:\50%\python.exe", "place_with_percent"),
        (r"\\server\share\reco3\agent", str(PYTHON), "place_on_network"),
        ("C:\\" + "deep" * 25 + "\\12345678", str(PYTHON), "place_too_deep"),
        (r"C:\agent", r"C:\Program Files\WindowsApps\PythonSoftwareFoundation.Python.3.13\python.exe", "store_python"),
        (r"C:\agent", r"C:\Users\ada\AppData\Local\Microsoft\WindowsApps\python.exe", "store_python"),
    ],
)
def test_places_that_no_service_runs_from_are_refused_before_anything_changes(
    pc: FakeWindows, home: str, python: str, code: str
) -> None:
    before = pc.state()
    layout = windows.layout_below(PureWindowsPath(home))
    steps = windows.install_steps(ORDER, pc.host(), pc.source, layout=layout, python=PureWindowsPath(python))

    with pytest.raises(InstallError) as refused:
        take(steps, say=pc.pc.said.append)

    assert refused.value.code == code
    assert pc.state() == before


def test_a_service_that_is_marked_for_deletion_is_explained_and_undone(pc: FakeWindows) -> None:
    before = pc.state()
    installed(pc)
    pc.manager.windows_open = 1000
    (left,) = uninstall(pc)
    assert left.code == "marked_for_deletion"

    with pytest.raises(InstallError) as refused:
        install(pc)

    assert refused.value.code == "not_registered"
    assert "1072" in refused.value.found
    assert "close every window of Services" in refused.value.to_do
    assert pc.state()["files"] == before["files"]


def test_a_service_that_ends_again_is_not_called_installed(pc: FakeWindows) -> None:
    before = pc.state()
    pc.manager.runs_for_looks = 2

    with pytest.raises(InstallError) as refused:
        install(pc)

    assert refused.value.code == "not_running"
    assert "event log" in refused.value.to_do
    assert pc.state()["files"] == before["files"]
    assert pc.manager.services == {}


def test_a_service_that_does_not_stop_leaves_all_as_it_was(pc: FakeWindows) -> None:
    state = installed(pc)
    change(pc)
    pc.manager.ignores_stop = True

    with pytest.raises(InstallError) as refused:
        install(pc)

    assert refused.value.code == "not_stopped"
    assert "Task Manager" in refused.value.to_do
    assert pc.state()["files"] == state["files"]


def test_a_service_that_is_starting_is_stopped_once_it_can_be(pc: FakeWindows) -> None:
    state = installed(pc)
    service = pc.manager.services["RECO3Agent"]
    service.state, service.looks = "START_PENDING", 40
    change(pc)

    install(pc)

    assert pc.state()["services"] == state["services"]


def test_without_the_rights_nothing_is_left(pc: FakeWindows) -> None:
    before = pc.state()
    pc.manager.is_administrator = False

    with pytest.raises(InstallError, match="Access is denied"):
        install(pc)

    assert pc.state()["files"] == before["files"]


@pytest.mark.parametrize(
    ("verb", "answer"), [("create", 1073), ("start", 1056), ("stop", 1062), ("stop", 1060), ("delete", 1060)]
)
def test_what_somebody_else_did_in_the_same_moment_is_no_failure(pc: FakeWindows, verb: str, answer: int) -> None:
    """The answer is that of a call which comes just after another one has done the same."""
    if verb != "create":
        installed(pc)
    change(pc)
    answer_after_doing(pc, verb, answer)

    if verb in {"stop", "delete"}:
        assert uninstall(pc) == []
        assert pc.manager.services == {}
    else:
        install(pc)
        assert pc.manager.services["RECO3Agent"].state == "RUNNING"
        assert pc.manager.services["RECO3Agent"].settings["failureflag"] == "1"


@pytest.mark.parametrize(("verb", "code"), [("stop", "not_stopped"), ("delete", "not_removed")])
def test_what_cannot_be_done_when_uninstalling_is_named_with_its_cause(pc: FakeWindows, verb: str, code: str) -> None:
    installed(pc)
    pc.pc.fail(f"sc.exe {verb}", exit_code=5, output="Access is denied.")

    failures = uninstall(pc)

    assert code in [failure.code for failure in failures]
    assert "Access is denied" in str(failures[0])
