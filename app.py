"""`python app.py` serves RECO3 on http://127.0.0.1:5001; every setting is an environment variable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

from reco3.cli import main

if __name__ == "__main__":
    sys.exit(main(["server"]))
