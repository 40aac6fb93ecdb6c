"""The plan for Linux: a systemd unit, a user of its own, and files below /opt/reco3-agent.

It refuses a PC that systemd does not run, and to remove a user that it did not make.
"""

import re
from collections.abc import Sequence
from pathlib import PurePath

from reco3.installers.host import Host
from reco3.installers.layouts import Source, posix_layout
from reco3.installers.linux_users import OWN_USER, user_gone_step, user_step
from reco3.installers.orders import InstallOrder, UninstallOrder
from reco3.installers.payload import (
    build_step,
    forget_old_step,
    mend_step,
    posix_launcher,
    python_step,
    swap_step,
)
from reco3.installers.removal import removal_steps
from reco3.installers.services import doctor_step, running_step
from reco3.installers.settings import config_step, kept_config_notes, pins_step
from reco3.installers.steps import Step
from reco3.installers.systemd import (
    UNIT_FILE,
    booted_step,
    last_words,
    process_of,
    register_step,
    start_step,
    stop_step,
    unit_gone_steps,
)

INSTALLER = "agent/linux/install_systemd.sh"
UNINSTALLER = "agent/linux/uninstall_systemd.sh"
ROOT = "root"
USERS: tuple[str, ...] = (OWN_USER, ROOT)
PRIVATE = 0o600
LAYOUT = posix_layout("linux")
_FOLDERS = ((LAYOUT.home, 0o755), (LAYOUT.state, 0o700), (LAYOUT.log.parent, 0o750))


def install_steps(order: InstallOrder, host: Host, source: Source) -> Sequence[Step]:
    """What to do, in this order."""
    before = installed_user(host)
    user = order.user or before or OWN_USER
    # A unit without an application is what a first run left that was killed.
    was_installed = before is not None and (host.exists(LAYOUT.app) or host.exists(LAYOUT.old_app))

    def seal(path: PurePath) -> None:
        host.give(path, user, mode=PRIVATE)

    steps = [
        booted_step(host),
        python_step(host),
        *([user_step(host)] if user == OWN_USER else []),
        _folders_step(host),
        mend_step(host, LAYOUT),
        build_step(host, LAYOUT, source, order, posix_launcher(LAYOUT)),
        config_step(host, LAYOUT, source, order, seal=seal),
        pins_step(host, LAYOUT, order, seal=seal),
        _owners_step(host, user, before or ROOT),
        stop_step(host, was_installed=was_installed),
        swap_step(host, LAYOUT),
        register_step(host, unit_text(source, user), was_installed=was_installed),
        start_step(host, was_installed=was_installed, is_started=order.is_started),
    ]
    if order.is_started:
        steps.append(running_step(host, lambda: process_of(host), layout=LAYOUT, last_words=lambda: last_words(host)))
        steps += [forget_old_step(host, LAYOUT), doctor_step(host, LAYOUT)]
    return steps


def notes(order: InstallOrder, host: Host) -> Sequence[str]:
    """What whoever installs should know beforehand."""
    return kept_config_notes(host, LAYOUT, order)


def farewell(order: InstallOrder) -> str:
    """What to say when all is done."""
    state = "Installed, and running" if order.is_started else "Installed; it starts with the next boot"
    return (
        f"{state}: systemctl status reco3-agent. Its log: {LAYOUT.log}. What it watches: {LAYOUT.config}, "
        "then systemctl restart reco3-agent."
    )


def uninstall_steps(order: UninstallOrder, host: Host) -> Sequence[Step]:
    """What to remove, in this order."""
    return [
        *unit_gone_steps(host),
        *removal_steps(host, LAYOUT, keeps_config=order.keeps_config, kept_owner=ROOT),
        user_gone_step(host),
    ]


def unit_text(source: Source, user: str) -> str:
    """The unit as it is registered, for the user that it runs as."""
    text = (source.root / "agent" / "linux" / UNIT_FILE.name).read_text(encoding="utf-8")
    if user == OWN_USER:
        return text
    text = re.sub(r"^(User|Group)=.*$", rf"\1={user}", text, flags=re.MULTILINE)
    return text.replace("CapabilityBoundingSet=\n", "")


def installed_user(host: Host) -> str | None:
    """Whom the installed service runs as; None when none is installed."""
    text = host.text(UNIT_FILE)
    if text is None:
        return None
    found = re.search(r"^User=(\S+)$", text, flags=re.MULTILINE)
    return found[1] if found else ROOT


def _folders_step(host: Host) -> Step:
    made: list[PurePath] = []

    def make() -> None:
        for folder, mode in _FOLDERS:
            if not host.exists(folder):
                made.append(folder)
            host.make_folder(folder, mode)
        if not host.exists(LAYOUT.log):
            # Whoever writes to it first, root with `reco3 agent trust` perhaps, does not make it readable for others.
            host.write(LAYOUT.log, "", PRIVATE)

    def unmake() -> None:
        for folder in reversed(made):
            # A config whose key was enrolled stays where it is.
            host.remove_if_empty(folder) if folder == LAYOUT.home else host.remove(folder)

    return Step(title=f"make the folders {', '.join(str(folder) for folder, _ in _FOLDERS)}", do=make, undo=unmake)


def _owners_step(host: Host, user: str, before: str) -> Step:
    """The config, state and log belong to the user that the service runs as, and nobody else reads them."""

    def give_all(owner: str) -> None:
        host.give(LAYOUT.config, owner, mode=PRIVATE)
        host.give(LAYOUT.state, owner, mode=0o700)
        host.give(LAYOUT.log.parent, owner, mode=0o750)

    return Step(title=f"give config, state and log to {user}", do=lambda: give_all(user), undo=lambda: give_all(before))
