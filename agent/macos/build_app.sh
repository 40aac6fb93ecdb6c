#!/bin/sh
# Builds dist/reco3-agent, the agent as a single file for this kind of Mac: sh agent/macos/build_app.sh [PYTHON]
# It is for PCs that shall have no Python. One built on Apple silicon is for Apple silicon, one built on Intel for Intel,
# and for the macOS of this Mac and newer ones. It is not signed for others: see README_macos.md.
set -eu
cd "$(dirname "$0")/../.."

python=${1:-python3}
if ! command -v "$python" >/dev/null; then
    echo "There is no program $python. Name a Python 3.11 or newer: sh agent/macos/build_app.sh /path/to/python3.13" >&2
    exit 2
fi
if ! "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Expected Python 3.11 or newer, $python is another. Name one: sh agent/macos/build_app.sh /path/to/python3.13" >&2
    exit 2
fi
if [ "$(uname -s)" != Darwin ]; then
    echo "PyInstaller builds for the system that it runs on, and this is no Mac. On Linux: agent/linux/build_binary.sh" >&2
    exit 2
fi

sh packaging/build_single_file.sh "$python"

built=$(dist/reco3-agent --version)
echo "built dist/reco3-agent $built for $(uname -m), $(wc -c <dist/reco3-agent | tr -d ' ') bytes"
