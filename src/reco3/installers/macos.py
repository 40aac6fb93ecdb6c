"""The plan for macOS: a launchd daemon in /opt/reco3-agent, run as root unless an account of its own is asked for.

It refuses to restart anything but the agent, and leaves the old application in place until the new one runs.
"""

import plistlib
import re
import sys
from pathlib import Path, PurePath, PurePosixPath

from reco3.installers import launchd
from reco3.installers.host import Host
from reco3.installers.launchd import PLIST
from reco3.installers.layouts import Source, posix_layout
from reco3.installers.macos_users import USER, remove_user_step, user_step
from reco3.installers.orders import InstallOrder, UninstallOrder
from reco3.installers.payload import (
    build_step,
    forget_old_step,
    mend_step,
    posix_launcher,
    python_step,
    swap_step,
)
from reco3.installers.removal import removal_steps, remove_step
from reco3.installers.services import doctor_step, running_step
from reco3.installers.settings import config_step, kept_config_notes, pins_step
from reco3.installers.steps import Step

INSTALLER = "agent/macos/install_launchd.sh"
UNINSTALLER = "agent/macos/uninstall_launchd.sh"
# Only root may let launchd restart a system daemon.
USERS = ("root", USER)
LAYOUT = posix_layout("macos")
PLIST_SOURCE = PurePosixPath("agent/macos/com.reco3.agent.plist")
# What launchd heard, before the agent's own log was open.
LAUNCHD_LOG = LAYOUT.log.with_name("launchd.log")
LAST_LINES = 15


def install_steps(order: InstallOrder, host: Host, source: Source) -> list[Step]:
    """What to do: the agent that runs is stopped only once all for the new one is ready."""
    before = installed_user(host)
    user = order.user or before or USERS[0]

    def seal(path: PurePath) -> None:
        host.give(path, user, mode=0o600)

    steps = [
        python_step(host),
        *([user_step(host)] if user == USER else []),
        _home_step(host),
        mend_step(host, LAYOUT),
        build_step(host, LAYOUT, source, order, posix_launcher(LAYOUT)),
        config_step(host, LAYOUT, source, order, seal=seal),
        pins_step(host, LAYOUT, order, seal=seal),
        _stop_step(host),
        swap_step(host, LAYOUT),
        _owners_step(host, user, before),
        _plist_step(host, plist_text(source, user)),
    ]
    if not order.is_started:
        return [*steps, _enable_step(host)]
    return [
        *steps,
        _load_step(host),
        running_step(host, lambda: launchd.process_id(host), layout=LAYOUT, last_words=lambda: _last_words(host)),
        forget_old_step(host, LAYOUT),
        doctor_step(host, LAYOUT),
    ]


def uninstall_steps(order: UninstallOrder, host: Host) -> list[Step]:
    """What to remove; config, key and state may stay, and belong to root then."""
    return [
        Step(
            title="take the agent out of launchd",
            is_done=lambda: not launchd.is_loaded(host),
            do=lambda: launchd.unload(host),
        ),
        remove_step(host, PLIST),
        remove_step(host, _unfinished(PLIST)),
        *removal_steps(host, LAYOUT, keeps_config=order.keeps_config, kept_owner="root"),
        remove_user_step(host),
    ]


def notes(order: InstallOrder, host: Host) -> list[str]:
    """What whoever installs should know beforehand."""
    user = order.user or installed_user(host) or USERS[0]
    return [*kept_config_notes(host, LAYOUT, order), *_python_notes(Path(sys.executable), user)]


def farewell(order: InstallOrder) -> str:
    """What to say when all is done."""
    if not order.is_started:
        return f"Installed. It starts with the next boot, or by: sudo launchctl bootstrap system {PLIST}"
    return f"Installed and running. Its log: {LAYOUT.log}; what it may do here: {LAYOUT.config}"


def installed_user(host: Host) -> str | None:
    """Whom the installed daemon runs as; None when none is installed."""
    text = host.text(PLIST)
    if text is None:
        return None
    found = re.search(r"<key>UserName</key>\s*<string>([^<]+)</string>", text)
    return found[1] if found else "root"


def plist_text(source: Source, user: str) -> str:
    """The property list for the service's user."""
    text = (source.root / PLIST_SOURCE).read_text(encoding="utf-8")
    if user == "root":
        return text
    job = {**plistlib.loads(text.encode()), "UserName": user, "GroupName": user}
    return plistlib.dumps(job, sort_keys=False).decode()


def _python_notes(python: Path, user: str) -> list[str]:
    owner = python.stat().st_uid
    if owner == 0 or user != "root":
        return []
    danger = f"{python} belongs to user {owner}, who can so change what the agent runs as root"
    return [f"{danger}; the Python of python.org belongs to root"]


def _home_step(host: Host) -> Step:
    was_there = host.exists(LAYOUT.home)

    return Step(
        title=f"make {LAYOUT.home}",
        do=lambda: host.make_folder(LAYOUT.home, 0o755),
        undo=lambda: None if was_there else host.remove_if_empty(LAYOUT.home),
    )


def _stop_step(host: Host) -> Step:
    """Stop the agent of before; undone, that is loaded again, also when a run that was killed had stopped it."""

    def stop() -> None:
        if launchd.is_loaded(host):
            launchd.unload(host)

    def start_again() -> None:
        if host.exists(PLIST) and host.exists(LAYOUT.app) and not launchd.is_loaded(host):
            launchd.load(host)

    return Step(title="stop the agent, if it runs", do=stop, undo=start_again)


def _owners_step(host: Host, user: str, before: str | None) -> Step:
    """Give the service's user what it writes to, and administrators the log to read.

    What is in a folder changes hands only when the user changes: another one could have laid out links in it.
    """
    log = LAYOUT.log.parent
    modes = {LAYOUT.state: 0o700, log: 0o750}
    were_there = {folder: host.exists(folder) for folder in modes}

    def give_all(owner: str, *, is_new: bool) -> None:
        host.give(LAYOUT.config, owner, mode=0o600)
        for folder, mode in modes.items():
            host.make_folder(folder, mode)
            if is_new or not were_there[folder]:
                host.give(folder, owner)
        if is_new or not were_there[log]:
            # New files take the group of their folder on macOS, so this holds for what the agent writes later.
            host.must(["chgrp", "-R", "admin", log], code="log_folder", to_do="see who may write to /var/log")

    def undo() -> None:
        for folder, was_there in were_there.items():
            if not was_there:
                host.remove(folder)
        if before not in {None, user}:
            give_all(str(before), is_new=True)

    title = f"give config, state and log to {user}"
    return Step(title=title, do=lambda: give_all(user, is_new=before != user), undo=undo)


def _plist_step(host: Host, text: str) -> Step:
    before = host.text(PLIST)

    def write(content: str) -> None:
        host.write(PLIST, content, 0o644)
        host.give(PLIST, "root", mode=0o644)

    def undo() -> None:
        if before is None:
            host.remove(PLIST)
        else:
            write(before)

    return Step(title=f"write {PLIST}", do=lambda: write(text), undo=undo)


def _enable_step(host: Host) -> Step:
    return Step(title="let it start with the next boot", do=lambda: launchd.enable(host))


def _load_step(host: Host) -> Step:
    return Step(title="load it into launchd", do=lambda: launchd.load(host), undo=lambda: launchd.unload(host))


def _last_words(host: Host) -> str:
    return "\n".join((host.text(LAUNCHD_LOG) or "").splitlines()[-LAST_LINES:])


def _unfinished(path: PurePosixPath) -> PurePosixPath:
    return path.with_name(f"{path.name}.tmp")
