# For install_launchd.sh and uninstall_launchd.sh, which source this: looks whether this is a Mac and whether root asks,
# finds a Python of at least 3.11, and hands over to it. What is done then is in src/reco3/installers/macos.py.

# It never starts Apple's /usr/bin/python3: that is 3.9, and without the developer tools it opens a window instead.
is_new_enough() {
    [ -x "$1" ] && [ "$1" != /usr/bin/python3 ] &&
        "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    if [ -n "${RECO3_PYTHON:-}" ]; then
        is_new_enough "$RECO3_PYTHON" && echo "$RECO3_PYTHON" && return 0
        echo "RECO3_PYTHON: expected a Python of at least 3.11, got $RECO3_PYTHON" >&2
        return 1
    fi
    # python.org's first: it belongs to root, as what root runs should. Then Homebrew's, on Apple silicon and on Intel.
    for version in 3.14 3.13 3.12 3.11; do
        for folder in "/Library/Frameworks/Python.framework/Versions/$version/bin" /opt/homebrew/bin /usr/local/bin; do
            is_new_enough "$folder/python$version" && echo "$folder/python$version" && return 0
        done
    done
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        found=$(command -v "$name") || continue
        is_new_enough "$found" && echo "$found" && return 0
    done
    return 1
}

start_engine() {
    # On a Mac the system's own programs come first, whatever PATH this was started with.
    [ ! -x /usr/bin/sw_vers ] || PATH="/usr/bin:/bin:/usr/sbin:/sbin:$PATH"
    if ! command -v sw_vers >/dev/null 2>&1; then
        echo "This is for macOS. On Linux see agent/linux/README_linux.md, on Windows agent/windows/README_windows.md." >&2
        exit 2
    fi
    needs_root=yes
    for word in "$@"; do
        case $word in --help | -h) needs_root="" ;; esac
    done
    if [ -n "$needs_root" ] && [ "$(id -u)" != 0 ]; then
        echo "Only root may $1 a launchd daemon. Run the same with sudo in front." >&2
        exit 2
    fi
    if ! python=$(find_python); then
        explain_python
        [ "$1" != uninstall ] || explain_removal
        exit 2
    fi
    exec "$python" -I "${here:?}/../common/install.py" macos "$@"
}

explain_python() {
    cat >&2 <<'WORDS'
RECO3 needs Python 3.11 or newer, and found none here (the python3 that Apple brings along is 3.9).
Get one, then run the same again:
  - from https://www.python.org/downloads/macos/ (one installer for Apple silicon and Intel; recommended), or
  - from Homebrew: brew install python@3.13
If it is somewhere else: sudo RECO3_PYTHON=/where/it/is/bin/python3.13 ...
WORDS
}

explain_removal() {
    cat >&2 <<'WORDS'
Or remove everything by hand, config, key and state too:
  sudo launchctl bootout system/com.reco3.agent
  sudo rm -rf /Library/LaunchDaemons/com.reco3.agent.plist /opt/reco3-agent /var/log/reco3-agent
WORDS
}
