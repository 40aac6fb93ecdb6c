"""What a single-file build of the agent runs; it refuses to hold anything else: see reco3.agent.single_file."""

import sys

from reco3.agent.single_file import main

sys.exit(main(sys.argv[1:]))
