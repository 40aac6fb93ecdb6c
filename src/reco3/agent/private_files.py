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
    with os.fdopen(create_private(unfinished, like=owner_like), "wb") as file:
        _give_to_owner_of(owner_like, file.fileno())
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    move(unfinished, path)


def create_private(path: Path, *, like: Path) -> int:
    """Create a file of a name that nothing has yet, readable for its owner alone; returns its descriptor.

    On Windows it has the access list of the file `like` from its first moment, where others would have that of its
    folder, which may be open to many.
    Raises: OSError.
    """
    if sys.platform == "win32" and like.is_file():
        return _created_with_access_of(like, path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


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


if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    _ACCESS_LIST = 0x4
    _GENERIC_WRITE = 0x40000000
    _ONLY_NEW = 1
    _ATTRIBUTE_NORMAL = 0x80

    class _SecurityAttributes(ctypes.Structure):
        _fields_ = (
            ("nLength", wintypes.DWORD),
            ("lpSecurityDescriptor", wintypes.LPVOID),
            ("bInheritHandle", wintypes.BOOL),
        )

    def _created_with_access_of(like: Path, path: Path) -> int:
        descriptor = _access_of(like)
        size = ctypes.sizeof(_SecurityAttributes)
        attributes = _SecurityAttributes(size, ctypes.cast(descriptor, wintypes.LPVOID), 0)
        create_file = ctypes.WinDLL("kernel32", use_last_error=True).CreateFileW
        create_file.restype = wintypes.HANDLE
        handle = create_file(str(path), _GENERIC_WRITE, 0, ctypes.byref(attributes), _ONLY_NEW, _ATTRIBUTE_NORMAL, None)
        if handle == wintypes.HANDLE(-1).value:
            raise ctypes.WinError(ctypes.get_last_error())
        return msvcrt.open_osfhandle(handle, os.O_WRONLY | os.O_BINARY)

    def _access_of(path: Path) -> "ctypes.Array[ctypes.c_char]":
        get_security = ctypes.WinDLL("advapi32", use_last_error=True).GetFileSecurityW
        needed = wintypes.DWORD()
        get_security(str(path), _ACCESS_LIST, None, 0, ctypes.byref(needed))
        descriptor = ctypes.create_string_buffer(max(1, needed.value))
        if not get_security(str(path), _ACCESS_LIST, descriptor, needed, ctypes.byref(needed)):
            raise ctypes.WinError(ctypes.get_last_error())
        return descriptor
