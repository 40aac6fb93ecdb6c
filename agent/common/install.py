"""Starts the installers' engine: `install.py SYSTEM install|uninstall WORDS`. It refuses to hold anything else."""

import sys
from pathlib import Path

_SOURCE_TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_SOURCE_TREE / "src"))
sys.dont_write_bytecode = True

from reco3.installers.layouts import Source  # noqa: E402 - only now can it be found in a plain source tree
from reco3.installers.verbs import main  # noqa: E402 - likewise

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Source(_SOURCE_TREE)))
