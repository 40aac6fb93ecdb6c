"""The installers' engine with pip played: packages come from this test's own Python, all else is real."""

import os
import sys
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "src"))
sys.dont_write_bytecode = True

from reco3.installers import macos, verbs  # noqa: E402 - only now can it be found
from reco3.installers.host import Host, run_program  # noqa: E402 - likewise
from reco3.installers.layouts import Source  # noqa: E402 - likewise
from reco3.installers.orders import read_install, read_uninstall  # noqa: E402 - likewise
from reco3.installers.programs import Call, Ran  # noqa: E402 - likewise


def without_pip(call: Call) -> Ran:
    """Run a program, but for pip."""
    if call.argv[1:4] == ("-I", "-m", "venv"):
        return run_program(Call(call.argv, (*call.real_argv, "--without-pip"), call.stdin))
    if call.argv[1:4] == ("-I", "-m", "pip"):
        packages = next(Path(call.real_argv[0]).parents[1].glob("lib/*/site-packages"))
        (packages / "played.pth").write_text(f"{Path(psutil.__file__).parents[1]}\n")
        return Ran(0)
    return run_program(call)


def main(words: list[str]) -> int:
    """As `verbs.main` does it."""
    os.umask(verbs.UMASK)
    assert words[0] == "macos"
    if words[1] == "install":
        order = read_install(words[2:], program=macos.INSTALLER, users=macos.USERS)
        host = Host(verbs._say, is_dry=order.is_dry, programs=without_pip)
        return verbs.install(macos, order, Source(REPOSITORY), host)
    return verbs.uninstall(macos, read_uninstall(words[2:], program=macos.UNINSTALLER))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
