"""Builders for the agent's tests: defaults that work, so that a test shows only what matters."""

import json
from pathlib import Path
from typing import Any

from reco3.agent.config import ControlConfig, LimitDriver, RateLimitConfig, WatchedProgram
from reco3.agent.security import Policy
from reco3.protocol.commands import Mode
from reco3.signing.pins import parse_pin

ALICE = parse_pin("alice:ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=")
CONFIG_PATH = "/etc/reco3/config.yaml"

PROGRAMS = {
    "web": WatchedProgram("web", ("start",), ("stop",), ("restart", "web"), allow_restart=True),
    "stop-and-start": WatchedProgram("stop-and-start", ("start",), ("stop",), (), allow_restart=True),
    "db": WatchedProgram("db", ("start",), ("stop",), ("restart",), allow_restart=False),
    "bare": WatchedProgram("bare", (), (), (), allow_restart=True),
    "service": WatchedProgram("service", service="web.service", allow_restart=True),
    "releases": WatchedProgram("releases", rollback_argv=("back",), allow_restart=True),
    "locked-releases": WatchedProgram("locked-releases", rollback_argv=("back",)),
    "start-only": WatchedProgram("start-only", ("start",), (), (), allow_restart=True),
}


def make_control(**changes: Any) -> ControlConfig:
    path = changes.pop("rate_limit_path", Path("/nowhere/limits.json"))
    return ControlConfig(
        rate_limit=changes.pop("rate_limit", RateLimitConfig(LimitDriver.FILE, path)),
        **{"apply_enabled": True, **changes},
    )


def make_policy(
    *,
    mode: str = "NORMAL",
    apply_enabled: bool = True,
    safe_modes: tuple[str, ...] | list[str] = ("NORMAL", "SAFE"),
    approvers: int = 0,
) -> Policy:
    control = make_control(
        apply_enabled=apply_enabled,
        safe_modes=tuple(Mode(name) for name in safe_modes),
        approvers=(ALICE,) * approvers,
    )
    return Policy("pc-001", Mode(mode), control, PROGRAMS, CONFIG_PATH)


def make_raw_order(base: dict[str, Any], changes: dict[str, Any], without: list[str]) -> dict[str, Any]:
    """An order as the server sends it; `payload` becomes the string `payload_json`."""
    order = {key: value for key, value in (base | changes).items() if key not in without}
    if "payload" in order:
        order["payload_json"] = json.dumps(order.pop("payload"))
    if "payload_of_size" in order:
        order["payload_json"] = json.dumps({"process": "w" * order.pop("payload_of_size")})
    if "payload_nested" in order:
        depth = order.pop("payload_nested")
        order["payload_json"] = "[" * depth
    return order | {key: changes[key] for key in changes.keys() & {"payload_json"}}
