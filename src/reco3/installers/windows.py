"""The plan for Windows: the service RECO3Agent, everything below the `agent` folder that it is installed from.

It refuses to start what others could change: application, config, state and log are for SYSTEM and administrators.
"""

import sys
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath

from reco3.installers import windows_service as service
from reco3.installers.host import Host
from reco3.installers.layouts import Layout, Source
from reco3.installers.orders import InstallOrder, UninstallOrder
from reco3.installers.payload import (
    STAMP,
    Extras,
    Launcher,
    build_step,
    forget_old_step,
    mend_step,
    python_step,
    swap_step,
)
from reco3.installers.programs import Word
from reco3.installers.removal import removal_steps
from reco3.installers.services import doctor_step, running_step
from reco3.installers.settings import config_step, kept_config_notes, pins_step
from reco3.installers.steps import Step
from reco3.installers.troubles import InstallError
from reco3.installers.windows_access import (
    config_seal_step,
    folders_step,
    place_notes,
    place_step,
    seal_file,
    seal_folder,
)
from reco3.installers.windows_words import command_line

INSTALLER = "install_service.ps1"
UNINSTALLER = "uninstall_service.ps1"
# The service must read what SYSTEM and administrators alone may read, and control other services: see the ADR.
USERS = ()
SCRIPT = "reco3_agent_service.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsLayout(Layout):
    """The installed files; a config in the making is in the state folder, which is closed to others already."""

    @property
    def new_config(self) -> PurePath:
        """The config while it is made."""
        return self.state / f"{self.config.name}.new"


def layout_below(home: PureWindowsPath) -> WindowsLayout:
    """Where things are when the `agent` folder is `home`."""
    return WindowsLayout(
        home=home,
        app=home / "venv",
        config=home / "config.yaml",
        state=home / "state",
        log=home / "logs" / "agent.log",
        platform="windows",
        python_in_app="Scripts/python.exe",
        packages_in_app="Lib/site-packages",
    )


LAYOUT = layout_below(PureWindowsPath(Path(__file__).resolve().parents[3] / "agent"))
# The Python itself, also when an environment's launcher was called, which would stand between it and Windows.
PYTHON = PureWindowsPath(getattr(sys, "_base_executable", sys.executable))


def install_steps(
    order: InstallOrder,
    host: Host,
    source: Source,
    *,
    layout: Layout = LAYOUT,
    python: PureWindowsPath = PYTHON,
) -> list[Step]:
    """What to do: the agent that runs is stopped only once all for the new one is ready."""
    steps = [
        place_step(layout, python),
        python_step(host),
        folders_step(host, layout),
        mend_step(host, layout),
        build_step(host, layout, source, order, _launcher(), extras=_extras(host, source, python)),
        config_step(host, layout, source, order, seal=lambda path: seal_file(host, path)),
        pins_step(host, layout, order, seal=lambda path: seal_file(host, path)),
        config_seal_step(host, layout),
        _stop_step(host, layout),
        swap_step(host, layout),
        _register_step(host, command_line(service_argv(layout, python))),
    ]
    if not order.is_started:
        return steps
    return [
        *steps,
        _start_step(host),
        _running_step(host, layout),
        forget_old_step(host, layout),
        doctor_step(host, layout),
    ]


def uninstall_steps(order: UninstallOrder, host: Host, *, layout: Layout = LAYOUT) -> list[Step]:
    """What to remove; config, key and state may stay, closed to others as they are."""
    return [
        Step(title="stop the service", is_done=lambda: service.is_stopped(host), do=lambda: service.stop(host)),
        Step(
            title=f"remove the service {service.NAME}",
            is_done=lambda: not service.is_there(host),
            do=lambda: service.remove(host),
        ),
        Step(
            title="let the event log forget where the texts of its events are",
            is_done=lambda: not service.has_event_source(host),
            do=lambda: service.forget_event_source(host),
        ),
        *removal_steps(host, layout, keeps_config=order.keeps_config, kept_owner=None),
    ]


def notes(order: InstallOrder, host: Host, *, layout: Layout = LAYOUT, python: PureWindowsPath = PYTHON) -> list[str]:
    """What whoever installs should know beforehand."""
    return [*kept_config_notes(host, layout, order), *place_notes(layout, python)]


def farewell(order: InstallOrder) -> str:
    """What to say when all is done."""
    if not order.is_started:
        return f"Installed. It starts with the next boot, or by: sc.exe start {service.NAME}"
    return f"Installed and running. Its log: {LAYOUT.log}; what it may do here: {LAYOUT.config}"


def service_argv(layout: Layout, python: PureWindowsPath) -> list[str]:
    """How the service manager starts the agent: by the Python itself, not through the environment's launcher."""
    return [str(python), "-I", "-S", str(layout.app / SCRIPT), str(layout.config)]


def _extras(host: Host, source: Source, python: PureWindowsPath) -> Extras:
    folder = source.root / "agent" / "windows"

    def trial(app: PurePath) -> list[Word]:
        return [str(python), "-I", "-S", app / SCRIPT, "--check"]

    return Extras(
        requirements=(folder / "requirements-windows.txt",),
        files=((folder / SCRIPT, SCRIPT),),
        trial=trial,
        seal=lambda path: seal_folder(host, path),
    )


def _launcher() -> Launcher:
    """`reco3` for cmd and PowerShell."""
    return Launcher("reco3.cmd", '@"%~dp0Scripts\\python.exe" -I -m reco3.cli %*\r\n')


def _stop_step(host: Host, layout: Layout) -> Step:
    """Stop the agent that runs; undone, it is started as it was."""

    def undo() -> None:
        if host.exists(layout.app / STAMP) and service.is_there(host):
            service.start(host)

    return Step(
        title="stop the agent that runs",
        is_done=lambda: service.is_stopped(host),
        do=lambda: service.stop(host),
        undo=undo,
    )


def _register_step(host: Host, new: str) -> Step:
    before = service.command_line_of(host)

    def undo() -> None:
        if before is None:
            service.remove(host)
        else:
            service.register(host, before)

    return Step(
        title=f"register the service {service.NAME}: as LocalSystem, after the boot, restarted when it fails",
        do=lambda: service.register(host, new),
        undo=undo,
    )


def _start_step(host: Host) -> Step:
    return Step(title="start it", do=lambda: service.start(host), undo=lambda: service.stop(host))


def _running_step(host: Host, layout: Layout) -> Step:
    """See that it runs; what an agent says that ended before it could open its log stands in the event log."""
    step = running_step(host, lambda: service.process_id(host), layout=layout, undo=lambda: None)

    def wait() -> None:
        try:
            step.do()
        except InstallError as error:
            raise InstallError(error.code, error.found, f"{error.to_do}; {service.EVENTS}") from error

    return Step(title=step.title, do=wait)
