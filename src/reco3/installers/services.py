"""What is asked once the service is registered: does it run, does it stay so, and what does the doctor find.

It refuses to call a service started that is about to end, and to fail an installation for what the doctor finds.
"""

import json
from collections.abc import Callable
from typing import Any

from reco3.installers.host import Host
from reco3.installers.layouts import Layout
from reco3.installers.steps import Step
from reco3.installers.troubles import InstallError

RUNS_WITHIN_S = 20.0
STEADY_FOR_S = 3.0
LOOK_EVERY_S = 0.5
LAST_LINES = 15


def running_step(
    host: Host,
    process_of: Callable[[], str | None],
    *,
    layout: Layout,
    undo: Callable[[], None] = lambda: None,
    last_words: Callable[[], str] = lambda: "",
) -> Step:
    """Wait until the service manager names the same process for 3 s; `process_of` asks it, None: not running.

    `last_words` tells what the service manager heard of an agent that ended before it could open its log.
    """

    def wait() -> None:
        if host.is_dry or _is_steady(host, process_of):
            return
        raise InstallError(
            "not_running",
            f"the service does not stay up for {STEADY_FOR_S:.0f} s{_end_of_log(host, layout)}{_heard(last_words())}",
            "do what its log says, then run the same again",
        )

    return Step(title=f"see that it runs, and stays so for {STEADY_FOR_S:.0f} s", do=wait, undo=undo)


def doctor_step(host: Host, layout: Layout) -> Step:
    """Show what the doctor finds wrong; for the installation nothing depends on it."""

    def ask() -> None:
        argv = layout.reco3_argv(layout.app, "agent", "doctor", layout.config, "--json")
        if host.is_dry:
            host.run(argv)
            return
        for line in doctor_lines(host.ask(argv).output):
            host.say(f"      {line}")

    return Step(title="ask the doctor", do=ask)


def doctor_lines(output: str) -> list[str]:
    """What the doctor's JSON says, as lines: what is broken first, and what to do."""
    try:
        checks: list[dict[str, Any]] = json.loads(output)["checks"]
        troubles = [check for check in checks if check["level"] in {"broken", "warning"}]
        lines = [f"{each['level']}: {each['code']}: {each['found']}{_cure(each)}" for each in troubles]
    except (ValueError, KeyError, TypeError):
        return ["the doctor could not be asked; `reco3 agent --check CONFIG` looks at the config alone"]
    return lines or [f"all is well: {len(checks)} checks"]


def _cure(check: dict[str, Any]) -> str:
    return f" -> {check['to_do']}" if check.get("to_do") else ""


def _heard(words: str) -> str:
    return f"\nwhat the service manager heard:\n{words}" if words else ""


def _is_steady(host: Host, process_of: Callable[[], str | None]) -> bool:
    deadline = host.now_s() + RUNS_WITHIN_S
    process, since = process_of(), host.now_s()
    while host.now_s() < deadline:
        if process is not None and host.now_s() - since >= STEADY_FOR_S:
            return True
        host.sleep(LOOK_EVERY_S)
        following = process_of()
        if following != process:
            process, since = following, host.now_s()
    return False


def _end_of_log(host: Host, layout: Layout) -> str:
    lines = (host.text(layout.log) or "").splitlines()[-LAST_LINES:]
    return "; the end of its log:\n" + "\n".join(lines) if lines else f"; {layout.log} is empty"
