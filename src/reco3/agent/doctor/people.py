"""For whom the doctor judges, and what that person may do with a file.

It refuses to ask the system on behalf of root what root may do, when the agent runs as somebody else.
"""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

READ, WRITE, EXECUTE = 4, 2, 1
_VERBS = {READ: "read", WRITE: "write", EXECUTE: "execute"}
ROOT = 0


@dataclass(frozen=True, slots=True)
class Person:
    """A user of this PC; `is_self` says that the doctor runs as this one, and then the system itself is asked."""

    name: str
    uid: int = -1
    gids: frozenset[int] = frozenset()
    is_self: bool = True


@dataclass(frozen=True, slots=True)
class Rights:
    """Owner, group and mode of one file or folder."""

    uid: int
    gid: int
    mode: int


def service_person(state_dir: Path, config: Path) -> tuple[Person, str]:
    """The user whom the agent runs as, by who owns its state or else its config; and what was owned."""
    if sys.platform == "win32":
        return Person(os.environ.get("USERNAME", "the present user")), ""
    # What may not be looked at counts as absent.
    owned = state_dir if os.path.exists(state_dir) else config  # noqa: PTH110 - Path.exists would raise
    uid, own_uid = owned.stat().st_uid, os.geteuid()
    if own_uid in {ROOT, uid} and uid != own_uid:
        return _person(uid, is_self=False), str(owned)
    return _person(own_uid, is_self=True), "" if own_uid in {ROOT, uid} else f"{owned} ({_name_of(uid)})"


def cannot(person: Person, path: Path, want: int) -> str:
    """Why a person may not read, write or execute a path that is there; empty when nothing speaks against it."""
    if person.is_self:
        return "" if os.access(path, want) else f"{person.name} may not {_VERBS[want]} {path}"
    real = Path(os.path.realpath(path))
    chain = [(folder, _rights(folder)) for folder in reversed(real.parents)]
    return judge(person, (real, _rights(real)), chain, want)


def judge(person: Person, target: tuple[Path, Rights], folders: Iterable[tuple[Path, Rights]], want: int) -> str:
    """The same from the bits alone: every folder on the way must let the person through."""
    for folder, rights in folders:
        if not _has(person, rights, EXECUTE):
            return f"{person.name} may not enter {folder} (mode {rights.mode & 0o777:04o})"
    path, rights = target
    if _has(person, rights, want):
        return ""
    return f"{person.name} may not {_VERBS[want]} {path} (mode {rights.mode & 0o777:04o})"


def _has(person: Person, rights: Rights, want: int) -> bool:
    if person.uid == ROOT:
        return want != EXECUTE or bool(rights.mode & 0o111)
    if person.uid == rights.uid:
        return bool(rights.mode & want << 6)
    if rights.gid in person.gids:
        return bool(rights.mode & want << 3)
    return bool(rights.mode & want)


def _rights(path: Path) -> Rights:
    found = path.stat()
    return Rights(found.st_uid, found.st_gid, found.st_mode)


def _person(uid: int, *, is_self: bool) -> Person:
    import pwd  # noqa: PLC0415 - does not exist on Windows

    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Person(f"user {uid}", uid, frozenset(), is_self)
    gids = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Person(entry.pw_name, uid, gids, is_self)


def _name_of(uid: int) -> str:
    return _person(uid, is_self=False).name
