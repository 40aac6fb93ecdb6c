"""Writes the lock files from pyproject.toml: every version pinned, every file hashed, no index named."""

import subprocess
import sys

LOCKS = {
    "requirements/dev.lock": ["--extra", "dev"],
    "requirements/server.lock": ["--extra", "server", "--constraint", "requirements/dev.lock"],
    "agent/common/requirements-agent.txt": ["--constraint", "requirements/dev.lock"],
    "packaging/requirements-build.txt": ["--group", "build", "--constraint", "requirements/dev.lock"],
    "agent/windows/requirements-windows.txt": [],
}
# Everything else is pinned from pyproject.toml.
SOURCES = {"agent/windows/requirements-windows.txt": "agent/windows/requirements-windows.in"}
OPTIONS = [
    "--universal",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--python-version",
    "3.11",
]


def main() -> int:
    """Compile each lock with uv; returns the first exit code that is not 0."""
    for path, extra in LOCKS.items():
        source = SOURCES.get(path, "pyproject.toml")
        argv = ["uv", "pip", "compile", source, "--quiet", "--no-header", *OPTIONS, *extra, "-o", path]
        code = subprocess.run(argv, check=False).returncode  # noqa: S603 - our own argv
        if code != 0:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
