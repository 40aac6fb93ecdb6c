"""`reco3 enrol create|list|revoke|revoke-key|clear-clone`, over the operator API."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence

from reco3.console.api import Api, Json
from reco3.console.arguments import open_api
from reco3.console.enrol_arguments import parse_enrol_arguments
from reco3.console.output import complain, done, run, wants_json
from reco3.console.texts import aligned, json_text, visible
from reco3.console.times import clock_text

TITLES = ("ID", "STATUS", "FOR", "MAY REPLACE", "MADE BY", "EXPIRES", "USED BY")


def main(argv: Sequence[str]) -> int:
    """Carry out one verb; returns the exit code."""
    return run(
        lambda: parse_enrol_arguments(argv),
        lambda options: _verbs[options.verb](open_api(options, os.environ), options),
    )


def _create(api: Api, options: argparse.Namespace) -> int:
    answer = api.make_enrolment_token(options.agent, may_replace=options.may_replace)
    if wants_json(options):
        return done([json_text(answer)])
    whom = f"for {visible(answer.get('agent_id'))}" if answer.get("agent_id") else "for any PC that is not known yet"
    complain(
        f"token {visible(answer.get('id'))} {whom}: good once, until {clock_text(answer.get('expires_at'))}. It is not "
        f"shown again. On the PC: reco3 agent enrol config.yaml --server {api.address.url} --token-file FILE"
    )
    return done([visible(answer.get("token"))])


def _list(api: Api, options: argparse.Namespace) -> int:
    answer = api.enrolment_tokens()
    if wants_json(options):
        return done([json_text(answer)])
    tokens = answer.get("tokens") or []
    if not tokens:
        return done(["no token has been made in the last weeks"])
    return done(aligned([TITLES, *[_cells(token) for token in tokens]]))


def _revoke(api: Api, options: argparse.Namespace) -> int:
    return _told(options, api.revoke_enrolment_token(options.id), f"revoked token {visible(options.id)}")


def _revoke_key(api: Api, options: argparse.Namespace) -> int:
    answer = api.order_about_key(options.agent, "revoke-key", reason=options.reason)
    return _told(options, answer, f"the key of {visible(options.agent)} opens nothing any more")


def _clear_clone(api: Api, options: argparse.Namespace) -> int:
    answer = api.order_about_key(options.agent, "clear-clone", reason=options.reason)
    return _told(options, answer, f"{visible(options.agent)} gets strong commands again")


def _told(options: argparse.Namespace, answer: Json, text: str) -> int:
    return done([json_text(answer) if wants_json(options) else text])


def _cells(token: Json) -> tuple[str, ...]:
    return (
        visible(token.get("id")),
        visible(token.get("status")),
        visible(token.get("agent_id") or "any new PC"),
        "yes" if token.get("may_replace") else "no",
        visible(token.get("created_by")),
        clock_text(token.get("expires_at")),
        visible(token.get("used_by") or "-"),
    )


_verbs: Mapping[str, Callable[[Api, argparse.Namespace], int]] = {
    "create": _create,
    "list": _list,
    "revoke": _revoke,
    "revoke-key": _revoke_key,
    "clear-clone": _clear_clone,
}
