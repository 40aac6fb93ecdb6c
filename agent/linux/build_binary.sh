#!/bin/sh
# Builds dist/reco3-agent, the agent as a single file for Linux: sh agent/linux/build_binary.sh [PYTHON]
# It needs a Python 3.11 or newer with a shared library, and objdump (binutils). What it builds runs on systems whose
# glibc is at least as new as this one's, so build on the oldest that you have.
set -eu
cd "$(dirname "$0")/../.."

python=${1:-python3}
if ! command -v "$python" >/dev/null; then
    echo "There is no program $python. Name a Python 3.11 or newer: sh agent/linux/build_binary.sh /path/to/python3" >&2
    exit 2
fi
if ! "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Expected Python 3.11 or newer, $python is $("$python" -V). Name another: sh agent/linux/build_binary.sh PYTHON" >&2
    exit 2
fi
if ! "$python" -I -c 'import sysconfig, sys; sys.exit(not sysconfig.get_config_var("Py_ENABLE_SHARED"))'; then
    echo "$python has no shared library, which PyInstaller needs. Use the system's Python, or one built with --enable-shared." >&2
    exit 2
fi
if ! command -v objdump >/dev/null; then
    echo "objdump is not here, which PyInstaller needs. Debian and Ubuntu: apt-get install binutils" >&2
    exit 2
fi

sh packaging/build_single_file.sh "$python"

built=$(dist/reco3-agent --version)
echo "built dist/reco3-agent $built, $(wc -c <dist/reco3-agent) bytes"
