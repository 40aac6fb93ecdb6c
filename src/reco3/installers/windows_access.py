"""Who may touch the agent's files on Windows: SYSTEM and the group of administrators, in every language of Windows.

It refuses places that a service cannot run from, and those that a command line cannot name.
"""

import os
from pathlib import PurePath, PureWindowsPath

from reco3.installers.host import Host
from reco3.installers.layouts import Layout
from reco3.installers.steps import Step
from reco3.installers.troubles import InstallError

# Names are translated, these numbers are not: "Well-known SIDs", learn.microsoft.com.
SYSTEM_SID = "*S-1-5-18"
ADMINISTRATORS_SID = "*S-1-5-32-544"
# Windows' old limit is 260, and the longest name below the folder, of a module as Python compiles it, has some 140.
MAX_HOME_CHARS = 110
_TO_INHERIT = "(OI)(CI)"


def system_program(name: str) -> str:
    """The full name of one of the system's own programs: a bare one would be looked for in the current folder first."""
    return os.environ.get("SystemRoot", r"C:\Windows") + rf"\System32\{name}"  # noqa: SIM112 - Windows spells it so


def seal_file(host: Host, path: PurePath) -> None:
    """Let nobody but SYSTEM and administrators read or write a file."""
    _seal(host, path, "F")


def seal_folder(host: Host, path: PurePath) -> None:
    """Let nobody but them into a folder, and to what is or will be in it."""
    _seal(host, path, f"{_TO_INHERIT}F")


def folders_step(host: Host, layout: Layout) -> Step:
    """Make the folders for state and log, closed before anything is in them; on an upgrade close them again."""
    folders = (layout.state, layout.log.parent)
    were_there = {path: host.exists(path) for path in folders}

    def make() -> None:
        for path in folders:
            host.make_folder(path)
            seal_folder(host, path)

    def undo() -> None:
        for path, was_there in were_there.items():
            if not was_there:
                host.remove(path)

    return Step(title="make the folders for state and log, for SYSTEM and administrators alone", do=make, undo=undo)


def config_seal_step(host: Host, layout: Layout) -> Step:
    """Close the config, also one that an administrator has written by hand and that is kept."""
    return Step(
        title=f"let SYSTEM and administrators alone read {layout.config}", do=lambda: seal_file(host, layout.config)
    )


def place_step(layout: Layout, python: PureWindowsPath) -> Step:
    """Refuse to install where it could not work, before anything has changed."""

    def refuse() -> None:
        for path in (layout.home, python):
            _check_place(path)
        if len(str(layout.home)) > MAX_HOME_CHARS:
            raise InstallError(
                "place_too_deep",
                f"{layout.home} has {len(str(layout.home))} characters, expected at most {MAX_HOME_CHARS}",
                r"move the folder to a shorter path, such as C:\Program Files\RECO3, and install it from there",
            )
        if is_of_the_store(python):
            raise InstallError(
                "store_python",
                f"{python} is of the Microsoft Store, and no service can start programs from its folder",
                "install Python from python.org for all users, then run the same again",
            )

    return Step(title="see that a service can run from here", do=refuse)


def place_notes(layout: Layout, python: PureWindowsPath) -> list[str]:
    """What a person should know of the places: whoever can rename a folder can have SYSTEM run something else."""
    return [
        f"{path} is not below {safe}: on a PC that others use too, whoever may change or rename that folder can have "
        f"SYSTEM run what he likes; {to_do}"
        for path, to_do in (
            (layout.home, "move the agent there and install it from there"),
            (python, "install Python there, for all users"),
        )
        if not is_below(path, safe := _program_files())
    ]


def is_of_the_store(python: PureWindowsPath) -> bool:
    """Whether a Python is one of the Microsoft Store's, or the link that stands for one."""
    return "windowsapps" in (part.lower() for part in python.parts)


def is_below(path: PurePath, folder: PurePath) -> bool:
    """Whether a path is within a folder; case does not matter to Windows, and pure Windows paths know that."""
    return folder in path.parents


def _program_files() -> PureWindowsPath:
    return PureWindowsPath(os.environ.get("ProgramFiles", r"C:\Program Files"))  # noqa: SIM112 - likewise


def _check_place(path: PurePath) -> None:
    if path.drive.startswith("\\\\"):
        raise InstallError(
            "place_on_network",
            f"{path} is on another machine, where SYSTEM has no rights",
            "copy the folder to a disk of this PC and install it from there",
        )
    if "%" in str(path):
        # The service manager takes %NAME% in a command line for a variable.
        raise InstallError(
            "place_with_percent",
            f"{path}: a service's command line cannot hold a %",
            "rename the folder, or move it, and install it from there",
        )


def _seal(host: Host, path: PurePath, right: str) -> None:
    to_do = "run the installer as administrator, on a disk with NTFS"
    icacls = system_program("icacls.exe")
    # An owner may always change the list of rights, so it must not be an ordinary user who once wrote the file.
    host.must([icacls, path, "/setowner", ADMINISTRATORS_SID, "/q"], code="not_sealed", to_do=to_do)
    grants = [f"{SYSTEM_SID}:{right}", f"{ADMINISTRATORS_SID}:{right}"]
    host.must([icacls, path, "/inheritance:r", "/grant:r", *grants, "/q"], code="not_sealed", to_do=to_do)
