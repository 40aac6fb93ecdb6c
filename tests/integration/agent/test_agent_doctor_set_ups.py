"""Broken set-ups of a real PC, one fault each: the doctor names it and its cure, and is silent before the fault."""

import fcntl
import os
import shutil
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from doctor_pc import UNKNOWN_UNIT, HealthyPc, levels, pinned, the

from reco3.agent.doctor import state_checks
from reco3.agent.doctor.findings import Level
from reco3.agent.journal import Journal
from reco3.protocol.commands import Mode
from servers import free_port

Break = Callable[[HealthyPc], object]
BROKEN, WARNING, NOTE = Level.BROKEN, Level.WARNING, Level.NOTE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the bits of files are POSIX")


def rule(**values: object) -> Break:
    return lambda pc: pc.rule(**values)


def control(**values: object) -> Break:
    return lambda pc: pc.control(**values)


def watch_log(path: str) -> Break:
    return lambda pc: pc.config["watch"].update(log_files=[path])


def in_journal(change: Callable[[Journal], None], *, ahead: timedelta = timedelta()) -> Break:
    def break_(pc: HealthyPc) -> None:
        journal = Journal(pc.journal, clock=lambda: datetime.now(UTC) + ahead)
        change(journal)
        journal.close()

    return break_


def no_folder(pc: HealthyPc) -> None:
    pc.lock.release()
    shutil.rmtree(pc.state)
    pc.state.touch()


def garbage(pc: HealthyPc) -> None:
    pc.journal.write_bytes(b"no database" * 1000)


def torn(pc: HealthyPc) -> None:
    """As a disk leaves it that lost a page in the middle."""
    content = bytearray(pc.journal.read_bytes())
    assert len(content) > 3 * 4096
    content[2 * 4096 : 3 * 4096] = b"\xff" * 4096
    pc.journal.write_bytes(content)


def unit(name: str, text: str) -> Break:
    return lambda pc: (pc.units / name).write_text(text)


STOPPED_UNIT = "LoadState=loaded\nActiveState=failed\nSubState=failed\nMainPID=0\nNRestarts=5\nJob=\n"
DEV_PINS = [pinned("dev-alice"), pinned("bob")]

SET_UPS: list[tuple[str, Break, str, Level, str, str]] = [
    ("a key misspelt", lambda pc: pc.config.update(agentid="x"), "config", BROKEN, "agentid", "reco3 agent --check"),
    ("readable by all", lambda pc: pc.config_path.chmod(0o644), "config_private", WARNING, "everybody", "chmod 600"),
    ("readable by the group", lambda pc: pc.config_path.chmod(0o640), "config_private", NOTE, "group", "chmod 600"),
    ("writable by all", lambda pc: pc.config_path.chmod(0o606), "config_writable", BROKEN, "not start", "chmod go-w"),
    (
        "writable by the group",
        lambda pc: pc.config_path.chmod(0o620),
        "config_writable",
        WARNING,
        "group",
        "chmod go-w",
    ),
    ("no pinned key", control(approvers=[]), "approvers", WARNING, "controls the server", "reco3 agent trust add /"),
    ("too few owners", control(approvals_required=3), "approvers", BROKEN, "ever be approved", "approvals_required: 2"),
    ("a development key", control(approvers=DEV_PINS), "approvers", BROKEN, "1 different owners", "trust add"),
    (
        "quiet all day",
        control(limits={"quiet_hours": ["00:00-12:00", "12:00-24:00"]}),
        "limits",
        WARNING,
        "whole",
        "22:",
    ),
    ("none an hour", control(limits={"strong_per_hour": 0}), "limits", WARNING, "is 0", "strong_per_hour: 20"),
    ("locks closed", control(apply_enabled=False), "apply_enabled", NOTE, "will be refused", "apply_enabled: true"),
    ("a file as state", no_folder, "state_folder", BROKEN, "is no folder", "move it away"),
    ("state open to all", lambda pc: pc.state.chmod(0o777), "state_folder", WARNING, "others may write", "chmod 700"),
    ("a journal of garbage", garbage, "journal", BROKEN, "not a database", "-wal away"),
    ("a torn journal", torn, "journal", BROKEN, "without it no command is taken", "-wal away"),
    ("no agent", lambda pc: pc.lock.release(), "agent_running", WARNING, "no agent runs", "reco3 agent /"),
    ("config changed since", lambda pc: os.utime(pc.config_path), "config_in_use", WARNING, "changed", "restart"),
    (
        "a clock set back",
        in_journal(Journal.note_clock, ahead=timedelta(hours=1)),
        "clock_journal",
        BROKEN,
        "refused",
        "reco3 agent trust-clock /",
    ),
    ("locked", in_journal(lambda one: one.choose_mode(Mode.LOCKED)), "mode", NOTE, "LOCKED", "agent mode NORMAL /"),
    ("a log that is a folder", watch_log("/etc"), "log_file", BROKEN, "no regular file", "watch.log_files"),
    (
        "a log that is not there",
        watch_log("/nowhere/x.log"),
        "log_file",
        NOTE,
        "as soon as it appears",
        "watch.log_files",
    ),
    (
        "a log below a file",
        lambda pc: pc.config.update(logging={"file": "/etc/passwd/agent.log"}),
        "own_log",
        BROKEN,
        "in the way",
        "logging.file",
    ),
    ("no such process", rule(name="nosuch"), "process", WARNING, "no process named nosuch", "watch.processes"),
    ("no such program", rule(stop_cmd=["/nowhere/stop"]), "program", BROKEN, "no such program", "whole path"),
    ("not executable", lambda pc: pc.restart.chmod(0o644), "program", BROKEN, "may not execute", "chmod +x"),
    ("replaceable", lambda pc: pc.restart.chmod(0o757), "program", WARNING, "everybody", "chmod o-w"),
    ("replaceable in its folder", lambda pc: pc.bin.chmod(0o757), "program", WARNING, "everybody", "chmod o-w"),
    ("no way to restart", rule(restart_cmd=""), "restart_rule", BROKEN, "no restart_cmd", "service:"),
    ("never to be touched", rule(name="sshd"), "restart_rule", BROKEN, "never_touch", "allow_restart: false"),
    (
        "a closed port",
        lambda pc: pc.rule(verify=[{"tcp_port": free_port()}]),
        "verify",
        WARNING,
        "is closed",
        "tcp_port",
    ),
    ("nothing verified", rule(verify=[]), "verify", NOTE, "exit code of 0 is believed", "leave verify out"),
    ("no such service", unit("web.service", UNKNOWN_UNIT), "service", BROKEN, "does not know web.service", "service:"),
    ("a failed service", unit("web.service", STOPPED_UNIT), "service", WARNING, "failed (failed)", "look why"),
    (
        "the agent's failed",
        unit("reco3-agent.service", STOPPED_UNIT),
        "agent_service",
        WARNING,
        "not run",
        "journalctl",
    ),
    ("not installed", unit("reco3-agent.service", UNKNOWN_UNIT), "agent_service", NOTE, "no service", "installers"),
]


@pytest.mark.parametrize(
    ("break_", "code", "level", "found", "to_do"), [one[1:] for one in SET_UPS], ids=[one[0] for one in SET_UPS]
)
def test_a_broken_set_up_is_named_with_its_cure(
    healthy: HealthyPc, break_: Break, code: str, level: Level, found: str, to_do: str
) -> None:
    before = healthy.examine()
    assert levels(before, code) == {Level.OK}

    break_(healthy)
    if code not in {"config_private", "config_writable", "config_in_use"}:
        healthy.write()
    after = the(healthy.examine(), code)

    assert after.level is level, after
    assert found in after.found
    assert to_do in after.to_do
    assert not (healthy.folder / "was-started").exists()


def test_a_healthy_pc_has_nothing_but_what_is_well(healthy: HealthyPc) -> None:
    findings = healthy.examine()

    assert [one for one in findings if one.level is not Level.OK] == [the(findings, "server")]
    assert the(findings, "server").found == "the server was not asked (--offline)"


def test_examining_changes_nothing(healthy: HealthyPc) -> None:
    def seen() -> dict[str, tuple[int, int, bytes]]:
        files = [path for path in healthy.folder.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes()) for path in files}

    before = seen()

    healthy.examine()

    assert seen() == before


def test_an_agent_may_start_while_the_doctor_looks(healthy: HealthyPc) -> None:
    healthy.lock.release()
    with (healthy.state / "agent.lock").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not healthy.lock.acquire(), "whoever keeps it is another agent"
        soon = threading.Timer(0.01, fcntl.flock, (looking, fcntl.LOCK_UN))
        soon.start()

        assert healthy.lock.acquire()

        soon.join()


def test_a_journal_that_an_agent_writes_meanwhile_is_not_called_broken(healthy: HealthyPc) -> None:
    journal = Journal(healthy.journal)
    try:
        for _ in range(20):
            journal.note_clock()
            assert levels(healthy.examine(), "journal") == {Level.OK}
    finally:
        journal.close()


needs_root = pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can judge for others")
NOBODY = 65534


def as_service_of_another(pc: HealthyPc) -> None:
    """Give everything to another user, in a folder that he reaches."""
    for folder in (pc.folder, *pc.folder.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    for path in (pc.folder, *pc.folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)


def log_in_a_closed_folder(pc: HealthyPc) -> None:
    closed = pc.folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "x.log").touch()
    pc.config["watch"].update(log_files=[str(closed / "x.log")])


OTHERS: list[tuple[str, Break, str, str, str]] = [
    (
        "state of root",
        lambda pc: (os.chown(pc.state / "agent.db", 0, 0), None)[1],
        "state_files",
        "agent.db",
        "chown -R",
    ),
    ("state closed", lambda pc: pc.state.chmod(0o500), "state_folder", "may not write", "chown -R"),
    ("a log of root", lambda pc: (os.chown(pc.log, 0, 0), pc.log.chmod(0o640)), "log_file", "mode 0640", "setfacl"),
    ("a log in a closed folder", log_in_a_closed_folder, "log_file", "may not enter", "setfacl"),
    ("own log", lambda pc: pc.config.update(logging={"file": "/var/log/a.log"}), "own_log", "does not start", "chown"),
    ("a program of root", lambda pc: (os.chown(pc.restart, 0, 0), pc.restart.chmod(0o744)), "program", "execute", "+x"),
]


@needs_root
@pytest.mark.parametrize(
    ("break_", "code", "found", "to_do"), [one[1:] for one in OTHERS], ids=[one[0] for one in OTHERS]
)
def test_root_judges_for_the_user_whom_the_agent_runs_as(
    healthy: HealthyPc, break_: Break, code: str, found: str, to_do: str
) -> None:
    as_service_of_another(healthy)
    before = healthy.examine()
    assert levels(before, code) == {Level.OK}, the(before, code)
    assert "nobody" in the(before, "user").found

    break_(healthy)
    healthy.write()
    after = the(healthy.examine(), code)

    assert after.level is Level.BROKEN, after
    assert found in after.found
    assert to_do in after.to_do


@needs_root
def test_somebody_who_may_not_read_the_config_is_told_to_come_as_root(healthy: HealthyPc) -> None:
    assert levels(healthy.examine(), "config") == {Level.OK}

    os.seteuid(NOBODY)
    try:
        found = the(healthy.examine(), "config")
    finally:
        os.seteuid(0)

    assert found.level is Level.BROKEN
    assert "Permission denied" in found.found
    assert "as root (sudo)" in found.to_do


def test_a_journal_that_cannot_be_copied_is_not_called_broken(
    healthy: HealthyPc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_checks, "MAX_COPIED_BYTES", 1000)

    found = the(healthy.examine(), "journal")

    assert found.level is Level.WARNING
    assert "not checked" in found.found
