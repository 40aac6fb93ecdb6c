"""The plan for Windows on fakes of sc.exe, icacls.exe and reg.exe; it was never run on Windows."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import pytest
from fake_pc import Killed
from fake_windows import ADMINISTRATORS, HOME, PYTHON, SYSTEM, USERS, FakeWindows

from builders import DATA
from reco3.agent.config import load_config
from reco3.installers import windows
from reco3.installers.orders import InstallOrder, UninstallOrder
from reco3.installers.programs import Ran
from reco3.installers.steps import take, take_all
from reco3.installers.troubles import InstallError
from windows_words import words_of

KEY = "the-key-of-this-pc"
ORDER = InstallOrder(base_url="http://127.0.0.1:5001", agent_id="pc-001", api_key=KEY)
ALICE = "alice:ed25519:" + base64.b64encode(bytes(range(32))).decode()
EXPECTED = json.loads((DATA / "windows_calls.json").read_text(encoding="utf-8"))


@pytest.fixture
def pc(tmp_path: Path) -> Iterator[FakeWindows]:
    pc = FakeWindows(tmp_path)
    yield pc
    pc.look()
    assert pc.leaks == []


def install(pc: FakeWindows, order: InstallOrder = ORDER, **how: int | bool | None) -> None:
    host = pc.host(is_dry=order.is_dry, **how)
    take(windows.install_steps(order, host, pc.source, layout=pc.layout, python=PYTHON), say=pc.pc.said.append)


def uninstall(pc: FakeWindows, *, keeps_config: bool = False, **how: int | bool | None) -> list[InstallError]:
    host = pc.host(**how)
    order = UninstallOrder(keeps_config=keeps_config)
    return take_all(windows.uninstall_steps(order, host, layout=pc.layout), say=pc.pc.said.append)


def change(pc: FakeWindows) -> None:
    """A newer source tree."""
    (pc.source.package / "__init__.py").write_text('__version__ = "2"\n')


def version(pc: FakeWindows) -> str:
    return (pc.pc.real(pc.layout.packages(pc.layout.app)) / "reco3/__init__.py").read_text()


def installed(pc: FakeWindows) -> dict[str, object]:
    install(pc)
    pc.calls()
    return pc.state()


# What is installed


def test_the_calls_of_an_installation_are_these_in_this_order(pc: FakeWindows) -> None:
    install(pc)

    assert pc.calls() == EXPECTED["install"]


def test_the_calls_of_an_upgrade_are_these(pc: FakeWindows) -> None:
    installed(pc)
    change(pc)

    install(pc)

    assert pc.calls() == EXPECTED["upgrade"]


def test_the_calls_of_an_uninstallation_are_these(pc: FakeWindows) -> None:
    installed(pc)

    assert uninstall(pc) == []

    assert pc.calls() == EXPECTED["uninstall"]


def test_the_service_is_registered_to_start_after_the_boot_and_again_after_a_failure(pc: FakeWindows) -> None:
    install(pc)

    service = pc.manager.services["RECO3Agent"]
    assert service.state == "RUNNING"
    assert {name: value for name, value in service.settings.items() if name != "binPath"} == {
        "type": "own",
        "start": "delayed-auto",
        "error": "normal",
        "obj": "LocalSystem",
        "DisplayName": "RECO3 Agent",
        "description": "Watches this PC for RECO3 and carries out what its own config allows.",
        "reset": "86400",
        "actions": "restart/5000/restart/15000/restart/60000",
        "failureflag": "1",
    }


def test_the_service_is_started_by_the_python_itself_whatever_the_path(pc: FakeWindows) -> None:
    install(pc)

    assert words_of(pc.manager.services["RECO3Agent"].settings["binPath"]) == [
        str(PYTHON),
        *("-I", "-S", str(HOME / "venv" / "reco3_agent_service.py"), str(HOME / "config.yaml")),
    ]


def test_only_system_and_administrators_may_read_what_is_installed(pc: FakeWindows) -> None:
    install(pc)

    for path in (pc.layout.app, pc.layout.config, pc.layout.state, pc.layout.log.parent):
        assert pc.access.who_may_read(pc.pc.real(path)) == {SYSTEM, ADMINISTRATORS}
        assert pc.access.owners[pc.pc.real(path).stat().st_ino] == ADMINISTRATORS
    assert USERS in pc.access.who_may_read(pc.pc.real(HOME / "README"))


def test_a_key_that_somebody_could_read_for_a_moment_would_be_noticed(
    pc: FakeWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "seal_file", lambda _host, _path: None)
    monkeypatch.setattr("reco3.installers.windows_access.seal_folder", lambda _host, _path: None)

    install(pc)

    assert f"config.yaml.new: {USERS}" in pc.leaks
    assert f"config.yaml: {USERS}" in pc.leaks
    uninstall(pc)
    pc.leaks.clear()


def test_strong_commands_are_blocked_and_the_config_is_one_that_the_agent_takes(pc: FakeWindows) -> None:
    install(pc)

    config = load_config(pc.pc.real(pc.layout.config))
    assert not config.control.apply_enabled
    assert (config.agent_id, config.api_key, config.platform) == ("pc-001", KEY, "windows")
    assert str(pc.layout.log) in pc.pc.real(pc.layout.config).read_text().replace("\\\\", "\\")


def test_the_key_is_on_no_command_line_and_the_token_goes_by_standard_input(pc: FakeWindows) -> None:
    install(pc, replace(ORDER, api_key=None, token="the-token"))

    assert not [call for call in pc.calls() if KEY in call or "the-token" in call]
    assert pc.pc.stdins == ["the-token\n"]


def test_approvers_are_pinned(pc: FakeWindows) -> None:
    install(pc, replace(ORDER, pins=(ALICE,), approvals_required=1))

    assert [pin.owner for pin in load_config(pc.pc.real(pc.layout.config)).control.approvers] == ["alice"]


def test_with_no_start_the_service_waits_for_the_next_boot(pc: FakeWindows) -> None:
    install(pc, replace(ORDER, is_started=False))

    assert pc.manager.services["RECO3Agent"].state == "STOPPED"
    assert not [call for call in pc.calls() if call.startswith("sc.exe start")]


def test_a_dry_run_prints_every_step_and_changes_nothing(pc: FakeWindows) -> None:
    before = pc.state()

    install(pc, replace(ORDER, is_dry=True))

    assert pc.state() == before
    assert not [
        call for call in pc.calls() if "queryex" not in call and " query " not in call and "ensurepip" not in call
    ]
    told = "\n".join(pc.pc.said)
    for words in ("sc.exe create RECO3Agent", "sc.exe start", "icacls.exe", "-m venv", "failureflag"):
        assert words in told
    assert KEY not in told


# Upgrades


def test_an_upgrade_keeps_the_config_to_the_last_letter_and_restarts(pc: FakeWindows) -> None:
    installed(pc)
    config = pc.pc.real(pc.layout.config)
    config.write_text(config.read_text() + "# what the administrator wrote\n")
    before, pid = config.read_text(), pc.manager.services["RECO3Agent"].pid
    change(pc)

    install(pc, replace(ORDER, agent_id="pc-002"))

    assert config.read_text() == before
    assert "2" in version(pc)
    assert pc.manager.services["RECO3Agent"].pid != pid
    assert pc.manager.services["RECO3Agent"].state == "RUNNING"
    assert pc.pc.host().names(HOME) == ["README", "config.yaml", "logs", "state", "venv"]


def test_a_config_that_was_open_to_others_is_closed_by_an_upgrade(pc: FakeWindows) -> None:
    pc.pc.real(pc.layout.config).write_text("base_url: http://127.0.0.1:1\nagent_id: a\napi_key: by-hand\n")

    install(pc)

    assert pc.access.who_may_read(pc.pc.real(pc.layout.config)) == {SYSTEM, ADMINISTRATORS}


def test_a_service_that_somebody_stopped_or_changed_is_set_right(pc: FakeWindows) -> None:
    state = installed(pc)
    service = pc.manager.services["RECO3Agent"]
    service.state, service.settings["start"], service.settings["failureflag"] = "STOPPED", "disabled", "0"

    install(pc)

    assert pc.state() == state


def test_what_differs_from_the_kept_config_and_unsafe_places_are_noted(pc: FakeWindows) -> None:
    installed(pc)
    notes = windows.notes(
        replace(ORDER, agent_id="pc-002"),
        pc.host(),
        layout=replace(pc.layout, home=PureWindowsPath(r"D:\work\agent")),
        python=PureWindowsPath(r"C:\Users\ada\AppData\Local\Programs\Python\Python313\python.exe"),
    )

    assert len(notes) == 3
    assert "another agent_id" in notes[0]
    assert "C:\\Program Files" in notes[1]
    assert "for all users" in notes[2]
    assert windows.notes(ORDER, pc.host(), layout=pc.layout, python=PYTHON) == []


# What is refused


@pytest.mark.parametrize(
    ("home", "python", "code"),
    [
        (r"C:\100%TEMP%\agent", str(PYTHON), "place_with_percent"),
        (r"C:\Program Files\agent", r"C:\50%\python.exe", "place_with_percent"),
        (r"\\server\share\reco3\agent", str(PYTHON), "place_on_network"),
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


# Failures and undo

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


def fail_once(pc: FakeWindows, verb: str) -> None:
    """Let the next call of a verb fail; undoing takes the same verbs and must work."""
    left = [verb]
    real = pc.manager.sc

    def sc(call):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - as that of the manager
        if left and call.argv[1] == left[0]:
            left.clear()
            return Ran(5, "Access is denied.")
        return real(call)

    pc.pc.play(next(name for name in pc.pc.players if name.endswith("sc.exe")), sc)


def wait_until_it_runs(pc: FakeWindows) -> None:
    for _ in range(10):
        if windows.service.process_id(pc.host()) is not None:
            return
    raise AssertionError("the old agent was not started again")


# Cut short


def count_changes(tmp_path: Path, *, upgrade: bool) -> int:
    pc = FakeWindows(tmp_path / "counted")
    if upgrade:
        installed(pc)
        change(pc)
    host = pc.host()
    take(windows.install_steps(ORDER, host, pc.source, layout=pc.layout, python=PYTHON), say=pc.pc.said.append)
    return host.changes


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


# Uninstalling


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


def same(pc: FakeWindows, other: FakeWindows) -> bool:
    """Whether two PCs are alike, but for where the source tree of each is."""
    mine, theirs = pc.state(), other.state()
    stamp = "reco3-app"
    for state in (mine, theirs):
        files = state["files"]
        assert isinstance(files, dict)
        for name in [name for name in files if name.endswith(stamp)]:
            files[name] = "stamped"
    return mine == theirs
