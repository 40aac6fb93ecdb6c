"""`install.py SYSTEM install|uninstall WORDS`, which the scripts for each system call.

It refuses systems that have no plan, and to go on after a failure as if there was none.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from reco3.installers.host import Host
from reco3.installers.layouts import Source
from reco3.installers.orders import InstallOrder, UninstallOrder, read_install, read_uninstall
from reco3.installers.steps import Step, take, take_all
from reco3.installers.troubles import InstallError

EXIT_OK, EXIT_FAILED, EXIT_BAD_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
SCRATCH_VARIABLE = "RECO3_INSTALL_ROOT"
SYSTEMS = ("linux", "macos", "windows")
# What is installed is for others to read, but for what is made private by name.
UMASK = 0o022


class Plan(Protocol):
    """The module of one system."""

    INSTALLER: str
    UNINSTALLER: str
    USERS: tuple[str, ...]

    def install_steps(self, order: InstallOrder, host: Host, source: Source) -> Sequence[Step]:
        """What to do, in this order."""
        ...

    def notes(self, order: InstallOrder, host: Host) -> Sequence[str]:
        """What whoever installs should know beforehand."""
        ...

    def farewell(self, order: InstallOrder) -> str:
        """What to say when all is done."""
        ...

    def uninstall_steps(self, order: UninstallOrder, host: Host) -> Sequence[Step]:
        """What to remove, in this order."""
        ...


def main(words: Sequence[str], source: Source) -> int:
    """Install or uninstall; returns the exit code."""
    if len(words) < 2 or words[0] not in SYSTEMS or words[1] not in {"install", "uninstall"}:  # noqa: PLR2004 - two
        sys.stderr.write(f"usage: install.py {'|'.join(SYSTEMS)} install|uninstall WORDS\n")
        return EXIT_BAD_USAGE
    os.umask(UMASK)
    plan: Plan = importlib.import_module(f"reco3.installers.{words[0]}")
    try:
        if words[1] == "install":
            return install(plan, read_install(words[2:], program=plan.INSTALLER, users=plan.USERS), source)
        return uninstall(plan, read_uninstall(words[2:], program=plan.UNINSTALLER))
    except InstallError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: run the same again to finish it, or the uninstaller to remove what there is\n")
        return EXIT_INTERRUPTED


def install(plan: Plan, order: InstallOrder, source: Source, host: Host | None = None) -> int:
    """Take the steps of an installation."""
    host = host or _host(is_dry=order.is_dry)
    for note in plan.notes(order, host):
        host.say(f"note: {note}")
    try:
        take(plan.install_steps(order, host, source), say=host.say)
    except InstallError:
        host.say("Not installed; what this run did was undone.")
        return EXIT_FAILED
    host.say("Nothing was done: --dry-run." if order.is_dry else plan.farewell(order))
    return EXIT_OK


def uninstall(plan: Plan, order: UninstallOrder, host: Host | None = None) -> int:
    """Take the steps of an uninstallation, each whatever came of the others."""
    host = host or _host(is_dry=order.is_dry)
    failures = take_all(plan.uninstall_steps(order, host), say=host.say)
    for failure in failures:
        host.say(f"left: {failure}")
    if order.is_dry:
        host.say("Nothing was done: --dry-run.")
    elif not failures:
        host.say("Removed." if not order.keeps_config else "Removed; config, key and state are kept.")
    return EXIT_FAILED if failures else EXIT_OK


def _host(*, is_dry: bool) -> Host:
    """This PC, or for a trial a folder that stands in for it, where owners are only said."""
    scratch = os.environ.get(SCRATCH_VARIABLE)
    if not scratch:
        return Host(_say, is_dry=is_dry)
    root = Path(scratch).resolve()
    return Host(
        _say,
        root=root,
        is_dry=is_dry,
        owners=lambda path, owner: _say(f"      give /{path.relative_to(root)} to {owner}"),
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
