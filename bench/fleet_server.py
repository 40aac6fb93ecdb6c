"""A real server for a simulated fleet: started, stopped, killed and started again on one port and one database.

It reads what the kernel says about the process, and stops only what it started.
"""

import contextlib
import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ground import OPERATOR_KEY, SEED, write_keys
from processes import BIN, GENERATOR_CORE, ROOT, SERVER_CORE, answers, free_port, on_core, started, wait_until

MIB = 1024 * 1024
# Each PC of its own has two connections; beyond this many the server's 20,000 descriptors would not do.
MOST_OWN_PCS = 7_000
SHARED_CONNECTIONS = 4096
STARTS_PER_S = 1_000
HEARTBEAT_S = 10


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: processor seconds, MiB of memory now (`own_mib` without mapped files) and at most."""

    cpu_s: float
    own_mib: float
    rss_mib: float
    peak_rss_mib: float


class FleetServer:
    """One server with a folder of its own; `is_pinned` gives it one core and the generator the other."""

    def __init__(self, folder: Path, *, pcs: int, is_pinned: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.pcs = pcs
        self.database = folder / "reco3.db"
        self.key_file = folder / "operator-key"
        self._is_pinned = is_pinned
        self._port = free_port()
        self._running = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.key_file.write_text(OPERATOR_KEY, encoding="ascii")
        self.key_file.chmod(0o600)
        write_keys(folder / "keys.txt", pcs)

    @property
    def base_url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until it answers. Raises: PartDied."""
        environment = {
            "RECO3_DB_PATH": str(self.database),
            "RECO3_AGENT_KEYS_FILE": str(self.folder / "keys.txt"),
            "API_KEY": OPERATOR_KEY,
            "PORT": str(self._port),
        }
        argv = self.pinned(SERVER_CORE, [str(BIN / "python"), str(ROOT / "app.py")])
        log_path = self.folder / "server.log"
        self._process = self._running.enter_context(started(argv, log_path, environment=environment))
        wait_until(answers(f"{self.base_url}/health"), self._process, "the server")

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal and wait for its end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self.close()

    def close(self) -> None:
        """Stop the server, if it runs."""
        self._running.close()
        self._process = None

    def usage(self) -> Usage:
        """What the server has used so far."""
        pid = self._process.pid if self._process else 0
        words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in status if line.startswith(("Vm", "Rss"))}
        ticks = os.sysconf("SC_CLK_TCK")
        return Usage((int(words[11]) + int(words[12])) / ticks, sizes["RssAnon"], sizes["VmRSS"], sizes["VmHWM"])

    def database_bytes(self) -> int:
        """How large the database is: the pages in use, wherever they lie."""
        with contextlib.closing(self._connect()) as connection:
            pages, free, size = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * size)

    def count_events(self, event_type: str) -> int:
        """How many rows of a type the audit log holds."""
        with contextlib.closing(self._connect()) as connection:
            query = "SELECT count(*) FROM audit_log WHERE event_type = ?"
            return int(connection.execute(query, (event_type,)).fetchone()[0])

    def swarm_argv(self, *, seconds: float, report: Path, more: Sequence[str] = ()) -> list[str]:
        """The command line of a swarm that behaves like this server's PCs."""
        lines = "own" if self.pcs <= MOST_OWN_PCS else f"shared:{SHARED_CONNECTIONS}"
        argv = [str(BIN / "reco3"), "swarm", "run", "--base-url", self.base_url, "--pcs", str(self.pcs)]
        argv += ["--seed", SEED, "--seconds", f"{seconds:g}", "--connections", lines, "--json", str(report)]
        argv += ["--database", str(self.database), "--operator-key-file", str(self.key_file), *more]
        return self.pinned(GENERATOR_CORE, argv)

    def pinned(self, core: str, argv: Sequence[str]) -> list[str]:
        """A command on its core, if cores are given out."""
        return on_core(core, argv) if self._is_pinned else list(argv)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self.database.resolve().as_uri()}?mode=ro", uri=True)


def spread_s(pcs: int) -> float:
    """Over how many seconds a fleet begins: whole periods, so that its heartbeats are spread evenly ever after."""
    return float(HEARTBEAT_S * max(1, math.ceil(pcs / STARTS_PER_S / HEARTBEAT_S)))


def tell(text: str) -> None:
    """Say how far a measurement is, beside its results."""
    print(text, file=sys.stderr, flush=True)
