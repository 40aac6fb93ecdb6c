"""The command line: `reco3 server | agent | commands | swarm | demo`.

It starts what it names and turns expected failures into one line and exit code 2; it decides nothing.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence

USAGE = """usage: reco3 COMMAND

  server             serve the dashboard and the agents' API (settings: docs/settings.md)
  agent CONFIG       watch this PC as its config file says (reco3 agent --help)
  commands VERB      list, show, create, approve, cancel, resolve (reco3 commands --help)
  enrol VERB         create, list, revoke: let PCs in, and end their keys (reco3 enrol --help)
  swarm VERB         simulate many PCs against a server (reco3 swarm --help)
  demo               server, agent and a small service on this machine, to try everything
  version            print the version
"""
BAD_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("help", "-h", "--help"):
        print(USAGE, end="")
        return 0
    command = _commands.get(name)
    if command is None:
        print(f"reco3: there is no command {ascii(name)[:60]}\n\n{USAGE}", end="", file=sys.stderr)
        return BAD_USAGE
    return command(rest)


def _agent(arguments: Sequence[str]) -> int:
    from reco3.agent.agent import main as run_agent

    return run_agent(arguments)


def _console(arguments: Sequence[str]) -> int:
    from reco3.console.commands import main as run_console

    return run_console(arguments)


def _enrol(arguments: Sequence[str]) -> int:
    from reco3.console.enrolments import main as run_enrolments

    return run_enrolments(arguments)


def _demo(arguments: Sequence[str]) -> int:
    from reco3.demo.stage import main as run_demo

    return run_demo(arguments)


def _swarm(arguments: Sequence[str]) -> int:
    from reco3.swarm.verbs import main as run_swarm

    return run_swarm(arguments)


def _version(_arguments: Sequence[str]) -> int:
    from reco3 import __version__

    print(__version__)
    return 0


def _server(arguments: Sequence[str]) -> int:
    if arguments:
        print("reco3 server takes no arguments; its settings are environment variables (docs/settings.md).")
        return BAD_USAGE if arguments[0] not in ("-h", "--help") else 0
    import logging

    from reco3.server.domain.errors import StartRefused
    from reco3.server.wiring import run_server

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        run_server(os.environ)
    except StartRefused as err:
        print(f"reco3: {err.message}", file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt:
        pass
    return 0


_commands: Mapping[str, Callable[[Sequence[str]], int]] = {
    "server": _server,
    "agent": _agent,
    "commands": _console,
    "enrol": _enrol,
    "swarm": _swarm,
    "demo": _demo,
    "version": _version,
    "--version": _version,
}


if __name__ == "__main__":
    sys.exit(main())
