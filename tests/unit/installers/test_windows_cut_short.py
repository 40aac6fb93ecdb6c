"""The installer for Windows when a step fails or the run is killed, and its uninstaller; on fakes, never run there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_pc import Killed
from fake_windows import ADMINISTRATORS, HOME, SYSTEM, FakeWindows
from windows_runs import change, count_changes, fail_once, install, installed, same, uninstall, wait_until_it_runs

from reco3.installers import windows
from reco3.installers.host import Host
from reco3.installers.troubles import InstallError


@pytest.fixture
def pc(tmp_path: Path) -> Iterator[FakeWindows]:
    pc = FakeWindows(tmp_path)
    yield pc
    pc.look()
    assert pc.leaks == []


FAILING = [
    *("-m venv", "-m pip", "-m compileall", "-c import cryptography", "--check", "agent --check"),
    *("icacls.exe", "/setowner", "/grant:r", "venv.new /inheritance:r", "config.yaml /inheritance:r"),
    *("sc.exe create", "sc.exe description", "sc.exe failure ", "sc.exe failureflag", "sc.exe start"),
]


@pytest.mark.parametrize("words", FAILING)
def test_a_first_installation_that_fails_leaves_nothing(pc: FakeWindows, words: str) -> None:
    before = pc.state()
    pc.pc.fail(words, exit_code=5, output="Access is denied.")

    with pytest.raises(InstallError, match="Access is denied"):
        install(pc)

    assert pc.state() == before


def test_an_undo_that_leaves_the_service_would_be_noticed(pc: FakeWindows, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pc.state()
    monkeypatch.setattr(windows.service, "remove", lambda _host: None)
    pc.pc.fail("sc.exe start")

    with pytest.raises(InstallError):
        install(pc)

    assert pc.state() != before


@pytest.mark.parametrize("words", [words for words in FAILING if "create" not in words and words != "agent --check"])
def test_an_upgrade_that_fails_leaves_the_old_agent_running(pc: FakeWindows, words: str) -> None:
    state = installed(pc)
    change(pc)
    pc.pc.fail(words, exit_code=5, output="Access is denied.")
    if words == "sc.exe start":
        pc.pc.failing.clear()
        fail_once(pc, "start")
    elif words.startswith("sc.exe"):
        pc.pc.failing.clear()
        fail_once(pc, words.split()[1])

    with pytest.raises(InstallError, match="Access is denied"):
        install(pc)

    pc.pc.failing.clear()
    wait_until_it_runs(pc)
    assert pc.state() == state


@pytest.mark.parametrize("upgrade", [False, True], ids=["first", "upgrade"])
def test_cut_short_before_any_change_and_run_again_it_reaches_the_same_end(tmp_path: Path, *, upgrade: bool) -> None:
    whole = FakeWindows(tmp_path / "whole")
    if upgrade:
        installed(whole)
        change(whole)
    install(whole)
    total = count_changes(tmp_path, upgrade=upgrade)
    assert total > 25

    for number in range(1, total + 1):
        pc = FakeWindows(tmp_path / f"cut {number}")
        if upgrade:
            installed(pc)
            change(pc)
        with pytest.raises(Killed):
            install(pc, dies_before=number)
        install(pc)
        assert same(pc, whole), f"after being cut short before change {number}"
        assert pc.leaks == []


def test_a_run_that_does_not_finish_what_was_cut_short_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a plan that takes any registered service for a finished one."""
    whole = FakeWindows(tmp_path / "whole")
    install(whole)
    total = count_changes(tmp_path, upgrade=False)
    register = windows.service.register

    def register_once(host: Host, line: str) -> None:
        if not windows.service.is_there(host):
            register(host, line)

    monkeypatch.setattr(windows.service, "register", register_once)
    differing = []
    for number in range(total - 8, total):
        pc = FakeWindows(tmp_path / f"cut {number}")
        with pytest.raises(Killed):
            install(pc, dies_before=number)
        install(pc)
        differing += [] if same(pc, whole) else [number]

    assert differing != []


@pytest.mark.parametrize("keeps_config", [False, True], ids=["all", "keep config"])
def test_uninstalling_what_was_cut_short_anywhere_leaves_nothing(tmp_path: Path, *, keeps_config: bool) -> None:
    total = count_changes(tmp_path, upgrade=False)
    for number in range(1, total + 1):
        pc = FakeWindows(tmp_path / f"cut {number}")
        before = pc.state()
        with pytest.raises(Killed):
            install(pc, dies_before=number)

        assert uninstall(pc, keeps_config=keeps_config) == []

        left = set(pc.pc.host().names(HOME))
        assert left <= {"README", "config.yaml", "state"} if keeps_config else left == {"README"}
        if not keeps_config:
            assert pc.state() == before, f"after being cut short before change {number}"
        assert pc.leaks == []


def test_an_uninstallation_that_was_cut_short_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    number = 0
    while True:
        number += 1
        pc = FakeWindows(tmp_path / f"cut {number}")
        before = pc.state()
        installed(pc)
        try:
            uninstall(pc, dies_before=number)
        except Killed:
            assert uninstall(pc) == []
            assert pc.state() == before
        else:
            break
    assert number > 5


def test_uninstalling_where_nothing_is_changes_nothing(pc: FakeWindows) -> None:
    before = pc.state()

    assert uninstall(pc) == []

    assert pc.state() == before


def test_uninstalling_leaves_what_the_installer_did_not_make(pc: FakeWindows) -> None:
    before = pc.state()
    install(pc)

    assert uninstall(pc) == []

    assert pc.state() == before


def test_uninstalling_can_keep_config_and_state_closed_as_they_are(pc: FakeWindows) -> None:
    install(pc)

    assert uninstall(pc, keeps_config=True) == []

    assert pc.pc.host().names(HOME) == ["README", "config.yaml", "state"]
    assert pc.access.who_may_read(pc.pc.real(pc.layout.config)) == {SYSTEM, ADMINISTRATORS}
    assert pc.manager.services == {}


def test_uninstalling_works_with_a_broken_environment(pc: FakeWindows) -> None:
    before = pc.state()
    install(pc)
    (pc.pc.real(pc.layout.app) / "Scripts" / "python.exe").unlink()

    assert uninstall(pc) == []

    assert pc.state() == before


def test_a_service_that_does_not_stop_is_told_of_and_the_rest_is_removed(pc: FakeWindows) -> None:
    install(pc)
    pc.manager.ignores_stop = True

    failures = uninstall(pc)

    assert [failure.code for failure in failures] == ["not_stopped", "marked_for_deletion"]
    assert pc.pc.host().names(HOME) == ["README"]
