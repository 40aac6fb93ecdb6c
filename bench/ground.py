"""What every section of a run is given, and our own server as they start it.

It decides nothing about a measurement; it only keeps the servers of all sections alike.
"""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from processes import BIN, ROOT, SERVER_CORE, answers, fetch, free_port, on_core, shown, started, wait_until

OPERATOR_KEY = "bench-operator-key"
SEED = "1"


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a run works: `bench_folder` keeps the peers, `folder` is this run's own; `is_quick` only tries all out."""

    bench_folder: Path
    folder: Path
    is_quick: bool = False

    def seconds(self, full: float, quick: float) -> float:
        """Return how long to measure."""
        return quick if self.is_quick else full


@dataclass(frozen=True, slots=True)
class OurServer:
    """A server of ours that runs."""

    process: subprocess.Popen[bytes]
    base_url: str
    command: str
    database: Path

    def agent_count(self) -> int:
        """Return how many PCs the server has heard of."""
        content = fetch(f"{self.base_url}/api/r3/agents?limit=1", headers={"X-API-Key": OPERATOR_KEY})
        return int(json.loads(content)["total"])


def write_keys(path: Path, pcs: int) -> None:
    """Write the keys of a simulated fleet, for the server to read."""
    argv = [str(BIN / "reco3"), "swarm", "keys", "--pcs", str(pcs), "--seed", SEED]
    path.write_bytes(subprocess.run(argv, capture_output=True, check=True, timeout=120).stdout)


@contextlib.contextmanager
def our_server(folder: Path, script: str, *, keys_file: Path) -> Iterator[OurServer]:
    """Run `script` (the server, or the server with its storing cut out) on its core, on a fresh database."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    database = folder / "reco3.db"
    environment = {"RECO3_DB_PATH": str(database), "RECO3_AGENT_KEYS_FILE": str(keys_file)}
    environment |= {"API_KEY": OPERATOR_KEY, "PORT": str(port)}
    argv = on_core(SERVER_CORE, [str(BIN / "python"), str(ROOT / script)])
    with started(argv, folder / "server.log", environment=environment) as process:
        wait_until(answers(f"http://127.0.0.1:{port}/health"), process, script)
        yield OurServer(process, f"http://127.0.0.1:{port}", shown(argv, environment), database)
