#!/bin/sh
# Stops the RECO3 agent and removes what install_systemd.sh made, however much of it there is; see README_linux.md.
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
    refuse not_root "a service can be removed by root alone" "put sudo before it, or look first with --dry-run"
fi

# Any Python of the system will do: the installed one may be broken.
python=""
for candidate in "${RECO3_PYTHON:-}" /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && "$candidate" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] ||
    refuse no_python "found no Python 3.11 or newer" \
        "install one, name it (RECO3_PYTHON=/path/to/python3.12), or do it by hand: README_linux.md, Removing by hand"

exec "$python" -I "$here/../common/install.py" linux uninstall "$@"
