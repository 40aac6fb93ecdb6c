"""Where things are on the PC, and in the source tree that they come from.

It refuses to look: paths here are names, not files.
"""

import sys
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from reco3.installers.programs import Word

PYTHON_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The installed files. `app` is a virtual environment with the package in it; all but `log` is below `home`.

    The plans give pure paths, of the system that they are for; `platform` is what the config calls that system.
    """

    home: PurePath
    app: PurePath
    config: PurePath
    state: PurePath
    log: PurePath
    platform: str
    python_in_app: str = "bin/python"
    packages_in_app: str = f"lib/{PYTHON_VERSION}/site-packages"

    @property
    def new_app(self) -> PurePath:
        """Where the next application is built."""
        return self.app.with_name(f"{self.app.name}.new")

    @property
    def old_app(self) -> PurePath:
        """Where the one before it waits until the new one has shown that it runs."""
        return self.app.with_name(f"{self.app.name}.old")

    @property
    def new_config(self) -> PurePath:
        """The config while it is made."""
        return self.config.with_name(f"{self.config.name}.new")

    def python(self, app: PurePath) -> PurePath:
        """The Python of an application."""
        return app / self.python_in_app

    def python_argv(self, app: PurePath, *words: Word) -> list[Word]:
        """A call of that Python, which then heeds neither the environment nor the folder that it is started in."""
        return [self.python(app), "-I", *words]

    def reco3_argv(self, app: PurePath, *words: Word) -> list[Word]:
        """A call of the product in an application."""
        return self.python_argv(app, "-m", "reco3.cli", *words)

    def packages(self, app: PurePath) -> PurePath:
        """Where an application's packages are."""
        return app / self.packages_in_app


def posix_layout(platform: str) -> Layout:
    """Where things are on Linux and macOS alike."""
    home = PurePosixPath("/opt/reco3-agent")
    return Layout(
        home=home,
        app=home / "app",
        config=home / "config.yaml",
        state=home / "state",
        log=PurePosixPath("/var/log/reco3-agent/agent.log"),
        platform=platform,
    )


@dataclass(frozen=True, slots=True)
class Source:
    """The source tree that the installer was started from."""

    root: Path

    @property
    def package(self) -> Path:
        """The product."""
        return self.root / "src" / "reco3"

    @property
    def requirements(self) -> Path:
        """What the agent needs, with hashes."""
        return self.root / "agent" / "common" / "requirements-agent.txt"

    @property
    def template(self) -> Path:
        """What a config starts from."""
        return self.root / "agent" / "common" / "config.example.yaml"
