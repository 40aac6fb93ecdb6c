"""launchd as the installer drives it, on a fake of each macOS: what it asks, waits for, and says when it is refused."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_mac import EVERY_MACOS, PLIST, FakeMac

from fake_launchd import words_said
from fake_launchd_words import Traits
from reco3.installers import launchd
from reco3.installers.troubles import InstallError

LABEL = "com.reco3.agent"
ENABLE = "enable system/com.reco3.agent"
BOOTSTRAP = "bootstrap system /Library/LaunchDaemons/com.reco3.agent.plist"
BOOTOUT = "bootout system/com.reco3.agent"


@pytest.fixture(params=EVERY_MACOS)
def mac(request: pytest.FixtureRequest, tmp_path: Path) -> FakeMac:
    return with_plist(FakeMac(tmp_path, EVERY_MACOS[request.param]))


def with_plist(mac: FakeMac) -> FakeMac:
    file = mac.root / PLIST
    file.write_bytes((mac.source.root / "agent/macos/com.reco3.agent.plist").read_bytes())
    file.chmod(0o644)
    mac.pc.owners[file.stat().st_ino] = "root"
    return mac


def test_it_is_loaded_and_runs_on_every_macos(mac: FakeMac) -> None:
    host = mac.pc.host()
    assert not launchd.is_loaded(host)
    assert launchd.process_id(host) is None

    launchd.load(host)

    assert launchd.is_loaded(host)
    assert launchd.process_id(host) == "1001"


def test_it_has_gone_when_unloading_returns(mac: FakeMac) -> None:
    host = mac.pc.host()
    launchd.load(host)

    launchd.unload(host)

    assert LABEL not in mac.launchd.jobs
    assert launchd.process_id(host) is None


def test_it_is_loaded_again_right_after_it_was_unloaded(mac: FakeMac) -> None:
    host = mac.pc.host()
    launchd.load(host)
    launchd.unload(host)

    launchd.load(host)

    assert launchd.process_id(host) == "1001"


def test_without_waiting_the_second_loading_is_refused(tmp_path: Path) -> None:
    """The control: the fake refuses what launchd refuses, so the waiting is what makes it work."""
    mac = with_plist(FakeMac(tmp_path))
    host = mac.pc.host()
    launchd.load(host)

    answers = [mac.launchd.call(words.split(" ")) for words in (BOOTOUT, BOOTSTRAP)]

    assert [code for code, _ in answers] == [0, 5]


def test_what_nobody_loaded_can_be_unloaded(mac: FakeMac) -> None:
    launchd.unload(mac.pc.host())

    assert not mac.launchd.jobs


def test_what_somebody_disabled_is_loaded_all_the_same(mac: FakeMac) -> None:
    mac.launchd.disabled[LABEL] = True

    launchd.load(mac.pc.host())

    assert launchd.process_id(mac.pc.host()) == "1001"


def test_it_is_unloaded_when_its_property_list_is_gone(mac: FakeMac) -> None:
    host = mac.pc.host()
    launchd.load(host)
    (mac.root / PLIST).unlink()

    launchd.unload(host)

    assert LABEL not in mac.launchd.jobs


def test_the_calls_are_these(tmp_path: Path) -> None:
    mac = with_plist(FakeMac(tmp_path))
    host = mac.pc.host()

    launchd.load(host)
    launchd.unload(host)

    assert words_said(mac.launchd.calls) == [ENABLE, BOOTSTRAP, BOOTOUT]


def test_an_old_macos_is_asked_with_old_verbs_alone(tmp_path: Path) -> None:
    mac = with_plist(FakeMac(tmp_path, Traits(has_new_verbs=False)))
    host = mac.pc.host()

    launchd.load(host)
    launchd.unload(host)

    path = "/Library/LaunchDaemons/com.reco3.agent.plist"
    assert words_said(mac.launchd.calls) == [f"load -w {path}", f"unload -w {path}"]


def test_what_is_still_leaving_is_waited_for(tmp_path: Path) -> None:
    """A run that was killed right after its bootout leaves a label that is taken for some seconds."""
    mac = with_plist(FakeMac(tmp_path, Traits(leaves_after_looks=9)))
    host = mac.pc.host()
    launchd.load(host)
    mac.launchd.call(BOOTOUT.split(" "))

    launchd.load(host)

    assert launchd.process_id(host) == "1001"
    assert words_said(mac.launchd.calls, "bootstrap").count(BOOTSTRAP) > 2


@pytest.mark.parametrize("code", [5, 17, 37])
def test_what_somebody_else_has_loaded_is_started_anew(tmp_path: Path, code: int) -> None:
    mac = with_plist(FakeMac(tmp_path, Traits(taken_code=code)))
    mac.launchd.call(BOOTSTRAP.split(" "))

    launchd.load(mac.pc.host())

    assert words_said(mac.launchd.calls)[-1] == "kickstart -k system/com.reco3.agent"
    assert launchd.process_id(mac.pc.host()) == "1002"


def test_trouble_that_passes_is_waited_out(tmp_path: Path) -> None:
    mac = with_plist(FakeMac(tmp_path, Traits(failing={"bootstrap": [5, 3]})))

    launchd.load(mac.pc.host())

    assert launchd.process_id(mac.pc.host()) == "1001"


def break_plist(mac: FakeMac) -> None:
    (mac.root / PLIST).write_text("<plist>")


def open_plist(mac: FakeMac) -> None:
    (mac.root / PLIST).chmod(0o664)


def give_plist_away(mac: FakeMac) -> None:
    mac.pc.owners[(mac.root / PLIST).stat().st_ino] = "ada"


def take_rights(mac: FakeMac) -> None:
    mac.launchd.traits.is_root = False


def block(mac: FakeMac) -> None:
    mac.launchd.traits.failing["bootstrap"] = [161, 99]


def wear_out(mac: FakeMac) -> None:
    mac.launchd.traits.failing["bootstrap"] = [5, 999]


@pytest.mark.parametrize(
    ("trouble", "code", "cure"),
    [
        (break_plist, 109, "run the same again"),
        (open_plist, 122, "chmod 644"),
        (give_plist_away, 122, "chown root:wheel"),
        (take_rights, 1, "log show"),
        (block, 161, "Login Items"),
        (wear_out, 5, "log show"),
    ],
)
def test_each_refusal_is_told_with_its_cure(
    tmp_path: Path, trouble: Callable[[FakeMac], None], code: int, cure: str
) -> None:
    mac = with_plist(FakeMac(tmp_path))
    trouble(mac)

    with pytest.raises(InstallError, match=re.escape(f"launchctl bootstrap ended with {code}")) as refused:
        launchd.load(mac.pc.host())

    assert refused.value.code == "launchd_refused"
    assert cure in refused.value.to_do


def test_the_old_load_that_says_nothing_of_its_failure_is_found_out(tmp_path: Path) -> None:
    mac = with_plist(FakeMac(tmp_path, Traits(has_new_verbs=False)))
    open_plist(mac)

    with pytest.raises(InstallError, match="launchd_refused"):
        launchd.load(mac.pc.host())


def test_a_job_that_never_leaves_is_told(tmp_path: Path) -> None:
    mac = with_plist(FakeMac(tmp_path, Traits(leaves_after_looks=10_000)))
    launchd.load(mac.pc.host())

    with pytest.raises(InstallError, match="launchctl bootout ended with 0"):
        launchd.unload(mac.pc.host())

    assert launchd.GONE_WITHIN_S <= mac.pc.now_s < 2 * launchd.GONE_WITHIN_S


def test_a_job_that_waits_for_its_next_start_does_not_run(tmp_path: Path) -> None:
    mac = with_plist(FakeMac(tmp_path, Traits(exits_with=2)))

    launchd.load(mac.pc.host())

    assert launchd.is_loaded(mac.pc.host())
    assert launchd.process_id(mac.pc.host()) is None


def test_a_dry_run_changes_nothing(mac: FakeMac) -> None:
    host = mac.pc.host(is_dry=True)

    launchd.load(host)
    launchd.unload(host)

    assert words_said(mac.launchd.calls) == []
    assert any("would run launchctl" in line for line in mac.pc.said)


def test_a_pc_without_launchctl_is_no_mac(tmp_path: Path) -> None:
    mac = FakeMac(tmp_path)
    del mac.pc.players["launchctl"]

    with pytest.raises(InstallError, match="no_launchd"):
        launchd.is_loaded(mac.pc.host())
