"""The config of the installed agent: kept when it is there, else made from the template, with a key or by a token.

It refuses to put a key or a token on a command line, to lose a key that the server may have taken, and to let anything
act on this PC: `apply_enabled` is false.
"""

import json
import re
from collections.abc import Callable
from pathlib import PurePath

from reco3.installers.host import Host
from reco3.installers.layouts import Layout, Source
from reco3.installers.orders import InstallOrder, is_loopback
from reco3.installers.payload import newest_app
from reco3.installers.steps import Step
from reco3.installers.troubles import InstallError

PRIVATE = 0o600
NO_KEY_YET = "not-enrolled-yet"
Seal = Callable[[PurePath], None]
_SPENT = "its token is or may be spent: the key is in {path}, where the next run finds it"


def config_step(host: Host, layout: Layout, source: Source, order: InstallOrder, *, seal: Seal) -> Step:
    """Make the config, unless there is one. `seal` lets only those read a file who may read the config.

    A key that was enrolled stays, even when the installation fails later: its token cannot be used again.
    """
    new = layout.new_config

    def make() -> None:
        if order.token is None:
            _write_sealed(host, new, draft(source.template.read_text(encoding="utf-8"), order, layout), seal)
        else:
            _enrol(host, layout, source, order, seal)
        _check(host, layout, new)
        host.rename(new, layout.config)

    def unmake() -> None:
        if order.token is None:
            host.remove(new)
            host.remove(layout.config)
            return
        unfinished = new.with_name(f"{new.name}.enrolling")
        kept = next((path for path in (layout.config, unfinished) if host.exists(path)), None)
        if kept is None and not _has_key(host, new):
            host.remove(new)
        else:
            host.say(f"      {_SPENT.format(path=kept or new)}")

    return Step(title=f"make {layout.config}", is_done=lambda: host.exists(layout.config), do=make, undo=unmake)


def pins_step(host: Host, layout: Layout, order: InstallOrder, *, seal: Seal) -> Step:
    """Pin the approvers that the config does not pin yet."""
    before: list[str] = []

    def missing() -> list[str]:
        text = host.text(layout.config) or ""
        return [pin for pin in order.pins if f'"{pin.split(" ")[0].split(":")[2]}"' not in text]

    def pin_them() -> None:
        before.append(host.text(layout.config) or "")
        argv = layout.reco3_argv(newest_app(host, layout), "agent", "trust", "add", layout.config)
        output = host.must(
            [*argv, *missing()], code="pins_refused", to_do="correct the pins; nothing runs with them yet"
        )
        _show(host, output)

    def unpin() -> None:
        if before and before[0] and host.exists(layout.config):
            _write_sealed(host, layout.new_config, before[0], seal)
            host.rename(layout.new_config, layout.config)

    return Step(title="pin the approvers", is_done=lambda: not missing(), do=pin_them, undo=unpin)


def kept_config_notes(host: Host, layout: Layout, order: InstallOrder) -> list[str]:
    """In what the config that is kept differs from what was asked for, for whoever installs; never a key."""
    text = host.text(layout.config)
    if text is None:
        return []
    wanted = {"base_url": order.base_url, "agent_id": order.agent_id, "api_key": order.api_key}
    differing = [name for name, value in wanted.items() if value is not None and _value(text, name) != value]
    if order.approvals_required and _value(text, "approvals_required") != str(order.approvals_required):
        differing.append("approvals_required")
    notes = [f"{layout.config} is kept; it has another {name} than was given now" for name in differing]
    if order.token is not None:
        notes.append(f"{layout.config} is kept with its key, and the token is not used: see reco3 agent enrol")
    return notes


def draft(template: str, order: InstallOrder, layout: Layout) -> str:
    """The text of a new config."""
    changes = [
        (r'^base_url: "[^"]*"', f"base_url: {json.dumps(order.base_url)}"),
        (r'^agent_id: "[^"]*"', f"agent_id: {json.dumps(order.agent_id)}" if order.agent_id else "# agent_id:"),
        (r'^api_key: "[^"]*"', f"api_key: {json.dumps(order.api_key or NO_KEY_YET)}"),
        (r'^platform: "[^"]*"', f"platform: {json.dumps(layout.platform)}"),
        # The agent's own version says more, once it was brought up to date.
        (r'^version: "[^"]*"', '# version: "1.0"'),
        (r"^  apply_enabled: false", "  apply_enabled: false"),
        (r'^logging: \{level: "INFO", file: ""', f'logging: {{level: "INFO", file: {json.dumps(str(layout.log))}'),
    ]
    if order.approvals_required is not None:
        changes.append((r"^  approvals_required: 1\b", f"  approvals_required: {order.approvals_required}"))
    if order.allow_insecure_http and not is_loopback(order.base_url):
        changes.append((r"^# allow_insecure_http: false", "allow_insecure_http: true"))
    for pattern, line in changes:
        template = _replaced(template, pattern, line)
    return template


def _replaced(template: str, pattern: str, line: str) -> str:
    changed, count = re.subn(pattern, lambda _found: line, template, flags=re.MULTILINE)
    if count != 1:
        raise InstallError(
            "template_changed", f"config.example.yaml: expected one line like {pattern}", "use a whole source tree"
        )
    return changed


def _enrol(host: Host, layout: Layout, source: Source, order: InstallOrder, seal: Seal) -> None:
    """Let the agent itself make a key and bring its hash to the server; a run that was killed has perhaps done it."""
    new = layout.new_config
    if not _has_key(host, new):
        _write_sealed(host, new, draft(source.template.read_text(encoding="utf-8"), order, layout), seal)
        argv = layout.reco3_argv(newest_app(host, layout), "agent", "enrol", new, "--server", order.base_url)
        name = ["--agent-id", order.agent_id] if order.agent_id else []
        # What it prints speaks of a config that is not in its place yet.
        host.must(
            [*argv, *name, "--token-file", "-"],
            code="not_enrolled",
            to_do="see docs/enrolment.md; the same again finishes what was begun",
            stdin=f"{order.token}\n",
        )
    seal(new)


def _has_key(host: Host, config: PurePath) -> bool:
    return _value(host.text(config) or "", "api_key") not in {None, NO_KEY_YET}


def _check(host: Host, layout: Layout, config: PurePath) -> None:
    host.must(
        layout.reco3_argv(newest_app(host, layout), "agent", "--check", config),
        code="config_refused",
        to_do="correct what was given; see agent/common/config.example.yaml",
    )


def _write_sealed(host: Host, path: PurePath, text: str, seal: Seal) -> None:
    host.write(path, text, PRIVATE)
    seal(path)


def _value(text: str, key: str) -> str | None:
    """The value of a key as installers and `reco3 agent enrol` write it: at the line's begin, on one line."""
    found = re.search(rf'^ *{key}: *(?:"((?:[^"\\]|\\.)*)"|([^\s"#]+))', text, flags=re.MULTILINE)
    if found is None:
        return None
    return found[2] if found[1] is None else str(json.loads(f'"{found[1]}"'))


def _show(host: Host, output: str) -> None:
    for line in output.strip().splitlines():
        host.say(f"      {line}")
