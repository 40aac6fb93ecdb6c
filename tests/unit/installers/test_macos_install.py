"""Installing on a Mac: what is there afterwards, and after each death, failure and upgrade."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from fake_mac import AS_OTHER, EVERY_MACOS, ORDER, PLIST, FakeMac, changes_of, without_empty_opt
from fake_pc import REPOSITORY, Killed

from fake_launchd_words import Traits
from reco3.installers import macos

DATA = REPOSITORY / "tests/data"
EXPECTED = json.loads((DATA / "macos_install.json").read_text(encoding="utf-8"))
CONFIG, STATE = "opt/reco3-agent/config.yaml", "opt/reco3-agent/state"
PIN = "alice:ed25519:iojjDgV/NvLtdB8qTAJNiBlfdGGUyA3VWfNEZCZU8vI="


@pytest.fixture
def mac(tmp_path: Path) -> FakeMac:
    return FakeMac(tmp_path)


def installed(tmp_path: Path, name: str = "reference", traits: Traits | None = None) -> FakeMac:
    mac = FakeMac(tmp_path / name, traits)
    assert mac.install() == 0, mac.said()
    return mac


def modes_and_owners(mac: FakeMac) -> dict[str, str]:
    """What is installed, but for what is in the application and in the Mac itself."""
    listing = {name: " ".join(text.split(" ")[:2]) for name, text in mac.pc.files().items()}
    return {name: text for name, text in listing.items() if "/app/" not in name}


def upgrade(mac: FakeMac) -> None:
    """The next version of the source tree."""
    (mac.source.package / "__init__.py").write_text('__version__ = "2"\n')


def version_in(mac: FakeMac) -> str:
    return next((mac.root / "opt/reco3-agent/app").rglob("reco3/__init__.py")).read_text().split('"')[1]


def test_files_owners_and_modes_are_the_expected_ones(mac: FakeMac) -> None:
    assert mac.install() == 0, mac.said()

    assert modes_and_owners(mac) == EXPECTED["files"]
    assert mac.groups_of == EXPECTED["groups"]


def test_the_programs_called_are_the_expected_ones(mac: FakeMac) -> None:
    assert mac.install() == 0

    assert [call for call in mac.pc.called("launchctl", "dscl", "chgrp") if " print " not in call] == EXPECTED["calls"]
    assert mac.launchd.jobs["com.reco3.agent"].pid


def test_the_key_is_in_the_config_alone(mac: FakeMac) -> None:
    secret = "a-key-that-nobody-should-see"

    assert mac.install(replace(ORDER, api_key=secret)) == 0

    assert [name for name, text in mac.pc.files().items() if secret in text] == [CONFIG]
    assert secret not in mac.said()
    assert secret not in "\n".join(mac.pc.calls)


def test_a_token_goes_in_by_standard_input(mac: FakeMac) -> None:
    order = replace(ORDER, api_key=None, token="once-and-for-all", agent_id=None)

    assert mac.install(order) == 0, mac.said()

    assert "once-and-for-all\n" in mac.pc.stdins
    assert "once-and-for-all" not in "\n".join(mac.pc.calls) + mac.said()
    assert 'api_key: "made-on-this-pc"' in (mac.root / CONFIG).read_text()


def test_approvers_are_pinned_and_nothing_may_act_yet(mac: FakeMac) -> None:
    assert mac.install(replace(ORDER, pins=(PIN,), approvals_required=1)) == 0, mac.said()

    config = (mac.root / CONFIG).read_text()
    assert "alice" in config
    assert "\n  apply_enabled: false" in config


def test_a_dry_run_prints_every_step_and_changes_nothing(mac: FakeMac) -> None:
    before = mac.end_state()

    assert mac.install(replace(ORDER, is_dry=True)) == 0

    assert mac.end_state() == before
    for words in ("-m venv", "write /Library/LaunchDaemons/com.reco3.agent.plist (mode 0644)", "chgrp -R admin"):
        assert words in mac.said()
    assert "would run launchctl bootstrap system /Library/LaunchDaemons/com.reco3.agent.plist" in mac.said()


def test_the_same_again_ends_the_same(mac: FakeMac) -> None:
    assert mac.install() == 0
    first = mac.end_state()

    assert mac.install() == 0

    assert mac.end_state() == first


@pytest.mark.parametrize("version", EVERY_MACOS)
def test_it_is_installed_brought_up_to_date_and_removed_on_every_macos(tmp_path: Path, version: str) -> None:
    mac = FakeMac(tmp_path, EVERY_MACOS[version])
    before = mac.end_state()
    assert mac.install() == 0, mac.said()
    upgrade(mac)

    assert mac.install() == 0, mac.said()

    assert version_in(mac) == "2"
    assert mac.launchd.jobs["com.reco3.agent"].pid
    assert mac.uninstall() == 0, mac.said()
    assert mac.end_state() == without_empty_opt(before, mac)


def test_a_python_that_somebody_else_owns_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.touch()
    if os.geteuid() == 0:
        os.chown(python, 501, -1)

    assert macos._python_notes(Path("/"), "root") == []
    assert f"{python} belongs to user" in macos._python_notes(python, "root")[0]
    assert macos._python_notes(python, "_reco3agent") == []


def test_without_a_start_it_waits_for_the_next_boot(mac: FakeMac) -> None:
    mac.launchd.disabled["com.reco3.agent"] = True

    assert mac.install(replace(ORDER, is_started=False)) == 0, mac.said()
    assert not mac.launchd.jobs

    mac.launchd.boot()
    assert mac.launchd.jobs["com.reco3.agent"].pid


def test_it_runs_again_after_a_crash_and_after_a_boot(mac: FakeMac) -> None:
    assert mac.install() == 0
    first = mac.launchd.jobs["com.reco3.agent"].pid

    mac.launchd.kill("com.reco3.agent")
    second = mac.launchd.jobs["com.reco3.agent"].pid
    mac.launchd.boot()

    assert second not in {0, first}
    assert mac.launchd.jobs["com.reco3.agent"].pid


def test_list_stop_and_start_do_what_people_expect(mac: FakeMac) -> None:
    assert mac.install() == 0

    def row() -> str:
        return next(line for line in mac.launchd.call(["list"])[1].splitlines() if "reco3" in line)

    assert row() == "1001\t0\tcom.reco3.agent"
    assert mac.launchd.call(["stop", "com.reco3.agent"]) == (0, "")
    assert row() == "-\t0\tcom.reco3.agent"
    assert mac.launchd.call(["start", "com.reco3.agent"]) == (0, "")
    assert row() == "1002\t0\tcom.reco3.agent"


def test_kept_alive_unconditionally_it_could_not_be_stopped(mac: FakeMac) -> None:
    """The control of the test above."""
    plist = mac.source.root / "agent/macos/com.reco3.agent.plist"
    keep = "<dict>\n\t\t<key>SuccessfulExit</key>\n\t\t<false/>\n\t</dict>"
    assert keep in plist.read_text()
    plist.write_text(plist.read_text().replace(keep, "<true/>"))
    assert mac.install() == 0

    mac.launchd.call(["stop", "com.reco3.agent"])

    assert mac.launchd.jobs["com.reco3.agent"].pid == 1002


def test_another_account_owns_what_it_writes_to(mac: FakeMac) -> None:
    assert mac.install(AS_OTHER) == 0, mac.said()

    assert modes_and_owners(mac) == EXPECTED["files"] | EXPECTED["files_of_another_account"]
    assert mac.accounts["/Users/_reco3agent"] == EXPECTED["account"]
    assert "<string>_reco3agent</string>" in (mac.root / PLIST).read_text()


def test_who_it_runs_as_stays_until_another_is_asked_for(mac: FakeMac) -> None:
    for order, owner in ((AS_OTHER, "_reco3agent"), (ORDER, "_reco3agent"), (replace(ORDER, user="root"), "root")):
        assert mac.install(order) == 0, mac.said()
        listing = modes_and_owners(mac)
        assert (listing[CONFIG], listing[STATE]) == (f"0600 {owner}", f"0700 {owner}")
        assert ("<string>_reco3agent</string>" in (mac.root / PLIST).read_text()) == (owner != "root")


def test_a_change_of_the_account_that_fails_is_taken_back(mac: FakeMac) -> None:
    assert mac.install() == 0
    before = mac.end_state()
    mac.launchd.start = lambda _label, _job: 0 if "UserName" in (mac.root / PLIST).read_text() else 3001

    assert mac.install(AS_OTHER) == 1

    assert mac.end_state() == before


def test_what_launchd_heard_is_told_when_it_does_not_stay_up(mac: FakeMac) -> None:
    def start(_label: str, _job: object) -> int:
        (mac.root / "var/log/reco3-agent/launchd.log").write_text("config.yaml:3: no such key")
        return 0

    mac.launchd.start = start

    assert mac.install() == 1

    assert "config.yaml:3: no such key" in mac.said()


def test_the_account_gets_an_id_that_nobody_has(mac: FakeMac) -> None:
    mac.accounts["/Users/_somebody"] = {"UniqueID": "499"}
    mac.accounts["/Groups/_others"] = {"PrimaryGroupID": "498"}

    assert mac.install(AS_OTHER) == 0

    assert mac.accounts["/Users/_reco3agent"]["UniqueID"] == "497"
    assert mac.accounts["/Groups/_reco3agent"]["PrimaryGroupID"] == "497"


def test_an_upgrade_keeps_config_and_state(mac: FakeMac) -> None:
    assert mac.install() == 0
    config = mac.root / CONFIG
    config.write_text(config.read_text() + "# by hand\n")
    (mac.root / STATE / "agent.db").write_text("journal")
    upgrade(mac)

    assert mac.install(replace(ORDER, api_key="another-key")) == 0

    assert config.read_text().endswith("# by hand\n")
    assert 'api_key: "devkey"' in config.read_text()
    assert (mac.root / STATE / "agent.db").read_text() == "journal"
    assert version_in(mac) == "2"
    assert "is kept; it has another api_key" in mac.said()
    assert "another-key" not in mac.said()


def test_an_upgrade_that_does_not_stay_up_is_taken_back_and_the_old_agent_runs(mac: FakeMac) -> None:
    assert mac.install() == 0
    before = mac.end_state()
    upgrade(mac)
    ends_until_back(mac)

    assert mac.install() == 1

    assert "not_running" in mac.said()
    assert version_in(mac) == "1"
    assert mac.end_state() == before


def ends_until_back(mac: FakeMac) -> None:
    """Version 2 ends as soon as it is started."""

    def start(_label: str, job: object) -> int:
        del job
        mac.launchd.traits.exits_with = 2 if version_in(mac) == "2" else None
        return 2001

    mac.launchd.start = start


@pytest.mark.parametrize(
    "words",
    ["-m venv", "-m pip", "-m compileall", "agent --check", "chgrp", "launchctl enable", "launchctl bootstrap"],
)
def test_whatever_fails_a_fresh_installation_leaves_nothing(mac: FakeMac, words: str) -> None:
    before = mac.end_state()
    mac.pc.fail(words)

    assert mac.install(AS_OTHER) == 1

    assert mac.end_state() == without_empty_opt(before, mac)


@pytest.mark.parametrize("words", ["-m venv", "-m pip", "-m compileall", "launchctl bootout"])
def test_whatever_fails_in_an_upgrade_the_old_agent_runs(mac: FakeMac, words: str) -> None:
    assert mac.install() == 0
    before = mac.end_state()
    upgrade(mac)
    mac.pc.fail(words)

    assert mac.install() == 1

    assert mac.end_state() == before


def test_a_full_disk_before_any_change_leaves_nothing(tmp_path: Path) -> None:
    for change in range(1, changes_of(tmp_path, lambda mac, **death: mac.install(AS_OTHER, **death)) + 1):
        mac = FakeMac(tmp_path / f"full{change}")
        before = mac.end_state()

        assert mac.install(AS_OTHER, fails_before=change) == 1, change

        assert "No space left" in mac.said(), change
        assert mac.end_state() == without_empty_opt(before, mac), (change, mac.said())


def test_killed_anywhere_the_next_run_ends_the_same(tmp_path: Path) -> None:
    expected = installed(tmp_path).end_state()
    total = changes_of(tmp_path, lambda mac, **death: mac.install(**death))

    for change in range(1, total + 1):
        mac = FakeMac(tmp_path / f"killed{change}")
        with pytest.raises(Killed):
            mac.install(dies_before=change)
        assert mac.install() == 0, (change, mac.said())
        assert mac.end_state() == expected, change


def test_an_upgrade_killed_anywhere_ends_the_same(tmp_path: Path) -> None:
    def upgraded(mac: FakeMac, **death: int) -> int:
        assert mac.install() == 0
        upgrade(mac)
        return mac.install(**death)

    reference = FakeMac(tmp_path / "upgraded")
    assert upgraded(reference) == 0
    total = changes_of(tmp_path, upgraded)

    for change in range(1, total + 1):
        mac = FakeMac(tmp_path / f"killed{change}")
        with pytest.raises(Killed):
            upgraded(mac, dies_before=change)
        assert mac.install() == 0, (change, mac.said())
        assert mac.end_state() == reference.end_state(), change
