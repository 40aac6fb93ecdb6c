"""Run on a PC: prints as JSON every file, user and process there that an installer might have left something in."""

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

# The kernel's, what lives until the next boot, journals, the list of boots, and what the tests themselves put there.
VOLATILE = (
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "mnt",
    "srv",
    "var/tmp",
    "var/log/journal",
    "var/log/wtmp",
    "var/lib/systemd",
)
LEFT_OUT = {f"/{name}" for name in VOLATILE}


def files() -> dict[str, str]:
    listing = {}
    for folder, folders, names in os.walk("/"):
        folders[:] = [each for each in folders if str(Path(folder, each)) not in LEFT_OUT]
        for path in (Path(folder, name) for name in (*folders, *names)):
            if str(path) in LEFT_OUT:
                continue
            about = path.lstat()
            what = f"{stat.filemode(about.st_mode)} {about.st_uid}:{about.st_gid}"
            if path.is_symlink():
                what += f" -> {path.readlink()}"
            elif path.is_file():
                what += f" {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
            listing[str(path)] = what
    return listing


def processes() -> list[str]:
    """What runs and has to do with the product; the server of the tests is left out, and this listing."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if "reco3" in words and "server" not in words and "/mnt/" not in words:
            found.append(words)
    return sorted(found)


def units() -> list[str]:
    argv = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "reco3-agent*"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True)
    return listed.stdout.split("\n")[:-1]


if __name__ == "__main__":
    users = [line.split(":")[0] for name in ("passwd", "group") for line in Path("/etc", name).read_text().splitlines()]
    print(json.dumps({"files": files(), "users": users, "processes": processes(), "units": units()}))
