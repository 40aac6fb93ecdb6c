"""The plan for Windows on fakes of sc.exe, icacls.exe and reg.exe: what it installs; it was never run on Windows."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import pytest
from fake_windows import ADMINISTRATORS, HOME, PYTHON, SYSTEM, USERS, FakeWindows
from windows_runs import (
    KEY,
    ORDER,
    change,
    install,
    installed,
    uninstall,
    version,
)

from builders import DATA
from reco3.agent.config import load_config
from reco3.installers import windows
from windows_words import words_of

ALICE = "alice:ed25519:" + base64.b64encode(bytes(range(32))).decode()
EXPECTED = json.loads((DATA / "windows_calls.json").read_text(encoding="utf-8"))


@pytest.fixture
def pc(tmp_path: Path) -> Iterator[FakeWindows]:
    pc = FakeWindows(tmp_path)
    yield pc
    pc.look()
    assert pc.leaks == []


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
