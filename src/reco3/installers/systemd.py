"""The service as systemd knows it: registered, started, asked, stopped and forgotten.

It refuses to start anything but its own unit, and to touch what `systemctl edit` has added to it.
"""

from pathlib import PurePosixPath

from reco3.installers.host import Host
from reco3.installers.steps import Step
from reco3.installers.troubles import InstallError

UNIT = "reco3-agent.service"
UNIT_FILE = PurePosixPath("/etc/systemd/system") / UNIT
WANTED_LINK = UNIT_FILE.parent / "multi-user.target.wants" / UNIT
BOOTED = PurePosixPath("/run/systemd/system")
PROC = PurePosixPath("/proc")
_LOOK = f"look at: systemctl status {UNIT}"


def booted_step(host: Host) -> Step:
    """Make sure that systemd runs this PC."""

    def refuse() -> None:
        raise InstallError(
            "no_systemd",
            "systemd does not run this PC (there is no /run/systemd/system)",
            "in a container, start the agent as its program: PYTHON agent/common/reco_agent.py CONFIG",
        )

    return Step(title="see that systemd runs this PC", is_done=lambda: host.exists(BOOTED), do=refuse)


def stop_step(host: Host, *, was_installed: bool) -> Step:
    """Stop the service that an earlier installation started; undone, that runs again."""

    def start_again() -> None:
        if was_installed:
            systemctl(host, "start", UNIT)

    return Step(
        title="stop the service",
        is_done=lambda: not was_installed and _state(host).get("ActiveState") in {"inactive", None},
        do=lambda: systemctl(host, "stop", UNIT),
        undo=start_again,
    )


def register_step(host: Host, text: str, *, was_installed: bool) -> Step:
    """Write the unit; undone, there is the one of an installation that was there before this run, or none."""
    before: list[str | None] = []

    def write() -> None:
        before.append(host.text(UNIT_FILE) if was_installed else None)
        host.write(UNIT_FILE, text)

    def write_back() -> None:
        if not before:
            return
        if before[0] is None:
            host.remove(UNIT_FILE)
        else:
            host.write(UNIT_FILE, before[0])
        systemctl(host, "daemon-reload")

    return Step(
        title=f"write {UNIT_FILE}",
        is_done=lambda: was_installed and host.text(UNIT_FILE) == text,
        do=write,
        undo=write_back,
    )


def start_step(host: Host, *, was_installed: bool, is_started: bool) -> Step:
    """Let the service start with each boot, and now."""

    def start() -> None:
        systemctl(host, "daemon-reload")
        systemctl(host, "enable", UNIT)
        if is_started:
            systemctl(host, "start", UNIT)

    def unstart() -> None:
        systemctl(host, "stop", UNIT)
        if not was_installed:
            systemctl(host, "disable", UNIT)
            host.run(["systemctl", "reset-failed", UNIT])

    title = "start the service, now and with each boot" if is_started else "let the service start with each boot"
    return Step(title=title, do=start, undo=unstart)


def process_of(host: Host) -> str | None:
    """The pid of the agent, when systemd says that it runs."""
    state = _state(host)
    is_running = (state.get("ActiveState"), state.get("SubState")) == ("active", "running")
    return state.get("MainPID") if is_running else None


def last_words(host: Host) -> str:
    """What the service told systemd's journal last."""
    argv = ["journalctl", f"--unit={UNIT}", "--lines=15", "--no-pager", "--output=cat"]
    return host.ask(argv).output.strip()


def unit_gone_steps(host: Host) -> list[Step]:
    """Stop the service and let systemd forget it, also where systemd itself is gone."""
    has_systemctl = host.ask(["systemctl", "--version"]).is_ok
    return [
        *([_stopped_step(host)] if has_systemctl else []),
        _disabled_step(host, has_systemctl=has_systemctl),
        Step(
            title=f"remove {UNIT_FILE}",
            is_done=lambda: not host.exists(UNIT_FILE),
            do=lambda: host.remove(UNIT_FILE),
        ),
        *([_forgotten_step(host)] if has_systemctl else []),
    ]


def systemctl(host: Host, verb: str, *words: str) -> None:
    """Ask systemd for something. Raises: InstallError."""
    host.must(["systemctl", verb, *words], code="systemctl_failed", to_do=_LOOK)


def _stopped_step(host: Host) -> Step:
    def stop() -> None:
        systemctl(host, "stop", UNIT)
        left = _processes(host)
        if left and not host.is_dry:
            host.say(f"      go on, because commands had started them: {', '.join(left)}")

    return Step(
        title="stop the service",
        is_done=lambda: _state(host).get("ActiveState") in {"inactive", "failed", None},
        do=stop,
    )


def _processes(host: Host) -> list[str]:
    """What still runs within the service's group, however control groups are mounted."""
    pids = [name for name in host.names(PROC) if name.isdigit()]
    return [pid for pid in pids if f"/{UNIT}" in (_text(host, PROC / pid / "cgroup"))]


def _text(host: Host, path: PurePosixPath) -> str:
    try:
        return host.text(path) or ""
    except ProcessLookupError:
        return ""  # It has just ended.


def _disabled_step(host: Host, *, has_systemctl: bool) -> Step:
    def disable() -> None:
        if has_systemctl:
            host.run(["systemctl", "disable", UNIT])  # It refuses a unit whose file is gone.
        host.remove(WANTED_LINK)

    return Step(title="let it start with no boot any more", is_done=lambda: not host.exists(WANTED_LINK), do=disable)


def _forgotten_step(host: Host) -> Step:
    def forget() -> None:
        systemctl(host, "daemon-reload")
        host.run(["systemctl", "reset-failed", UNIT])  # It refuses a unit that did not fail.

    def is_forgotten() -> bool:
        state = _state(host)
        return state.get("LoadState", "not-found") == "not-found" and state.get("ActiveState") in {"inactive", None}

    return Step(title="let systemd forget it", is_done=is_forgotten, do=forget)


def _state(host: Host) -> dict[str, str]:
    ran = host.ask(["systemctl", "show", "--property=LoadState,ActiveState,SubState,MainPID", UNIT])
    if not ran.is_ok:
        return {}
    return dict(line.split("=", 1) for line in ran.output.splitlines() if "=" in line)
