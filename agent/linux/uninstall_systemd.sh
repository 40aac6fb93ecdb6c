#!/bin/sh
# Stops the RECO3 agent and removes what install_systemd.sh made, however much of it there is; see README_linux.md.
# Any Python of the system will do for it: the installed one may be broken.
set -eu

# shellcheck source=agent/linux/start_engine.sh
. "$(dirname -- "$0")/start_engine.sh"

refuse_others_than_root "a service can be removed" "$@"
start_engine uninstall \
    "install one, name it (RECO3_PYTHON=/path/to/python3.12), or do it by hand: README_linux.md, Removing by hand" "$@"
