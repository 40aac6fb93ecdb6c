import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_linux import LinuxPc, linux_pc
from fake_pc import REPOSITORY, FakeHost, Killed, small_source

from reco3.installers import linux
from reco3.installers.layouts import Source
from reco3.installers.linux import LAYOUT, unit_text
from reco3.installers.orders import InstallOrder, UninstallOrder
from reco3.installers.systemd import UNIT_FILE
from reco3.installers.verbs import EXIT_FAILED, EXIT_OK, install, uninstall

URL = "http://127.0.0.1:5001"
BY_KEY = InstallOrder(base_url=URL, agent_id="pc-001", api_key="devkey")
BY_TOKEN = InstallOrder(base_url=URL, agent_id="pc-001", token="a-token-for-one-use")
CONFIG = "opt/reco3-agent/config.yaml"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return made_source(tmp_path / "source")


@pytest.fixture
def pc(tmp_path: Path) -> LinuxPc:
    return linux_pc(tmp_path / "pc")


def made_source(folder: Path) -> Source:
    source = small_source(folder)
    unit = folder / "agent/linux" / UNIT_FILE.name
    unit.parent.mkdir()
    unit.write_text((REPOSITORY / "agent/linux" / UNIT_FILE.name).read_text())
    return source


def set_up(pc: LinuxPc, source: Source, order: InstallOrder = BY_KEY, host: FakeHost | None = None) -> int:
    return install(linux, order, source, host or pc.pc.host(is_dry=order.is_dry))


def remove(pc: LinuxPc, *, keeps_config: bool = False, host: FakeHost | None = None) -> int:
    return uninstall(linux, UninstallOrder(keeps_config=keeps_config), host or pc.pc.host())


def order(**changes: Any) -> InstallOrder:
    fields: dict[str, Any] = {"base_url": URL, "agent_id": "pc-001", "api_key": "devkey", **changes}
    return InstallOrder(**fields)


def facts(pc: LinuxPc) -> Any:
    return copy.deepcopy(pc.facts())


def changes(pc: LinuxPc, work: Callable[[FakeHost], object]) -> int:
    host = pc.pc.host()
    work(host)
    return host.changes


def system_calls(pc: LinuxPc) -> list[str]:
    asked = ("systemctl show", "systemctl --version", "getent")
    calls = pc.pc.called("systemctl", "useradd", "userdel", "groupdel")
    return [call for call in calls if not call.startswith(asked)]


def test_a_first_installation_makes_these_calls_in_this_order(pc: LinuxPc, source: Source) -> None:
    assert set_up(pc, source) == EXIT_OK

    assert system_calls(pc) == [
        (
            "useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "
            "--comment RECO3 agent reco3-agent"
        ),
        "systemctl daemon-reload",
        "systemctl enable reco3-agent.service",
        "systemctl start reco3-agent.service",
    ]
    app = [call.split("app.new/bin/python -I ")[1][:24] for call in pc.pc.calls if "app.new/bin/python -I" in call]
    assert app == [
        "-m pip --disable-pip-ver",
        "-m compileall -q -s /opt",
        "-c import cryptography, ",
        "-m reco3.cli agent --che",
    ]
    assert pc.pc.calls[-1] == (
        "/opt/reco3-agent/app/bin/python -I -m reco3.cli agent doctor /opt/reco3-agent/config.yaml --json"
    )
    assert pc.pc.said[-1].startswith("Installed, and running: systemctl status reco3-agent.")


def test_what_is_installed_belongs_to_whom_it_should(pc: LinuxPc, source: Source) -> None:
    set_up(pc, source, order(api_key="s3cret-of-this-pc"))

    files = pc.pc.files()
    assert {name: " ".join(files[name].split(" ")[:2]) for name in OWNED} == OWNED
    assert not any("s3cret-of-this-pc" in line for name, line in files.items() if name != CONFIG)
    assert "apply_enabled: false" in files[CONFIG]
    assert files["etc/systemd/system/reco3-agent.service"].startswith("0644 root ")


OWNED = {
    "opt/reco3-agent": "0755 root",
    "opt/reco3-agent/app": "0755 root",
    "opt/reco3-agent/state": "0700 reco3-agent",
    "var/log/reco3-agent": "0750 reco3-agent",
    "opt/reco3-agent/config.yaml": "0600 reco3-agent",
    "var/log/reco3-agent/agent.log": "0600 reco3-agent",
}


def test_a_key_is_in_no_call_and_no_word_said(pc: LinuxPc, source: Source) -> None:
    set_up(pc, source, order(api_key="s3cret-of-this-pc"))

    assert not any("s3cret-of-this-pc" in line for line in (*pc.pc.calls, *pc.pc.said))


def test_an_upgrade_stops_swaps_and_starts_and_keeps_config_and_state(pc: LinuxPc, source: Source) -> None:
    set_up(pc, source)
    pc.pc.real(LAYOUT.config).write_text(pc.pc.real(LAYOUT.config).read_text() + "# mine\n")
    before = pc.pc.files()
    pc.pc.calls.clear()
    (source.package / "__init__.py").write_text('__version__ = "2"\n')

    assert set_up(pc, source) == EXIT_OK

    assert system_calls(pc) == [
        "systemctl stop reco3-agent.service",
        "systemctl daemon-reload",
        "systemctl enable reco3-agent.service",
        "systemctl start reco3-agent.service",
    ]
    changed = {name for name, line in pc.pc.files().items() if before.get(name) != line}
    assert {name.split("site-packages/")[-1] for name in changed} == {
        "opt/reco3-agent/app/reco3-app",
        "reco3/__init__.py",
    }
    assert before.keys() == pc.pc.files().keys()


def test_the_root_variant_makes_no_user_and_is_kept_by_an_upgrade(pc: LinuxPc, source: Source) -> None:
    set_up(pc, source, order(user="root"))
    first = facts(pc)

    set_up(pc, source)

    unit = pc.pc.real(UNIT_FILE).read_text()
    assert "\nUser=root\nGroup=root\n" in unit
    assert "CapabilityBoundingSet=\n" not in unit
    assert pc.users.users == {}
    assert pc.pc.files()[CONFIG].startswith("0600 root ")
    assert facts(pc) == first


def test_a_change_of_the_user_moves_what_belongs_to_it(pc: LinuxPc, source: Source) -> None:
    set_up(pc, source, order(user="root"))

    set_up(pc, source, order(user="reco3-agent"))

    assert pc.pc.files()[CONFIG].startswith("0600 reco3-agent ")
    assert pc.pc.files()["opt/reco3-agent/state/agent.db"].startswith("0644 reco3-agent ")


def test_without_a_start_it_is_only_enabled(pc: LinuxPc, source: Source) -> None:
    assert set_up(pc, source, order(is_started=False)) == EXIT_OK

    assert system_calls(pc)[1:] == ["systemctl daemon-reload", "systemctl enable reco3-agent.service"]
    assert pc.systemd.active == "inactive"
    assert pc.pc.said[-1].startswith("Installed; it starts with the next boot")


def test_a_dry_run_tells_every_call_and_changes_nothing(pc: LinuxPc, source: Source) -> None:
    before = facts(pc)

    assert set_up(pc, source, order(is_dry=True)) == EXIT_OK

    said = "\n".join(pc.pc.said)
    assert facts(pc) == before
    assert not any(call.startswith(("useradd", "systemctl enable", "systemctl start")) for call in pc.pc.calls)
    for call in ("useradd --system", "-m venv", "-m pip", "agent --check", "systemctl enable", "systemctl start"):
        assert f"would run {call}" in said or call in said
    assert "would write /opt/reco3-agent/config.yaml.new (mode 0600)" in said
    assert "devkey" not in said
    assert pc.pc.said[-1] == "Nothing was done: --dry-run."


def test_an_agent_that_does_not_stay_up_is_undone_and_its_last_words_are_told(pc: LinuxPc, source: Source) -> None:
    before = facts(pc)
    pc.systemd.broken = "version"

    assert set_up(pc, source) == EXIT_FAILED

    assert facts(pc) == before
    assert any("not_running" in line and "what it said on standard error" in line for line in pc.pc.said)


def test_an_upgrade_that_does_not_stay_up_leaves_the_old_one_running(pc: LinuxPc, source: Source) -> None:
    set_up(pc, source)
    before = facts(pc)
    (source.package / "__init__.py").write_text('__version__ = "2"\n')
    pc.systemd.broken = '"2"'

    assert set_up(pc, source) == EXIT_FAILED

    assert facts(pc) == before
    assert pc.systemd.active == "active"


FAILING = (
    "useradd",
    "-m venv",
    "-m pip",
    "-m compileall",
    "agent --check",
    "daemon-reload",
    "systemctl enable",
    "systemctl start",
)


@pytest.mark.parametrize("words", FAILING)
def test_a_program_that_fails_is_told_and_all_before_it_is_undone(pc: LinuxPc, source: Source, words: str) -> None:
    before = facts(pc)
    pc.pc.fail(words)

    assert set_up(pc, source) == EXIT_FAILED

    # A systemd that reads no unit anew goes on knowing the one that is gone.
    assert facts(pc)[: 4 if words == "daemon-reload" else 5] == before[: 4 if words == "daemon-reload" else 5]
    assert any(line.startswith("FAILED") and "it went wrong" in line for line in pc.pc.said)


def test_a_full_disk_before_any_change_of_a_first_installation_leaves_nothing(tmp_path: Path, source: Source) -> None:
    counted = linux_pc(tmp_path / "counted")
    count = changes(counted, lambda host: set_up(counted, source, host=host))

    for number in range(1, count + 1):
        pc = linux_pc(tmp_path / f"pc-{number}")
        before = facts(pc)

        ended = set_up(pc, source, host=pc.pc.host(fails_before=number))

        is_late = ended == EXIT_OK  # The doctor is asked without a change.
        assert is_late or facts(pc) == before, f"the disk was full before change {number}"
    assert count >= 20


@pytest.mark.parametrize("wanted", [BY_KEY, BY_TOKEN], ids=["key", "token"])
def test_killed_before_any_change_of_an_installation_a_second_run_ends_the_same(
    tmp_path: Path, source: Source, wanted: InstallOrder
) -> None:
    whole = linux_pc(tmp_path / "whole")
    count = changes(whole, lambda host: set_up(whole, source, wanted, host))
    expected = facts(whole)

    for number in range(1, count + 1):
        pc = linux_pc(tmp_path / f"pc-{number}")
        with pytest.raises(Killed):
            set_up(pc, source, wanted, pc.pc.host(dies_before=number))

        assert set_up(pc, source, wanted) == EXIT_OK
        assert facts(pc) == expected, f"killed before change {number}"
    assert count >= 20


def test_killed_before_any_change_of_an_upgrade_a_second_run_ends_the_same(tmp_path: Path) -> None:
    def upgraded(folder: Path, dies_before: int | None) -> tuple[LinuxPc, int]:
        pc, source = linux_pc(folder / "pc"), made_source(folder / "source")
        set_up(pc, source)
        (source.package / "__init__.py").write_text('__version__ = "2"\n')
        host = pc.pc.host(dies_before=dies_before)
        if dies_before is None:
            set_up(pc, source, host=host)
        else:
            with pytest.raises(Killed):
                set_up(pc, source, host=host)
            assert set_up(pc, source) == EXIT_OK
        return pc, host.changes

    whole, count = upgraded(tmp_path / "whole", None)

    for number in range(1, count + 1):
        pc, _ = upgraded(tmp_path / str(number), number)
        assert facts(pc) == facts(whole), f"killed before change {number}"
    assert count >= 20


def test_uninstalled_after_an_installation_that_was_killed_anywhere_nothing_is_left(
    tmp_path: Path, source: Source
) -> None:
    counted = linux_pc(tmp_path / "counted")
    count = changes(counted, lambda host: set_up(counted, source, BY_TOKEN, host))

    for number in range(1, count + 1):
        pc = linux_pc(tmp_path / f"pc-{number}")
        before = facts(pc)
        with pytest.raises(Killed):
            set_up(pc, source, BY_TOKEN, pc.pc.host(dies_before=number))

        assert remove(pc) == EXIT_OK
        assert facts(pc) == before, f"killed before change {number}"
        assert not pc.systemd.has_trace()


def test_an_uninstallation_that_was_killed_anywhere_is_finished_by_the_next(tmp_path: Path, source: Source) -> None:
    counted = linux_pc(tmp_path / "counted")
    before = facts(counted)
    set_up(counted, source)
    count = changes(counted, lambda host: remove(counted, host=host))
    assert facts(counted) == before

    for number in range(1, count + 1):
        pc = linux_pc(tmp_path / f"pc-{number}")
        set_up(pc, source)
        with pytest.raises(Killed):
            remove(pc, host=pc.pc.host(dies_before=number))

        assert remove(pc) == EXIT_OK
        assert facts(pc) == before, f"killed before change {number}"
    assert count >= 10


def test_an_uninstallation_makes_these_calls_in_this_order(pc: LinuxPc, source: Source) -> None:
    set_up(pc, source)
    pc.pc.calls.clear()

    remove(pc)

    assert system_calls(pc) == [
        "systemctl stop reco3-agent.service",
        "systemctl disable reco3-agent.service",
        "systemctl daemon-reload",
        "systemctl reset-failed reco3-agent.service",
        "userdel reco3-agent",
        "groupdel reco3-agent",
    ]
    assert pc.pc.said[-1] == "Removed."


def test_what_commands_had_started_goes_on_and_is_named(pc: LinuxPc, source: Source) -> None:
    set_up(pc, source)
    for pid, group in (("41", "0::/system.slice/reco3-agent.service\n"), ("42", "0::/system.slice/cron.service\n")):
        (pc.pc.root / "proc" / pid).mkdir(parents=True)
        (pc.pc.root / "proc" / pid / "cgroup").write_text(group)

    remove(pc)

    assert "      go on, because commands had started them: 41" in pc.pc.said


def test_where_nothing_is_installed_nothing_is_removed(pc: LinuxPc) -> None:
    before = facts(pc)

    assert remove(pc) == EXIT_OK

    assert facts(pc) == before
    assert system_calls(pc) == []


def test_it_is_removed_without_systemd_and_with_a_broken_application(pc: LinuxPc, source: Source) -> None:
    before = facts(pc)
    set_up(pc, source)
    pc.pc.real(LAYOUT.python(LAYOUT.app)).unlink()
    pc.pc.fail("systemctl", exit_code=127)

    assert remove(pc) == EXIT_OK

    assert pc.pc.files() == before[0]


def test_a_stop_that_fails_is_told_and_everything_else_is_removed(pc: LinuxPc, source: Source) -> None:
    before = facts(pc)
    set_up(pc, source)
    pc.pc.fail("systemctl stop")

    assert remove(pc) == EXIT_FAILED

    assert pc.pc.files() == before[0]
    assert pc.pc.said[-1].startswith("left: systemctl_failed: systemctl stop reco3-agent.service ended with 1")


def test_config_key_and_state_are_kept_for_root_and_used_by_the_next_installation(pc: LinuxPc, source: Source) -> None:
    set_up(pc, source, BY_TOKEN)
    text = pc.pc.real(LAYOUT.config).read_text()

    assert remove(pc, keeps_config=True) == EXIT_OK

    files = pc.pc.files()
    assert pc.pc.host().names(LAYOUT.home) == ["config.yaml", "state"]
    assert files[CONFIG].startswith("0600 root ")
    assert files["opt/reco3-agent/state/agent.db"].startswith("0644 root ")
    assert pc.users.users == {}
    assert set_up(pc, source, BY_TOKEN) == EXIT_OK
    assert pc.pc.real(LAYOUT.config).read_text() == text
    assert pc.pc.files()[CONFIG].startswith("0600 reco3-agent ")


def test_a_user_of_that_name_that_somebody_else_made_is_used_and_left(pc: LinuxPc, source: Source) -> None:
    pc.users.users["reco3-agent"], pc.users.groups["reco3-agent"] = "made by hand", ""

    set_up(pc, source)
    remove(pc)

    assert pc.users.users == {"reco3-agent": "made by hand"}


def test_a_user_whose_processes_run_is_left_and_told(pc: LinuxPc, source: Source) -> None:
    set_up(pc, source)
    pc.users.busy.add("reco3-agent")

    assert remove(pc) == EXIT_FAILED

    assert "user_in_use" in pc.pc.said[-1]
    assert "process 4711" in pc.pc.said[-1]


def test_files_that_an_administrator_put_there_are_left_and_named(pc: LinuxPc, source: Source) -> None:
    set_up(pc, source)
    (pc.pc.real(LAYOUT.home) / "notes.txt").write_text("mine")

    assert remove(pc) == EXIT_OK

    assert pc.pc.host().names(LAYOUT.home) == ["notes.txt"]
    assert any("notes.txt" in line for line in pc.pc.said)


def test_a_pc_without_systemd_is_refused_before_anything_changes(pc: LinuxPc, source: Source) -> None:
    (pc.pc.root / "run/systemd/system").rmdir()
    before = facts(pc)

    assert set_up(pc, source) == EXIT_FAILED

    assert facts(pc) == before
    assert any("no_systemd" in line for line in pc.pc.said)


def test_the_unit_for_root_differs_in_three_lines() -> None:
    own, root = (unit_text(Source(REPOSITORY), user).splitlines() for user in ("reco3-agent", "root"))

    assert [line for line in own if line not in root] == [
        "User=reco3-agent",
        "Group=reco3-agent",
        "CapabilityBoundingSet=",
    ]
    assert [line for line in root if line not in own] == ["User=root", "Group=root"]
