#!/bin/sh
# Installs the RECO3 agent as the launchd daemon com.reco3.agent, or brings the one that is there up to date:
#   sudo agent/macos/install_launchd.sh devkey http://127.0.0.1:5001 pc-001
# Better than a key on the command line is - (standard input) in its place; see --help and README_macos.md.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
# shellcheck source=agent/macos/start_engine.sh
. "$here/start_engine.sh"
start_engine install "$@"
