"""Loads the agent into launchd, takes it out again, and says what launchd knows of it.

It refuses to believe exit codes alone: `bootout` answers before the job has gone, and the same trouble has other codes
from one macOS to the next. What counts is what launchd shows afterwards.
"""

import re
from pathlib import PurePosixPath

from reco3.installers.host import Host
from reco3.installers.programs import NO_SUCH_PROGRAM, Ran
from reco3.installers.troubles import InstallError

LABEL = "com.reco3.agent"
TARGET = f"system/{LABEL}"
PLIST = PurePosixPath(f"/Library/LaunchDaemons/{LABEL}.plist")
# launchd kills what does not end within ExitTimeOut, which is 15 s.
GONE_WITHIN_S = 30.0
LOADED_WITHIN_S = 20.0
LOOK_EVERY_S = 0.5

_NOT_LOADED = (3, 113)
# The label is taken, or its last job is just leaving: 5 since macOS 11, 17 and 37 before; 36: a bootout is under way.
_TAKEN = (5, 17, 36, 37)
_NO_SUCH_VERB = "unknown subcommand"
_STATE = re.compile(r"^\tstate = (.+)$", re.MULTILINE)
_PID = re.compile(r"^\tpid = (\d+)$", re.MULTILINE)
_OLD_PID = re.compile(r'^\s*"PID" = (\d+);$', re.MULTILINE)
_SEE_LOG = "sudo log show --last 5m --predicate 'process == \"launchd\"' tells what launchd did not like"
_CURES = {
    109: "the property list was changed or cut short: run the same again",
    119: f"sudo launchctl enable {TARGET}, then run the same again",
    122: f"sudo chown root:wheel {PLIST} && sudo chmod 644 {PLIST}, then run the same again",
    161: "allow it in System Settings > General > Login Items & Extensions, then run the same again",
}


def process_id(host: Host) -> str | None:
    """The pid of the agent while it runs."""
    shown = _look(host)
    if shown is None:
        return None
    state = _STATE.search(shown)
    if state is not None and state[1] != "running":
        return None
    found = _PID.search(shown) or _OLD_PID.search(shown)
    return found[1] if found else None


def is_loaded(host: Host) -> bool:
    """Whether launchd has the agent, running or not, or not quite gone."""
    return _look(host) is not None


def enable(host: Host) -> None:
    """Let it be loaded, at boot too, whoever disabled it before; the old verbs do that when they load it."""
    if _has_new_verbs(host):
        host.must(["launchctl", "enable", TARGET], code="launchd_refused", to_do=_SEE_LOG)


def load(host: Host) -> None:
    """Load it, so that it starts. Raises: InstallError."""
    if not _has_new_verbs(host):
        host.run(["launchctl", "load", "-w", PLIST])
        _expect_loaded(host, Ran(0))
        return
    enable(host)
    deadline = host.now_s() + LOADED_WITHIN_S
    while True:
        ran = host.run(["launchctl", "bootstrap", "system", PLIST])
        if ran.is_ok:
            return
        if ran.exit_code not in _TAKEN or host.now_s() >= deadline:
            raise _refusal("bootstrap", ran)
        if is_loaded(host) and not _is_leaving(host):
            # Somebody loaded it meanwhile, perhaps with what was there before.
            host.must(["launchctl", "kickstart", "-k", TARGET], code="launchd_refused", to_do=_SEE_LOG)
            return
        host.sleep(LOOK_EVERY_S)


def unload(host: Host) -> None:
    """Take it out of launchd, and wait until it has gone. Raises: InstallError."""
    if _has_new_verbs(host):
        ran = host.run(["launchctl", "bootout", TARGET])
    else:
        if host.exists(PLIST):
            host.run(["launchctl", "unload", "-w", PLIST])
        ran = host.run(["launchctl", "remove", LABEL]) if is_loaded(host) and not host.is_dry else Ran(0)
    if host.is_dry:
        return
    deadline = host.now_s() + GONE_WITHIN_S
    while is_loaded(host):
        if host.now_s() >= deadline:
            raise _refusal("bootout", ran)
        host.sleep(LOOK_EVERY_S)


def _expect_loaded(host: Host, ran: Ran) -> None:
    # The old `load` exits with 0 whatever happens.
    if not host.is_dry and not is_loaded(host):
        raise _refusal("load", ran)


def _is_leaving(host: Host) -> bool:
    shown = _look(host) or ""
    state = _STATE.search(shown)
    return state is not None and state[1] in {"SIGTERMed", "SIGKILLed", "languishing", "exited"}


def _look(host: Host) -> str | None:
    """What launchd shows of the agent; None when it does not have it."""
    ran = host.ask(["launchctl", "print", TARGET])
    if _NO_SUCH_VERB in ran.output:
        ran = host.ask(["launchctl", "list", LABEL])
        return ran.output if ran.is_ok else None
    if ran.exit_code in _NOT_LOADED:
        return None
    if not ran.is_ok:
        raise _refusal("print", ran)
    return ran.output


def _has_new_verbs(host: Host) -> bool:
    # Not by `bootstrap`: until 10.9 that started the whole system.
    return _NO_SUCH_VERB not in host.ask(["launchctl", "print", TARGET]).output


def _refusal(verb: str, ran: Ran) -> InstallError:
    if ran.exit_code == NO_SUCH_PROGRAM:
        return InstallError("no_launchd", "there is no launchctl", "this installer is for macOS alone")
    said = ran.output.strip().splitlines()
    detail = f": {said[0]}" if said else ""
    return InstallError(
        "launchd_refused", f"launchctl {verb} ended with {ran.exit_code}{detail}", _CURES.get(ran.exit_code, _SEE_LOG)
    )
