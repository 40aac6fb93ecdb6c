"""Builds the application beside the one that runs, and lets it take that one's place.

It refuses packages whose hash is not the one in requirements-agent.txt, to build any from source, and to throw the old
application away before the new one has shown that it runs.
"""

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from reco3.installers.host import Host
from reco3.installers.layouts import PYTHON_VERSION, Layout, Source
from reco3.installers.orders import InstallOrder
from reco3.installers.programs import Word
from reco3.installers.steps import Step
from reco3.installers.troubles import InstallError

STAMP = "reco3-app"
TRIAL = "import cryptography, psutil, yaml, reco3.agent.agent"
_NO_VENV = (
    "install what Python's own venv needs: on Debian and Ubuntu `apt install python3-venv` (or python3.12-venv and so "
    "on, as your Python's version is); then run the same again"
)


@dataclass(frozen=True, slots=True)
class Launcher:
    """A small script in the application, by which people call `reco3` on this PC."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What one system's application holds besides.

    `requirements` are more packages, with hashes; `files` are of the source tree, each with its name in the
    application; `trial` says how to see that it works as that system runs it; `seal` closes the folder to others before
    anything is in it.
    """

    requirements: tuple[Path, ...] = ()
    files: tuple[tuple[Path, str], ...] = ()
    trial: Callable[[PurePath], list[Word]] | None = None
    seal: Callable[[PurePath], None] | None = None


NO_EXTRAS = Extras()


def posix_launcher(layout: Layout) -> Launcher:
    """`reco3` for a shell."""
    python = layout.python(layout.app)
    return Launcher("bin/reco3", f'#!/bin/sh\nexec "{python}" -I -m reco3.cli "$@"\n')


def python_step(host: Host) -> Step:
    """Make sure that this Python can make virtual environments; the check of its version is the scripts'."""

    def has_venv() -> bool:
        return host.ask([sys.executable, "-I", "-c", "import ensurepip, venv"]).is_ok

    def refuse() -> None:
        raise InstallError("no_venv", f"{sys.executable} cannot make a virtual environment with pip in it", _NO_VENV)

    return Step(title="see that Python can make a virtual environment", is_done=has_venv, do=refuse)


def mend_step(host: Host, layout: Layout) -> Step:
    """Put the application back that a run which was killed between two renames has left aside."""
    return Step(
        title=f"put {layout.app} back in its place",
        is_done=lambda: host.exists(layout.app) or not _is_whole(host, layout.old_app),
        do=lambda: host.rename(layout.old_app, layout.app),
    )


def build_step(
    host: Host, layout: Layout, source: Source, order: InstallOrder, launcher: Launcher, *, extras: Extras = NO_EXTRAS
) -> Step:
    """Build `app.new`, unless it is there and complete, or the application in use is the very same and works."""
    stamp = _stamp(source, layout, launcher, extras)
    new = layout.new_app

    def is_done() -> bool:
        return host.text(new / STAMP) == stamp or is_current(host, layout, stamp, extras)

    def build() -> None:
        discard(host, new)
        if extras.seal is not None:
            host.make_folder(new)
            extras.seal(new)
        host.must([sys.executable, "-I", "-m", "venv", new], code="no_venv", to_do=_NO_VENV)
        _install_packages(host, layout, (source.requirements, *extras.requirements), order)
        packages = layout.packages(new)
        host.copy_tree(source.package, packages / "reco3")
        host.copy(source.template, packages / "reco3" / "agent" / "config.example.yaml")
        for file, name in extras.files:
            host.copy(file, new / name)
        # What Python compiled names its file as it will be called.
        compiled = layout.python_argv(new, "-m", "compileall", "-q", "-s", new, "-p", layout.app, packages / "reco3")
        host.must(compiled, code="payload_broken", to_do="see whether the disk is full and the source tree is whole")
        host.write(new / launcher.name, launcher.text, 0o755)
        for trial in _trials(layout, new, extras):
            host.must(trial, code="payload_broken", to_do="run the same again; if it stays so, report it")
        host.write(new / STAMP, stamp)

    return Step(title=f"build the application in {new}", is_done=is_done, do=build, undo=lambda: discard(host, new))


def is_current(host: Host, layout: Layout, stamp: str, extras: Extras = NO_EXTRAS) -> bool:
    """Whether the application in use is this one, and works."""
    works = (host.ask(trial).is_ok for trial in _trials(layout, layout.app, extras))
    return host.text(layout.app / STAMP) == stamp and all(works)


def swap_step(host: Host, layout: Layout) -> Step:
    """Let `app.new` take the place of `app`, which waits as `app.old`; undone, that is back. Nothing may run meanwhile.

    While there is an `app.old`, the one in use has not shown yet that it runs: that is not done, and can be undone.
    """
    app, new, old = layout.app, layout.new_app, layout.old_app

    def swap() -> None:
        if not host.exists(new):
            return
        if _is_whole(host, old):
            discard(host, app)
        elif host.exists(app):
            host.remove(old)
            host.rename(app, old)
        host.rename(new, app)

    def swap_back() -> None:
        if not host.exists(new):
            discard(host, app)
        if _is_whole(host, old) and not host.exists(app):
            host.rename(old, app)

    return Step(
        title=f"let it take the place of {app}",
        is_done=lambda: not host.exists(new) and not _is_whole(host, old),
        do=swap,
        undo=swap_back,
    )


def forget_old_step(host: Host, layout: Layout) -> Step:
    """Throw the old application away, once the new one has shown that it runs."""
    return Step(
        title="throw the old application away",
        is_done=lambda: not host.exists(layout.old_app),
        do=lambda: discard(host, layout.old_app),
    )


def discard(host: Host, app: PurePath) -> None:
    """Remove an application; its stamp goes first, so that none that is half removed counts as one."""
    host.remove(app / STAMP)
    host.remove(app)


def newest_app(host: Host, layout: Layout) -> PurePath:
    """The application that this run brings: the new one until it has the old one's place."""
    return layout.new_app if _is_whole(host, layout.new_app) else layout.app


def _is_whole(host: Host, app: PurePath) -> bool:
    return host.exists(app / STAMP)


def _install_packages(host: Host, layout: Layout, requirements: Sequence[Path], order: InstallOrder) -> None:
    pip = layout.python_argv(layout.new_app, "-m", "pip", "--disable-pip-version-check", "--no-input", "install")
    files: list[Word] = [word for path in requirements for word in ("-r", path)]
    offline: list[Word] = ["--no-index", "--find-links", order.wheels] if order.wheels else []
    host.must(
        [*pip, "--quiet", "--require-hashes", "--only-binary=:all:", *offline, *files],
        code="no_packages",
        to_do="let this PC reach the package index (HTTPS_PROXY and PIP_INDEX_URL say how), or give --wheels DIR",
    )


def _trials(layout: Layout, app: PurePath, extras: Extras) -> list[list[Word]]:
    own = layout.python_argv(app, "-c", TRIAL)
    return [own] if extras.trial is None else [own, extras.trial(app)]


def _stamp(source: Source, layout: Layout, launcher: Launcher, extras: Extras) -> str:
    """A name of the very application that this source tree and this Python make."""
    digest = hashlib.sha256(f"{PYTHON_VERSION}\0{sys.executable}\0{layout.app}\0{launcher.text}".encode())
    files = sorted(path for path in source.package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    besides = [file for file, _name in extras.files]
    for path in (source.requirements, source.template, *extras.requirements, *besides, *files):
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(source.root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return f"{digest.hexdigest()}\n"
