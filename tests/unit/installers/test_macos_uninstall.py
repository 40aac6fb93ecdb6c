"""Removing it from a Mac: after a whole installation, a half-done one, a broken one, and none."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_mac import AS_OTHER, ORDER, PLIST, FakeMac, changes_of, without_empty_opt
from fake_pc import Killed

from fake_launchd import words_said
from reco3.installers import macos
from reco3.installers.orders import UninstallOrder

CONFIG, STATE = "opt/reco3-agent/config.yaml", "opt/reco3-agent/state"
KEEP = UninstallOrder(keeps_config=True)


@pytest.fixture
def mac(tmp_path: Path) -> FakeMac:
    return FakeMac(tmp_path)


def test_the_uninstaller_cleans_up_after_every_half_done_installation(tmp_path: Path) -> None:
    total = changes_of(tmp_path, lambda mac, **death: mac.install(AS_OTHER, **death))

    for change in range(1, total + 1):
        mac = FakeMac(tmp_path / f"half{change}")
        before = mac.end_state()
        with pytest.raises(Killed):
            mac.install(AS_OTHER, dies_before=change)

        assert mac.uninstall() == 0, (change, mac.said())

        assert mac.end_state() == without_empty_opt(before, mac), change


def test_an_uninstallation_killed_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    def installed_and_removed(mac: FakeMac, **death: int) -> int:
        assert mac.install(AS_OTHER) == 0
        return mac.uninstall(**death)

    total = changes_of(tmp_path, installed_and_removed)

    for change in range(1, total + 1):
        mac = FakeMac(tmp_path / f"removed{change}")
        before = mac.end_state()
        with pytest.raises(Killed):
            installed_and_removed(mac, dies_before=change)
        assert mac.uninstall() == 0, (change, mac.said())
        assert mac.end_state() == without_empty_opt(before, mac), change


@pytest.mark.parametrize("damage", ["app", "app/bin/python", "config.yaml", "state", ""])
def test_a_broken_installation_is_removed_all_the_same(mac: FakeMac, damage: str) -> None:
    before = mac.end_state()
    assert mac.install() == 0
    mac.pc.host().remove(macos.LAYOUT.home / damage)

    assert mac.uninstall() == 0, mac.said()

    assert mac.end_state() == without_empty_opt(before, mac)


def test_removing_what_is_not_there_is_no_failure(mac: FakeMac) -> None:
    before = mac.end_state()

    assert mac.uninstall() == 0

    assert mac.end_state() == before
    assert words_said(mac.launchd.calls) == []


def test_config_key_and_state_can_be_kept_and_are_roots_then(mac: FakeMac) -> None:
    assert mac.install(AS_OTHER) == 0
    (mac.root / STATE / "agent.db").write_text("journal")
    config = (mac.root / CONFIG).read_text()

    assert mac.uninstall(KEEP) == 0

    left = {name: text for name, text in mac.pc.files().items() if name.startswith("opt/reco3-agent/")}
    assert left == {
        CONFIG: f"0600 root {config}",
        STATE: "0700 root /",
        f"{STATE}/agent.db": left[f"{STATE}/agent.db"],
    }
    assert "/Users/_reco3agent" not in mac.accounts


def test_installed_anew_it_takes_up_what_was_kept(mac: FakeMac) -> None:
    assert mac.install() == 0
    config = (mac.root / CONFIG).read_text()
    assert mac.uninstall(KEEP) == 0

    assert mac.install(replace(ORDER, api_key="another-key")) == 0

    assert (mac.root / CONFIG).read_text() == config


def test_what_somebody_else_put_there_stays(mac: FakeMac) -> None:
    assert mac.install() == 0
    (mac.root / "opt/reco3-agent/notes.txt").write_text("mine")

    assert mac.uninstall() == 0

    assert (mac.root / "opt/reco3-agent/notes.txt").read_text() == "mine"
    assert "notes.txt" in mac.said()


def test_files_go_even_when_launchd_does_not_let_go(mac: FakeMac) -> None:
    assert mac.install() == 0
    mac.launchd.traits.leaves_after_looks = 10_000

    assert mac.uninstall() == 1

    assert not (mac.root / PLIST).exists()
    assert not (mac.root / "opt/reco3-agent").exists()
    assert "launchd_refused" in mac.said()
