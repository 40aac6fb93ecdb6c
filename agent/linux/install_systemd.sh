#!/bin/sh
# Installs the RECO3 agent as reco3-agent.service, or brings the one that is there up to date; see README_linux.md.
set -eu

# shellcheck source=agent/linux/start_engine.sh
. "$(dirname -- "$0")/start_engine.sh"

refuse_others_than_root "a service can be installed" "$@"
command -v systemctl >/dev/null 2>&1 ||
    refuse no_systemd "there is no systemctl here, so no systemd that could run the agent" \
        "start it by what runs services on this PC: PYTHON agent/common/reco_agent.py CONFIG"
start_engine install \
    "install one (Debian, Ubuntu: apt install python3 python3-venv; Fedora: dnf install python3), or name it: RECO3_PYTHON=/path/to/python3.12" \
    "$@"
