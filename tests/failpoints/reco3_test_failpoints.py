"""Kills the agent with SIGKILL at the failpoint that RECO3_FAILPOINT names; the product does not contain this module.

`name` is the first time that the point is reached, `name:3` the third. Nothing is counted before the file that
RECO3_FAILPOINT_ARMED names exists. RECO3_TEST_RECORD_LATE=1 makes the agent act first and record afterwards: the
negative control, which must run things twice. RECO3_TEST_SHORTEST_OUTAGE_S=0.5 shortens what counts as an outage.
"""

import os
import signal
from pathlib import Path

_name, _, _nth = os.environ.get("RECO3_FAILPOINT", "").partition(":")
_armed = Path(os.environ.get("RECO3_FAILPOINT_ARMED", "/"))
_hits = 0
_outage_s = os.environ.get("RECO3_TEST_SHORTEST_OUTAGE_S")
if _outage_s is not None:
    from reco3.agent import modes

    modes.SHORTEST_OUTAGE_S = float(_outage_s)


def hit(name: str) -> None:
    """Die here, when here it is."""
    global _hits  # noqa: PLW0603 - counts the hits of this process
    if os.environ.get("RECO3_TEST_RECORD_LATE") == "1":
        _record_late()
    if name == _name and _armed.exists():
        _hits += 1
        if _hits == int(_nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def _record_late() -> None:
    from reco3.agent.journal import Beginning, Journal  # noqa: PLC0415 - loads after the module that looks for us

    def start(self: Journal, beginning: Beginning) -> bool:
        entry = self.find(beginning.command_id)
        return entry is not None and entry.veto is None

    Journal.start = start  # type: ignore[method-assign]
