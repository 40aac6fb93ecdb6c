"""`python -m reco3` is the command `reco3`; it refuses to hold anything of its own."""

import sys

from reco3.cli import main

if __name__ == "__main__":
    sys.exit(main())
