"""`reco3 agent doctor CONFIG`: its words, its order of work and its exit codes.

It refuses to go on with a config that the agent itself would not start with.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from reco3.agent import platform, runner, targets
from reco3.agent.config import AgentConfig, ConfigError, load_config
from reco3.agent.doctor.config_checks import check_config, check_user
from reco3.agent.doctor.contact import ask
from reco3.agent.doctor.findings import Finding, Level, as_json, as_text, broken, count, in_order, note, word
from reco3.agent.doctor.log_checks import check_logs
from reco3.agent.doctor.machine_checks import judge_own_service, judge_python
from reco3.agent.doctor.people import service_person
from reco3.agent.doctor.rule_checks import check_rules
from reco3.agent.doctor.server_checks import judge_contact, judge_proxy
from reco3.agent.doctor.state_checks import check_state, is_older_key_in_use
from reco3.agent.platform.service_states import ServiceState

EXIT_OK, EXIT_BROKEN, EXIT_USAGE = 0, 1, 2
ASK_WITHIN_S = 3.0
USAGE = """usage: reco3 agent doctor CONFIG [--json] [--offline]
CONFIG is the agent's YAML file, such as /opt/reco3-agent/config.yaml
"""


class _UsageError(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(message)


def main(words: Sequence[str]) -> int:
    """Examine, print what was found, and say by the exit code whether anything is broken."""
    parser = _Parser(
        prog="reco3 agent doctor",
        description="Check whether this PC's agent is set up so that it works, and say what to do. Nothing is changed.",
        epilog="Exit codes: 0 nothing is broken, 1 something is, 2 bad usage. All codes and cures: docs/doctor.md.",
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG", help="the agent's YAML file")
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    parser.add_argument("--offline", action="store_true", help="ask the server nothing")
    try:
        options = parser.parse_args(list(words))
        _check_path(options.config)
    except _UsageError as error:
        sys.stderr.write(f"reco3 agent doctor: {error}\n{USAGE}")
        return EXIT_USAGE
    findings = examine(Path(options.config), is_offline=options.offline)
    _print(as_json(findings) if options.json else as_text(findings))
    return EXIT_BROKEN if count(findings, Level.BROKEN) else EXIT_OK


def _check_path(path: str) -> None:
    shown = ascii(path)[1:-1][:80]
    if os.path.isdir(path):  # noqa: PTH112 - a path that may not be looked at is left to the reading of the config
        raise _UsageError(
            f"expected the agent's config file, and {shown} is a folder; such as {shown.rstrip('/')}/config.yaml"
        )
    if path.startswith(("http://", "https://")):
        raise _UsageError(
            f"expected the agent's config file, got an address: {shown}; the server is named in the config"
        )


def examine(path: Path, *, is_offline: bool = False) -> list[Finding]:
    """Make every check that the config allows to be made; the worst comes first."""
    python = judge_python(sys.version_info[:2])
    try:
        config = load_config(path)
    except ConfigError as error:
        return in_order([broken("config", f"the agent does not start: {error}", _cure(path, error.__cause__)), python])
    person, owned = service_person(config.state_dir, config.path)
    ask_manager = functools.partial(targets.service_state, run=_hurried)
    # The network has its own time to wait, meanwhile the PC is looked at.
    pool = ThreadPoolExecutor(1)
    server = pool.submit(_made, "server", lambda: _server(config, is_offline=is_offline))
    parts: tuple[tuple[str, Callable[[], list[Finding]]], ...] = (
        ("config", lambda: [*check_config(config), check_user(person, owned)]),
        ("state", lambda: check_state(config, person)),
        ("logs", lambda: check_logs(config, person)),
        ("rules", lambda: check_rules(config, person, ask_manager)),
        ("machine", lambda: [_own_service(ask_manager), python]),
    )
    here = [one for part in parts for one in _made(*part)]
    return in_order([*here, *server.result()], secret=config.api_key)


def _cure(path: Path, cause: BaseException | None) -> str:
    match cause:
        case PermissionError():
            return "run the doctor as root (sudo) or as the user whom the agent runs as"
        case FileNotFoundError():
            return (
                f"name the right file, or let this PC in: reco3 agent enrol {word(path)} --server URL --token-file FILE"
            )
        case _:
            return f"correct it, then: reco3 agent --check {word(path)} (config.example.yaml explains every key)"


def _made(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """A file may vanish or be forbidden between two looks: the other checks are made all the same."""
    try:
        return check()
    except OSError as error:
        found = f"the checks of {name} ended early: {error.strerror or error} ({error.filename or 'no file named'})"
        return [broken("not_checked", found, "run the doctor as root (sudo) or as the agent's user")]


def _server(config: AgentConfig, *, is_offline: bool) -> list[Finding]:
    proxy = judge_proxy(os.environ)
    if is_offline:
        return [proxy, note("server", "the server was not asked (--offline)")]
    return [proxy, *judge_contact(config, ask(config, is_older_key_in_use=is_older_key_in_use(config)))]


def _own_service(ask_manager: Callable[[str], ServiceState]) -> Finding:
    return judge_own_service(ask_manager(platform.AGENT_SERVICE))


def _hurried(order: runner.Run) -> runner.Outcome:
    return runner.run(runner.Run(order.argv, min(order.timeout_s, ASK_WITHIN_S), order.max_output_bytes))


def _print(text: str) -> None:
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout.write(text)
