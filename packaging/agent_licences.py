"""Writes the licences of everything that a single-file agent contains into one text beside it.

It refuses to write one that lacks a part: a library without a licence file stops the build.
"""

import sys
import sysconfig
from importlib import metadata
from pathlib import Path

LIBRARIES = ("cryptography", "cffi", "psutil", "PyYAML", "pycparser", "pyinstaller")
LICENCE_WORDS = ("LICENSE", "LICENCE", "COPYING")


class NoLicenceError(Exception):
    """A part has no licence file where one is expected; the text names it."""


def write_licences(path: Path, root: Path) -> None:
    """Write RECO3's licence, Python's, and that of each library.

    Raises: NoLicenceError.
    """
    parts = {"RECO3": (root / "LICENSE").read_text(encoding="utf-8"), f"Python {sys.version.split()[0]}": _pythons()}
    parts |= {f"{name} {metadata.version(name)}": _licence_of(name) for name in LIBRARIES if _is_here(name)}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(f"==== {title} ====\n\n{licence.strip()}" for title, licence in parts.items())
    path.write_text(f"{text}\n", encoding="utf-8")


def _is_here(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _licence_of(name: str) -> str:
    files = [file for file in metadata.files(name) or () if file.name.upper().startswith(LICENCE_WORDS)]
    texts = [file.read_text(encoding="utf-8") for file in files if file.suffix.lower() in {"", ".txt", ".rst", ".md"}]
    texts += [file.read_text(encoding="utf-8") for file in files if file.suffix.upper() in {".APACHE", ".BSD"}]
    if not texts:
        raise NoLicenceError(f"{name}: expected a licence file in the installed package, found none")
    return "\n\n".join(texts)


def _pythons() -> str:
    """Python's own licence, from the file that its installation brings, wherever that lies on this system."""
    library = Path(sysconfig.get_path("stdlib"))
    places = [library / "LICENSE.txt", Path(sys.base_prefix) / "LICENSE.txt", *library.parent.glob("python3*/LICENSE*")]
    debian = Path(f"/usr/share/doc/python3.{sys.version_info.minor}/copyright")
    found = next((place for place in [*places, debian] if place.is_file()), None)
    if found is None:
        raise NoLicenceError(f"Python: expected LICENSE.txt in {library}, found none")
    return found.read_text(encoding="utf-8")
