"""Judges the rules of the config: the watched processes, the programs that commands would start, their services.

It refuses to start any of these programs, a verification's included.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from reco3.agent import local_checks
from reco3.agent.budget import untouchable
from reco3.agent.config import AgentConfig, ControlConfig, RunsWell, TcpPort, WatchedProgram, writable_by
from reco3.agent.doctor.findings import Finding, broken, note, ok, shown, warning, word
from reco3.agent.doctor.people import EXECUTE, Person, cannot
from reco3.agent.metrics import find_processes
from reco3.agent.platform.service_states import Condition, ServiceState
from reco3.agent.refusals import Refused
from reco3.agent.runner import program_path
from reco3.agent.security import Order, Policy, decide
from reco3.protocol.commands import CommandType, Mode

PORT_WAIT_S = 1.0
MAX_LOOKING_S = 8.0


def check_rules(config: AgentConfig, person: Person, ask: Callable[[str], ServiceState]) -> list[Finding]:
    """Every check of every rule; `ask` asks the service manager."""
    deadline_s = time.monotonic() + MAX_LOOKING_S
    running = find_processes([program.name for program in config.watch.processes])
    findings: list[Finding] = []
    for program in config.watch.processes:
        count = len(running[program.name])
        findings.append(judge_running(program.name, count))
        findings += judge_command(program, config)
        if program.service:
            is_late = time.monotonic() > deadline_s
            state = ServiceState(Condition.UNKNOWN, "not asked for want of time") if is_late else ask(program.service)
            findings.append(judge_service(program, state))
        findings += _verifications(program, is_running=count > 0, deadline_s=deadline_s)
    return findings + [_program(where, argv[0], person) for where, argv in argvs_of(config)]


def judge_running(name: str, count: int) -> Finding:
    """Whether a watched process is there now."""
    if count:
        return ok("process", f"{name} runs ({count} process{'es' if count > 1 else ''})")
    return warning(
        "process",
        f"no process named {name} runs now",
        "start it, or correct name: in watch.processes: it is the program's name, or its script's, as ps -e shows it",
    )


def judge_command(program: WatchedProgram, config: AgentConfig) -> list[Finding]:
    """Whether a restart that everybody has approved would be refused for what the rule itself says."""
    if not program.allow_restart:
        return []
    refused = _untouchable(program, config) or _refusal(program, config)
    if refused is None:
        return [ok("restart_rule", f"{program.name} may be restarted, and the config says how")]
    cure = f"add service: or restart_cmd: to {program.name} in watch.processes, or set allow_restart: false"
    if refused.code == "never_touch":
        cure = f"set allow_restart: false for {program.name}, or take the name out of control.limits.never_touch"
    return [broken("restart_rule", f"every restart of {program.name} will be refused: {refused.reason}", cure)]


def _untouchable(program: WatchedProgram, config: AgentConfig) -> Refused | None:
    names = (program.name, program.service)
    return untouchable(config.control.limits, names, config_path=str(config.path))


def _refusal(program: WatchedProgram, config: AgentConfig) -> Refused | None:
    """Ask the agent's own decision about an approved restart, with the two locks open that are judged elsewhere."""
    order = Order(
        "doctor",
        config.agent_id,
        CommandType.RESTART_PROCESS,
        json.dumps({"process": program.name}),
        absent=frozenset({"approved", "approval"}),
    )
    control = replace(config.control, apply_enabled=True, approvers=())
    policy = Policy(config.agent_id, Mode.NORMAL, control, {program.name: program}, str(config.path))
    decided = decide(order, policy)
    return decided if isinstance(decided, Refused) else None


def judge_service(program: WatchedProgram, state: ServiceState) -> Finding:
    """Whether the service manager knows the service, and what it does."""
    code, name = "service", program.service
    match state.condition:
        case Condition.MISSING:
            return broken(
                code,
                f"the service manager does not know {name} (for {program.name})",
                f"correct service: in watch.processes for {program.name}",
            )
        case Condition.UNKNOWN:
            word = f": {shown(state.word, 100)}" if state.word else ""
            return warning(
                code,
                f"not checked: the service manager did not say what {name} does{word}",
                "run the doctor as the agent's user or as root, where the service manager runs",
            )
        case Condition.RUNNING:
            return ok(code, f"{name} runs")
        case _:
            return warning(code, f"{name} does not run now: {shown(state.word, 100)}", f"look why {name} does not run")


def _verifications(program: WatchedProgram, *, is_running: bool, deadline_s: float) -> Iterator[Finding]:
    if program.verify == () and program.allow_restart:
        yield note(
            "verify",
            f"verify is empty for {program.name}: an exit code of 0 is believed to be a restart that worked",
            "leave verify out to have the new process looked for, or name a check such as {tcp_port: 80}",
        )
    for check in program.verify or ():
        if isinstance(check, TcpPort) and time.monotonic() < deadline_s:
            problem = local_checks.connect(check.port, timeout_s=PORT_WAIT_S)
            yield judge_port(program.name, check.port, problem, is_running=is_running)


def judge_port(name: str, port: int, problem: str, *, is_running: bool) -> Finding:
    """Whether a port that a restart must open is open while the process runs."""
    if not problem:
        return ok("verify", f"tcp_port {port} of {name} is open")
    if not is_running:
        return note("verify", f"tcp_port {port} of {name} is closed, and {name} does not run")
    return warning(
        "verify",
        f"tcp_port {port} is closed although {name} runs ({problem}): a restart would count as failed",
        f"correct tcp_port in verify of {name}, or remove it",
    )


def argvs_of(config: AgentConfig) -> list[tuple[str, tuple[str, ...]]]:
    """Every program that a command could start, and the key of the config that names it; each once."""
    named: dict[str, str] = {}
    found = []
    for key, argv in (*_rule_argvs(config), *_limit_argvs(config.control)):
        if argv and argv[0] not in named:
            named[argv[0]] = key
            found.append((key, argv))
    return found


def _rule_argvs(config: AgentConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    for program in config.watch.processes:
        yield f"start_cmd of {program.name}", program.start_argv
        yield f"stop_cmd of {program.name}", program.stop_argv
        yield f"restart_cmd of {program.name}", program.restart_argv
        yield f"rollback of {program.name}", program.rollback_argv
        for check in program.verify or ():
            if isinstance(check, RunsWell):
                yield f"verify of {program.name}", check.argv


def _limit_argvs(control: ControlConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    if control.rate_limit.nginx is not None:
        yield "rate_limit.nginx.argv", control.rate_limit.nginx.argv
        yield "rate_limit.nginx.reload_argv", control.rate_limit.nginx.reload_argv
    if control.rate_limit.command is not None:
        yield "rate_limit.command.set", control.rate_limit.command.set_argv
        yield "rate_limit.command.clear", control.rate_limit.command.clear_argv


def _program(where: str, name: str, person: Person) -> Finding:
    path = program_path(name)
    if path is None:
        return broken(
            "program",
            f"{where} names {name}, and there is no such program",
            "install it, or give its whole path (a service may search other folders than your shell)",
        )
    return judge_program(where, path, refusal=_why_not_executed(person, path), is_writable=_is_writable(path))


def _why_not_executed(person: Person, path: Path) -> str:
    return f"{path} is no file" if not path.is_file() else cannot(person, path, EXECUTE)


def _is_writable(path: Path) -> bool:
    return writable_by(path.resolve()).by_others


def judge_program(where: str, path: Path, *, refusal: str, is_writable: bool) -> Finding:
    """Whether a program can be started, and whether it is what its administrator put there."""
    if refusal:
        return broken("program", f"{where} cannot be started: {refusal}", f"chmod +x {word(path)}, or correct the path")
    if is_writable:
        return warning(
            "program",
            f"everybody on this PC may replace {path}, which {where} starts with the agent's rights",
            f"chmod o-w {word(path)} {word(path.parent)}",
        )
    return ok("program", f"{where}: {path} can be started")
