#!/bin/sh
# Builds dist/reco3-agent with the Python that is named; the scripts in agent/linux and agent/macos look first whether it will do.
set -eu
cd "$(dirname "$0")/.."

"$1" -I -m venv build/venv
build/venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r packaging/requirements-build.txt
# The same source and the same versions give the same bytes: no clock and no chance goes in.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-315532800} PYTHONHASHSEED=0 \
    build/venv/bin/pyinstaller --noconfirm --clean --log-level WARN \
    --distpath dist --workpath build/pyinstaller packaging/reco3-agent.spec
