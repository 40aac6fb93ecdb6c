"""Judges what the agent stands on: its service and the Python that runs it.

It refuses to start or stop the service.
"""

import sys

from reco3.agent import platform
from reco3.agent.doctor.findings import Finding, broken, note, ok, shown, warning
from reco3.agent.platform.service_states import Condition, ServiceState

LOWEST_PYTHON = (3, 11)
_START = {
    "linux": "sudo systemctl enable --now {name}",
    "macos": "sudo launchctl kickstart system/{name}",
    "windows": "sc.exe start {name}",
}
_LOOK = {
    "linux": "journalctl -u {name} -e",
    "macos": "sudo launchctl print system/{name}",
    "windows": "sc.exe queryex {name}",
}


def judge_own_service(
    state: ServiceState, *, system: str = platform.NAME, name: str = platform.AGENT_SERVICE
) -> Finding:
    """Whether the agent comes back by itself after the next start of the PC."""
    code = "agent_service"
    start, look = _START[system].format(name=name), _LOOK[system].format(name=name)
    match state.condition:
        case Condition.RUNNING:
            return ok(code, f"the service {name} runs")
        case Condition.MISSING:
            return note(
                code,
                f"no service {name} is installed: an agent that you start ends with your session",
                "the installers below agent/ make one",
            )
        case Condition.UNKNOWN:
            word = f": {shown(state.word, 100)}" if state.word else ""
            return note(code, f"not checked: the service manager did not say what {name} does{word}", look)
        case _:
            return warning(
                code, f"the service {name} does not run: {shown(state.word, 100)}", f"{look}; to start it: {start}"
            )


def judge_python(version: tuple[int, int], executable: str = sys.executable) -> Finding:
    """Whether this Python is new enough."""
    found = f"{executable} is Python {version[0]}.{version[1]}"
    if version < LOWEST_PYTHON:
        return broken("python", f"{found}, and the agent needs 3.11 or newer", "install Python 3.11 or newer")
    return ok("python", found)
