"""Starts the agent on a PC and stops it again: `main` is what `reco_agent.py` and `reco3 agent` call.

It refuses to start with a config it does not understand, beside another agent on the same state, or with commands
enabled in a config that everybody on the PC may write.
"""

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reco3 import __version__
from reco3.agent import signers
from reco3.agent.config import AgentConfig, ConfigError, forget_parser, load_config, writable_by
from reco3.agent.contacts import Contact
from reco3.agent.control import Control, ControlParts
from reco3.agent.http_client import HttpClient
from reco3.agent.journal import Journal, StateDirLock
from reco3.agent.local_state import JOURNAL_FILE, StartError, local_journal, make_state_dir
from reco3.agent.log_file import close_log, log_event, open_log
from reco3.agent.modes import Modes
from reco3.agent.telemetry import Telemetry
from reco3.agent.veto import describe_waiting, local_user, waiting_commands
from reco3.protocol.commands import Mode

if TYPE_CHECKING:
    import argparse

EXIT_OK = 0
EXIT_NOTHING_STOPPED = 1
EXIT_UNUSABLE = 2
STOP_WITHIN_S = 4.5
BREAK_OFF_AFTER_S = 1.0
LOOK_FOR_SIGNALS_EVERY_S = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent, check its config, or do what a person at the PC asks for; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    verbs = {
        "mode": _set_mode,
        "veto": _veto,
        "waiting": _show_waiting,
        "trust-clock": _trust_clock,
        "trust": _trust,
        "break-glass": _break_glass,
        "enrol": _enrol,
        "rotate-key": _rotate_key,
        "doctor": _doctor,
    }
    try:
        if words and words[0] in verbs:
            return verbs[words[0]](words[1:])
        return _check_or_run(words)
    except (ConfigError, StartError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_UNUSABLE


def _check_or_run(words: list[str]) -> int:
    if len(words) == 1 and not words[0].startswith("-"):
        # What every service runs: it need not carry the parser of command lines along for months.
        return _run(_usable_config(Path(words[0])))
    parser = _parser(
        prog="reco3 agent",
        description="Watch this PC and carry out what its own config allows.",
        epilog="On the PC itself: reco3 agent mode NORMAL CONFIG (to leave LOCKED), reco3 agent waiting CONFIG, "
        "reco3 agent veto CONFIG [COMMAND_ID], reco3 agent trust-clock CONFIG, reco3 agent trust show CONFIG, "
        "reco3 agent break-glass CONFIG FILE. Its key: reco3 agent enrol CONFIG --server URL --token-file FILE, "
        "reco3 agent rotate-key CONFIG. Whether all of it works: reco3 agent doctor CONFIG",
    )
    parser.add_argument("config", metavar="CONFIG", type=Path, help="the YAML file; see config.example.yaml")
    parser.add_argument("--check", action="store_true", help="only say whether the config can be used")
    options = parser.parse_args(words)
    config = _usable_config(options.config)
    if options.check:
        sys.stdout.write(f"{options.config}: OK\n")
        return EXIT_OK
    return _run(config)


def _parser(**words: str) -> "argparse.ArgumentParser":
    import argparse  # noqa: PLC0415 - see _check_or_run

    return argparse.ArgumentParser(**words)  # type: ignore[arg-type]


def _usable_config(path: Path) -> AgentConfig:
    config = load_config(path)
    _check_permissions(config)
    return config


def _set_mode(words: list[str]) -> int:
    parser = _parser(
        prog="reco3 agent mode", description="Set the mode on the PC itself; a running agent follows within seconds."
    )
    parser.add_argument("mode", choices=[str(mode) for mode in Mode])
    parser.add_argument("config", metavar="CONFIG", type=Path)
    options = parser.parse_args(words)
    config = load_config(options.config)
    with local_journal(config) as journal:
        journal.choose_mode(Mode(options.mode))
    sys.stdout.write(f"mode of {config.agent_id} is {options.mode}\n")
    return EXIT_OK


def _veto(words: list[str]) -> int:
    parser = _parser(prog="reco3 agent veto", description="Stop strong commands that wait on this PC, before they act.")
    parser.add_argument("config", metavar="CONFIG", type=Path)
    parser.add_argument("command_id", metavar="COMMAND_ID", nargs="?", help="only this one; default: all that wait")
    options = parser.parse_args(words)
    with local_journal(load_config(options.config)) as journal:
        stopped = journal.veto(options.command_id, by=local_user(os.environ))
    for command_id in stopped:
        sys.stdout.write(f"stopped {command_id}\n")
    if stopped:
        return EXIT_OK
    sys.stderr.write("nothing was stopped: no such command waits here; it may have begun already\n")
    return EXIT_NOTHING_STOPPED


def _show_waiting(words: list[str]) -> int:
    parser = _parser(prog="reco3 agent waiting", description="Show the strong commands that wait on this PC.")
    parser.add_argument("config", metavar="CONFIG", type=Path)
    options = parser.parse_args(words)
    with local_journal(load_config(options.config)) as journal:
        entries = waiting_commands(journal)
    sys.stdout.write(describe_waiting(entries, datetime.now(UTC)))
    return EXIT_OK


def _trust_clock(words: list[str]) -> int:
    parser = _parser(
        prog="reco3 agent trust-clock",
        description="Say that this PC's clock is right now, after it was corrected to an earlier time.",
    )
    parser.add_argument("config", metavar="CONFIG", type=Path)
    options = parser.parse_args(words)
    with local_journal(load_config(options.config)) as journal:
        journal.trust_clock()
    sys.stdout.write("the highest time seen is forgotten; this PC's clock counts from now on\n")
    return EXIT_OK


def _enrol(words: list[str]) -> int:
    from reco3.agent.key_verbs import enrol_verb  # noqa: PLC0415 - an agent that watches need not carry it along

    return enrol_verb(words)


def _rotate_key(words: list[str]) -> int:
    from reco3.agent.key_verbs import rotate_verb  # noqa: PLC0415 - likewise

    return rotate_verb(words)


def _doctor(words: list[str]) -> int:
    from reco3.agent.doctor.verb import main as examine  # noqa: PLC0415 - for a person at the PC alone

    return examine(words)


def _trust(words: list[str]) -> int:
    from reco3.agent.trust import main as change_trust  # noqa: PLC0415 - for a person at the PC alone

    description = "Show or change whose signatures this PC counts; nothing is sent anywhere."
    return change_trust(words, _parser(prog="reco3 agent trust", description=description))


def _break_glass(words: list[str]) -> int:
    from reco3.agent.break_glass import main as break_glass  # noqa: PLC0415 - for a person at the PC alone

    description = "Use a sheet that was signed beforehand, while the server is away."
    return break_glass(words, _parser(prog="reco3 agent break-glass", description=description))


def _check_permissions(config: AgentConfig) -> None:
    if config.control.apply_enabled and writable_by(config.path).by_others:
        raise StartError(
            f"{config.path}: control.apply_enabled is true, but everybody on this PC may write the file or its folder: "
            f"take that right away (chmod o-w) or set it to false"
        )


def run_service(config_path: Path, wait_for_stop: Callable[[], str]) -> None:
    """Run the agent for a service manager that calls instead of sending signals; returns once it was stopped.

    `wait_for_stop` is called when both threads run, and returns in a word what ended the wait. This may be any thread:
    no signal is caught.
    Raises: ConfigError; StartError.
    """
    _run(_usable_config(config_path), lambda: wait_for_stop)


def _run(config: AgentConfig, prepare_to_wait: Callable[[], Callable[[], str]] | None = None) -> int:
    forget_parser()
    make_state_dir(config.state_dir)
    lock = StateDirLock(config.state_dir)
    _acquire(lock, config.state_dir)
    try:
        _open_log(config)
        # Handlers before threads: a signal that comes early must find somebody to take it.
        wait_for_stop = (prepare_to_wait or _catch_signals)()
        _log_start(config)
        config = _with_trust_changes(config)
        _Agent(config).run_until(wait_for_stop)
        log_event("agent_stopped")
    finally:
        close_log()
        lock.release()
    return EXIT_OK


def _acquire(lock: StateDirLock, state_dir: Path) -> None:
    try:
        is_ours = lock.acquire()
    except OSError as error:
        raise StartError(f"{state_dir}: state_dir: cannot be written: {error.strerror}") from error
    if not is_ours:
        raise StartError(
            f"{state_dir}: state_dir: another agent is running with it; stop that one, or give this one its own"
        )


def _open_log(config: AgentConfig) -> None:
    try:
        open_log(config.logging, secret=config.api_key)
    except OSError as error:
        raise StartError(f"{config.logging.file}: logging.file: cannot be written: {error.strerror}") from error


def _log_start(config: AgentConfig) -> None:
    log_event(
        "agent_started",
        version=__version__,
        agent_id=config.agent_id,
        server=f"{config.base_url.host}:{config.base_url.port}",
        apply_enabled=config.control.apply_enabled,
        config=config.path,
    )
    writable = writable_by(config.path)
    if writable.by_group or writable.by_others:
        log_event("config_writable_by_others", logging.WARNING, config=config.path, hint="chmod go-w")
    if config.control.approvers:
        log_event("approvers_pinned", logging.INFO, **signers.summary_of(config.control))


def _with_trust_changes(config: AgentConfig) -> AgentConfig:
    """What the config says, as its approvers have changed it since. Raises: StartError."""
    if not (config.control.approvers and (config.state_dir / signers.TRUST_CHANGES_FILE).exists()):
        return config
    from reco3.agent import kept_trust  # noqa: PLC0415 - an agent whose keys were never changed need not carry it

    now = kept_trust.in_force(config)
    if now.set_aside:
        log_event("trust_changes_set_aside", logging.WARNING, count=now.set_aside, why="the config was edited since")
        with contextlib.suppress(OSError):
            kept_trust.forget_changes(config)
    if now.followed:
        log_event("trust_changes_in_force", logging.INFO, **signers.summary_of(now.config.control))
    return now.config


def _catch_signals() -> Callable[[], str]:
    """Take the signals that end the agent from now on; returns what waits for the first one and tells its name."""
    names = ["SIGTERM", "SIGINT", "SIGBREAK"]
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    wait = _caught_by_queue(numbers) if sys.platform == "win32" else _caught_by_pipe(numbers)
    return lambda: signal.Signals(wait()).name


def _caught_by_pipe(numbers: list[int]) -> Callable[[], int]:
    # The number is written at once, whichever thread the system interrupts: nobody has to wake up to look for it.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in numbers:
        signal.signal(number, lambda _caught, _frame: None)
    return lambda: os.read(reader, 1)[0]


def _caught_by_queue(numbers: list[int]) -> Callable[[], int]:
    # A SimpleQueue, because its put may interrupt its own get in the same thread, which an Event's set may not.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers:
        signal.signal(number, lambda caught, _frame: signals.put(caught))

    def wait() -> int:
        while True:
            with contextlib.suppress(queue.Empty):
                # Handlers run in this thread, and only between its waits when the system woke another one.
                return signals.get(timeout=LOOK_FOR_SIGNALS_EVERY_S)

    return wait


class _Agent:
    """Two threads that share a journal and a mode, each with its own connection to the server."""

    def __init__(self, config: AgentConfig) -> None:
        self._journal = Journal(config.state_dir / JOURNAL_FILE)
        # A journal of its own: a heartbeat must not wait for a command that waits for the disk.
        self._modes_journal = Journal(config.state_dir / JOURNAL_FILE)
        modes = Modes(self._modes_journal)
        contact = Contact(modes)
        self._telemetry = Telemetry(
            config,
            client=_client(config),
            log_client=_client(config),
            contact=contact,
            modes=modes,
            journal=self._modes_journal,
        )
        report_incident = self._telemetry.report_incident
        parts = ControlParts(
            _client(config),
            contact,
            modes,
            self._journal,
            report_incident,
            when_acted=self._telemetry.announce,
            known_processes=self._telemetry.known_processes,
            when_trust_changed=self._telemetry.tell_trust,
        )
        self._control = Control(config, parts)
        self._telemetry.when_commands_wait(self._control.look_now)
        self._telemetry.when_trust_changes(self._control.look_at_trust)
        modes.when_changed(self._telemetry.announce)

    def run_until(self, wait_for_stop: Callable[[], str]) -> None:
        # Daemons: a command that takes a minute must not hold up the stop; the journal knows that it was begun.
        control = threading.Thread(target=self._control.run, name="control", daemon=True)
        telemetry = threading.Thread(target=self._telemetry.run, name="telemetry", daemon=True)
        control.start()
        telemetry.start()
        log_event("agent_stopping", signal=wait_for_stop())
        deadline = time.monotonic() + STOP_WITHIN_S
        self._control.stop()
        self._telemetry.stop()
        telemetry.join(BREAK_OFF_AFTER_S)
        self._telemetry.break_off()
        for thread in (telemetry, control):
            thread.join(max(0.0, deadline - time.monotonic()))
        if not (telemetry.is_alive() or control.is_alive()):
            self._modes_journal.close()
            self._journal.close()


def _client(config: AgentConfig) -> HttpClient:
    return HttpClient(config.base_url, agent_id=config.agent_id, api_key=config.api_key)


if __name__ == "__main__":
    sys.exit(main())
