"""Judges the log files that the agent follows and the one that it writes.

It refuses to read a line of them.
"""

import stat
from pathlib import Path

from reco3.agent.config import AgentConfig
from reco3.agent.doctor.findings import Finding, broken, note, ok, word
from reco3.agent.doctor.people import READ, WRITE, Person, cannot
from reco3.agent.platform import open_shared


def check_logs(config: AgentConfig, person: Person) -> list[Finding]:
    """Every followed file, and the agent's own."""
    followed = [_followed(Path(path), person) for path in dict.fromkeys(config.watch.log_files)]
    return [*followed, _own(config.logging.file, person)]


def _followed(path: Path, person: Person) -> Finding:
    code = "log_file"
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return note(
            code,
            f"{path} is not there; it is followed as soon as it appears",
            "correct watch.log_files if the name is wrong",
        )
    except OSError as error:
        return broken(code, f"{path} cannot be looked at: {error.strerror}", _cure(path, person))
    if not stat.S_ISREG(status.st_mode):
        return broken(code, f"{path} is no regular file, and only those are followed", "correct watch.log_files")
    why = cannot(person, path, READ)
    if not why and person.is_self:
        why = _why_not_opened(path)
    if why:
        return broken(code, f"none of its lines reach the server: {why}", _cure(path, person))
    return ok(code, f"{person.name} may read {path}")


def _why_not_opened(path: Path) -> str:
    try:
        open_shared(str(path)).close()
    except OSError as error:
        return f"{path} cannot be opened: {error.strerror}"
    return ""


def _cure(path: Path, person: Person) -> str:
    return (
        f"let {person.name} read it, and enter its folders (x), such as: sudo setfacl -m u:{person.name}:r {word(path)}"
    )


def _own(path: Path | None, person: Person) -> Finding:
    if path is None:
        return ok("own_log", "the agent's own log goes to standard error, where its service manager keeps it")
    target = path if path.exists() else next(one for one in path.parents if one.exists())
    is_in_the_way = target.is_dir() if target == path else not target.is_dir()
    why = f"{target} is in the way" if is_in_the_way else cannot(person, target, WRITE)
    if not why and path.exists():
        why = cannot(person, path.parent, WRITE)  # It is rotated by renaming.
    if why:
        return broken(
            "own_log",
            f"the agent cannot write its own log {path}, and does not start: {why}",
            f"sudo chown -R {person.name} {word(path.parent)}, or correct logging.file",
        )
    return ok("own_log", f"{person.name} may write {path}")
