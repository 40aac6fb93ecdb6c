"""The command line: `reco3 server | agent | commands | approve | keys | swarm | demo` and a few more.

It starts what it names and turns expected failures into one line and exit code 2; it decides nothing.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence

USAGE = """usage: reco3 COMMAND

  server             serve the dashboard and the agents' API (settings: docs/settings.md)
  agent CONFIG       watch this PC as its config file says (reco3 agent --help)
  commands VERB      list, show, create, approve, cancel, resolve (reco3 commands --help)
  approve ID         show what a strong command's bytes say, sign them, wait (reco3 approve --help)
  deny ID            refuse a strong command for everybody
  keys VERB          init, show, list, register, break-glass: your own key (reco3 keys --help)
  trust VERB         propose, list, show, sign, withdraw: replace the keys that PCs trust
  dev-signer         sign whatever waits, on this machine alone, to try things out
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
    try:
        return command(rest)
    except ModuleNotFoundError as err:
        return _explain(err, name)


def _explain(err: ModuleNotFoundError, command: str) -> int:
    from reco3.extras import advice

    line = advice(command, err.name or "")
    if line is None:
        raise err
    print(line, file=sys.stderr)
    return BAD_USAGE


def _agent(arguments: Sequence[str]) -> int:
    from reco3.agent.agent import main as run_agent

    return run_agent(arguments)


def _console(arguments: Sequence[str]) -> int:
    from reco3.console.commands import main as run_console

    return run_console(arguments)


def _approve(arguments: Sequence[str]) -> int:
    from reco3.console.approving import approve_main

    return approve_main(arguments)


def _deny(arguments: Sequence[str]) -> int:
    from reco3.console.approving import deny_main

    return deny_main(arguments)


def _keys(arguments: Sequence[str]) -> int:
    from reco3.console.key_verbs import main as run_keys

    return run_keys(arguments)


def _trust(arguments: Sequence[str]) -> int:
    from reco3.console.trust import main as run_trust

    return run_trust(arguments)


def _dev_signer(arguments: Sequence[str]) -> int:
    from reco3.console.dev_signer import main as run_dev_signer

    return run_dev_signer(arguments)


def _enrol(arguments: Sequence[str]) -> int:
    from reco3.console.enrolments import main as run_enrolments

    return run_enrolments(arguments)


def _demo(arguments: Sequence[str]) -> int:
    from reco3.demo.stage import main as run_demo
    from reco3.extras import need_server

    need_server()
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
    import gc
    import logging

    from reco3.extras import need_server

    need_server()
    # Loading makes many objects and no garbage: looking for some takes a sixth of the start. `wiring` begins to look.
    gc.disable()
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
    "approve": _approve,
    "deny": _deny,
    "keys": _keys,
    "trust": _trust,
    "dev-signer": _dev_signer,
    "enrol": _enrol,
    "swarm": _swarm,
    "demo": _demo,
    "version": _version,
    "--version": _version,
}


if __name__ == "__main__":
    sys.exit(main())
