# For install_systemd.sh and uninstall_systemd.sh, which source this from their own folder: looks who asks, finds a Python,
# and hands all words over to agent/common/install.py.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

refuse() {
    printf '%s: %s\n  -> %s\n' "$1" "$2" "$3" >&2
    exit 2
}

# refuse_others_than_root WHAT_FOR [WORD...]
refuse_others_than_root() {
    what_for=$1
    shift
    for word in "$@"; do
        case $word in --dry-run | --help | -h) return ;; esac
    done
    if [ "$(id -u)" != 0 ] && [ -z "${RECO3_INSTALL_ROOT:-}" ]; then
        refuse not_root "$what_for by root alone" "put sudo before it, or look first with --dry-run"
    fi
}

# start_engine VERB CURE_WITHOUT_PYTHON [WORD...]
start_engine() {
    verb=$1 cure=$2
    shift 2
    # The distribution's own Python first: one in somebody's home folder is not for a service.
    for candidate in "${RECO3_PYTHON:-}" /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && "$candidate" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            exec "$candidate" -I "$here/../common/install.py" linux "$verb" "$@"
        fi
    done
    refuse no_python "found no Python 3.11 or newer" "$cure"
}
