"""A small service with releases, as somebody might run one: `current` names the release, a restart puts it in force.

    release_service.py FOLDER PORT restart | stop | switch-back | serve

`serve` answers GET with 200, or with 500 when the release in force is called `bad`.
"""

import http.server
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    folder, port, verb = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    match verb:
        case "serve":
            serve(folder, port)
        case "stop":
            stop(folder)
        case "restart":
            stop(folder)
            start(folder, port)
        case "switch-back":
            temporary = folder / "current.new"
            temporary.symlink_to("good")
            temporary.replace(folder / "current")
            print("switched back to good")
            stop(folder)
            start(folder, port)
    return 0


def start(folder: Path, port: int) -> None:
    """Start it under its own name, detached as a daemon is."""
    program = folder / "reco3-release"
    with (folder / "starts").open("a", encoding="utf-8") as starts:
        starts.write(f"{(folder / 'current').readlink()}\n")
    process = subprocess.Popen(
        [sys.executable, str(program), str(folder), str(port), "serve"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    (folder / "pid").write_text(str(process.pid), encoding="ascii")


def stop(folder: Path) -> None:
    try:
        pid = int((folder / "pid").read_text(encoding="ascii"))
        os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        return
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)


def serve(folder: Path, port: int) -> None:
    status = 500 if (folder / "current").readlink() == Path("bad") else 200

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    sys.exit(main())
