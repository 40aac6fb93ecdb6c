"""`reco3 commands list|show|create|approve|cancel|resolve`, over the operator API.

It prints what the server says and decides nothing; a strong command waits for a person, whoever asked for it.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence

from reco3.console.api import Api
from reco3.console.arguments import open_api, parse_arguments, parse_payload
from reco3.console.output import complain, done, run, wants_json
from reco3.console.tables import table_lines
from reco3.console.texts import json_text, visible
from reco3.console.timelines import timeline_lines
from reco3.console.waiting import wait_and_tell
from reco3.protocol.commands import CommandType, needs_approval


def main(argv: Sequence[str]) -> int:
    """Carry out one verb; returns the exit code."""
    return run(
        lambda: parse_arguments(argv), lambda options: _verbs[options.verb](open_api(options, os.environ), options)
    )


def _list(api: Api, options: argparse.Namespace) -> int:
    page = api.commands(limit=options.limit, agent_id=options.agent, status=options.status)
    if wants_json(options):
        return done([json_text(page)])
    commands = page.get("commands") or []
    if not commands:
        return done(["no such command" if options.agent or options.status else "no command has been sent yet"])
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines = table_lines(commands, page.get("now"), width=width)
    if page.get("next_cursor"):
        lines.append(f"(the newest {len(commands)}; --limit shows more)")
    return done(lines)


def _show(api: Api, options: argparse.Namespace) -> int:
    command = api.command(options.id)
    return done([json_text(command)] if wants_json(options) else timeline_lines(command))


def _create(api: Api, options: argparse.Namespace) -> int:
    asked = {
        "agent_id": options.agent,
        "type": options.type,
        "payload": parse_payload(options.type, options.payload),
        "reason": options.reason,
        "expires_in_s": options.expires_in_s,
    }
    answer = api.create({name: value for name, value in asked.items() if value is not None})
    command_id = str(answer.get("id"))
    if options.wait:
        complain(f"created {visible(command_id)}")
        return wait_and_tell(api, command_id, is_json=wants_json(options))
    if wants_json(options):
        return done([json_text(answer)])
    lines = [f"created {visible(command_id)}"]
    if options.type in set(CommandType) and needs_approval(CommandType(options.type)):
        lines.append(f"it waits for approval: reco3 commands approve {visible(command_id)}")
        lines.append(f"or, where the PC pins keys: reco3 approve {visible(command_id)}")
    return done(lines)


def _approve(api: Api, options: argparse.Namespace) -> int:
    answer = api.approve(options.id)
    if options.wait:
        return wait_and_tell(api, options.id, is_json=wants_json(options))
    return done([json_text(answer)] if wants_json(options) else [f"approved {visible(options.id)}"])


def _cancel(api: Api, options: argparse.Namespace) -> int:
    answer = api.cancel(options.id, options.reason)
    if wants_json(options):
        return done([json_text(answer)])
    if answer.get("status") == "cancelled":
        return done([f"cancelled {visible(options.id)}: it will not run"])
    return done([f"cancel requested for {visible(options.id)}: it was sent already; the PC says whether it had begun"])


def _resolve(api: Api, options: argparse.Namespace) -> int:
    answer = api.resolve(options.id, outcome=options.outcome.replace("-", "_"), reason=options.reason)
    if wants_json(options):
        return done([json_text(answer)])
    finding = "it ran" if options.outcome == "ran" else "it did not run"
    return done([f"recorded for {visible(options.id)}: {finding}; now {visible(answer.get('status'))}"])


_verbs: Mapping[str, Callable[[Api, argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "create": _create,
    "approve": _approve,
    "cancel": _cancel,
    "resolve": _resolve,
}
