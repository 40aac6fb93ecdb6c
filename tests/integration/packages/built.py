"""Builds the packages from what git tracks, and makes environments that see a wheel and no source tree."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EPOCH = "1700000000"


@dataclass(frozen=True, slots=True)
class Packages:
    """The files of a release."""

    wheel: Path
    sdist: Path

    @property
    def wheel_names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    @property
    def sdist_names(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            return {name.partition("/")[2] for name in archive.getnames() if "/" in name}

    def metadata(self) -> str:
        with zipfile.ZipFile(self.wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            return archive.read(name).decode()


def clean_tree(folder: Path) -> Path:
    """A copy of what git tracks here, as it stands in the working copy."""
    if not (ROOT / ".git").exists():
        pytest.skip("what belongs into a package is what git tracks, and there is no git here")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        source, target = ROOT / name, folder / name
        if name and source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    return folder


def build(tree: Path, out: Path) -> Packages:
    """Build both packages with the locked build tool."""
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(out)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    subprocess.run(argv, cwd=tree, env=environment, check=True, capture_output=True, timeout=60)
    return Packages(next(out.glob("*.whl")), next(out.glob("*.tar.gz")))


def everything_but_us() -> list[str]:
    """The running environment's libraries; a path in a .pth file adds no .pth file of its own, so no source tree."""
    return [path for path in sys.path if path.endswith("site-packages")]


def environment_with(folder: Path, wheel: Path, libraries: Iterable[str]) -> Path:
    """A new environment with the wheel installed and these folders beside it; returns its Python."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--no-deps", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True, timeout=60)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "libraries.pth").write_text("".join(f"{path}\n" for path in libraries), encoding="utf-8")
    return python


def agent_libraries(folder: Path) -> Path:
    """A folder that holds what a wheel without extras requires, and nothing else, as links to the running ones."""
    folder.mkdir()
    for name in _required(["cryptography", "psutil", "PyYAML"]):
        distribution = importlib.metadata.distribution(name)
        for top in {Path(str(file)).parts[0] for file in distribution.files or ()} - {".."}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))))
    return folder


def _required(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.append(name)
        for requirement in importlib.metadata.requires(name) or ():
            match = re.match(r"[A-Za-z0-9._-]+", requirement)
            if match and "extra ==" not in requirement:
                waiting.append(match[0])
    return found
