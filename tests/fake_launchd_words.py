"""What the fake launchd knows and says: its versions, its jobs, and launchctl's own words.

It refuses to do anything; `fake_launchd` does.
"""

from dataclasses import dataclass, field
from typing import Any

CALL_TEXTS = {
    1: "Operation not permitted",
    3: "No such process",
    5: "Input/output error",
    17: "File exists",
    36: "Operation now in progress",
    37: "Operation already in progress",
    109: "Invalid property list",
    119: "Service is disabled",
    122: "Path had bad ownership/permissions",
}

Answer = tuple[int, str]


@dataclass
class Traits:
    """What differs between versions of macOS, and what a test wants to go wrong."""

    has_new_verbs: bool = True
    # What `bootstrap` says to a label that is there, or has not left yet: 5 (since 11), 37, 17 (older ones).
    taken_code: int = 5
    # `bootout` of a running job answers before it has gone: 0, or 36 (10.15).
    leaving_code: int = 0
    # How often one may look before a job that was booted out has gone.
    leaves_after_looks: int = 3
    is_root: bool = True
    # Verbs that fail, each with its code, as often as said: {"bootstrap": [5, 2]}.
    failing: dict[str, list[int]] = field(default_factory=dict)
    # How the job ends when it is started: None lives on; a code makes it end at once.
    exits_with: int | None = None


@dataclass
class Job:
    """One loaded service; `pid` 0 is not running."""

    plist: str
    # Counts what was loaded, so that two jobs of one label are not taken for each other.
    loaded_at: int = 0
    pid: int = 0
    runs: int = 0
    exit_code: int | None = None
    looks_left: int | None = None


def wants_restart(plist: dict[str, Any], exit_code: int) -> bool:
    """Whether KeepAlive starts a job again that ended so."""
    keep = plist.get("KeepAlive", False)
    if isinstance(keep, dict):
        return "SuccessfulExit" in keep and keep["SuccessfulExit"] == (exit_code == 0)
    return bool(keep)


def failed(verb: str, code: int) -> Answer:
    """A verb that failed, in the words of launchctl."""
    word = {"bootstrap": "Bootstrap", "bootout": "Boot-out", "kickstart": "Could not kickstart service"}.get(verb, verb)
    more = "\nTry re-running the command as root for richer errors." if code == 5 else ""
    return code, f"{word} failed: {code}: {CALL_TEXTS.get(code, 'Unknown error')}{more}"


def missing(label: str) -> Answer:
    """There is no such service."""
    return 113, f'Bad request.\nCould not find service "{label}" in domain for system'


def description(label: str, job: Job) -> str:
    """What `launchctl print` shows of a service."""
    state = "running" if job.pid else "not running"
    if job.looks_left is not None:
        state = "SIGTERMed"
    elif not job.pid and job.exit_code:
        state = "spawn scheduled"
    exit_code = "(never exited)" if job.exit_code is None else str(job.exit_code)
    lines = [
        f"system/{label} = {{",
        f"\tactive count = {int(bool(job.pid))}",
        f"\tpath = {job.plist}",
        "\ttype = LaunchDaemon",
        f"\tstate = {state}",
        "",
        "\tdefault environment = {",
        "\t\tPATH => /usr/bin:/bin:/usr/sbin:/sbin",
        "\t}",
        "",
        "\texit timeout = 15",
        f"\truns = {job.runs}",
        *([f"\tpid = {job.pid}"] if job.pid else []),
        f"\tlast exit code = {exit_code}",
        "\tevent channels = {",
        "\t\tstate = active",
        "\t}",
        "}",
    ]
    return "\n".join(lines)
