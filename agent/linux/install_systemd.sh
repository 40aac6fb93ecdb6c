#!/bin/sh
# Installs the RECO3 agent as reco3-agent.service, or brings the one that is there up to date; see README_linux.md.
# It checks who runs it, finds a Python, and hands all words over to agent/common/install.py.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

refuse() {
    printf '%s: %s\n  -> %s\n' "$1" "$2" "$3" >&2
    exit 2
}

needs_root=yes
for word in "$@"; do
    case $word in --dry-run | --help | -h) needs_root=no ;; esac
done
if [ "$needs_root" = yes ] && [ "$(id -u)" != 0 ] && [ -z "${RECO3_INSTALL_ROOT:-}" ]; then
    refuse not_root "a service can be installed by root alone" "put sudo before it, or look first with --dry-run"
fi
command -v systemctl >/dev/null 2>&1 ||
    refuse no_systemd "there is no systemctl here, so no systemd that could run the agent" \
        "start it by what runs services on this PC: PYTHON agent/common/reco_agent.py CONFIG"

# The distribution's own Python first: one in somebody's home folder is not for a service.
python=""
for candidate in "${RECO3_PYTHON:-}" /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && "$candidate" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] ||
    refuse no_python "found no Python 3.11 or newer" \
        "install one (Debian, Ubuntu: apt install python3 python3-venv; Fedora: dnf install python3), or name it: RECO3_PYTHON=/path/to/python3.12"

exec "$python" -I "$here/../common/install.py" linux install "$@"
