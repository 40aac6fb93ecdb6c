#!/bin/sh
# Stops the RECO3 agent and removes all that install_launchd.sh made:
#   sudo agent/macos/uninstall_launchd.sh [--keep-config] [--dry-run]
# It works after an installation that was cut short, and when nothing is there.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
# shellcheck source=agent/macos/start_engine.sh
. "$here/start_engine.sh"
start_engine uninstall "$@"
