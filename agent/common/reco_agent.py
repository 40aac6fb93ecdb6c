"""Starts the agent: `python reco_agent.py CONFIG`. It refuses to hold anything else; see `reco3.agent`."""

import sys
from pathlib import Path

_SOURCE_TREE = Path(__file__).resolve().parents[2] / "src"
if (_SOURCE_TREE / "reco3").is_dir():
    sys.path.insert(0, str(_SOURCE_TREE))

from reco3.agent.agent import main  # noqa: E402 - only now can it be found in a plain source tree

if __name__ == "__main__":
    sys.exit(main())
