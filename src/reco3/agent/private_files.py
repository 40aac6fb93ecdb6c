"""Writes files that hold a secret: for their owner alone, and whole or not at all, even through a power cut.

It refuses to follow a link that somebody has laid out at the name it writes to.
"""

import contextlib
import os
import sys
from pathlib import Path


def write_private(path: Path, text: str, *, owner_like: Path) -> None:
    """Write a file with mode 0600; it belongs to whoever owns `owner_like`, as far as we may give it away.

    Raises: OSError.
    """
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        _give_to_owner_of(owner_like, file.fileno())
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    move(unfinished, path)


def move(source: Path, target: Path) -> None:
    """Let a file take another name, and the place of what had it; durable when it returns.

    Raises: OSError.
    """
    source.replace(target)
    if sys.platform == "win32":
        return  # A folder cannot be flushed there.
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _give_to_owner_of(path: Path, descriptor: int) -> None:
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        owner = path.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
