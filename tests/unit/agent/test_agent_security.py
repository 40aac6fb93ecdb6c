import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_builders import CONFIG_PATH, PROGRAMS, make_policy, make_raw_order

from reco3.agent import security
from reco3.agent.refusals import Refused
from reco3.agent.security import Allowed, RunProgram
from reco3.protocol.commands import CommandType

TABLE = json.loads((Path(__file__).parents[2] / "data" / "agent_decisions.json").read_text(encoding="utf-8"))
BASE = TABLE["base"]

LOCKS_AND_KEYS = {
    "not_signed": "control.approvers",
    "no_approvers": "control.approvers",
    "process_not_watched": "watch.processes",
    "restart_not_allowed": "allow_restart",
    "no_command_configured": "restart_cmd",
    "mode_not_allowed": "control.safe_modes",
    "mode_locked": "reco3 agent mode NORMAL",
    "mode_safe": "SET_MODE NORMAL",
    "apply_disabled": "control.apply_enabled",
}


def decide(case: dict[str, Any]) -> Allowed | Refused:
    raw = make_raw_order(BASE["order"], case.get("order", {}), case.get("without", []))
    order = security.read_order(raw)
    assert order is not None
    if "used_by" in case:
        order = replace(order, used_by=case["used_by"])
    return security.decide(order, make_policy(**BASE["policy"] | case.get("policy", {})))


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
def test_each_order_in_the_table_gets_its_answer(case: dict[str, Any]) -> None:
    decision = decide(case)

    code = decision.code if isinstance(decision, Refused) else "allowed"
    assert code == case["expect"], decision


@pytest.mark.parametrize("case", [case for case in TABLE["cases"] if case["expect"] in LOCKS_AND_KEYS], ids=str)
def test_a_refusal_names_the_key_and_file_that_open_the_lock(case: dict[str, Any]) -> None:
    decision = decide(case)

    assert isinstance(decision, Refused)
    key = LOCKS_AND_KEYS[decision.code]
    assert key in decision.reason or (key == "restart_cmd" and "stop_cmd" in decision.reason)
    assert CONFIG_PATH in decision.reason


def test_every_refusal_code_of_the_module_is_in_the_table() -> None:
    source = Path(security.__file__).read_text(encoding="utf-8")
    told = {case["expect"] for case in TABLE["cases"]} - {"allowed", "not_signed"}  # Which is of approvals.py.

    codes = {word for word in source.split('"') if word.isidentifier() and "_" in word and f'"{word}",' in source}

    assert told <= codes
    assert codes - told <= {"payload_json", "agent_id", "command_id", "limit_rps"}


def test_the_argv_comes_from_the_config_and_from_nowhere_else() -> None:
    decision = decide({"order": {"payload": {"process": "web"}}})

    assert isinstance(decision, Allowed)
    assert decision.action == RunProgram(CommandType.RESTART_PROCESS, "web", (("restart", "web"),), PROGRAMS["web"])


def test_a_restart_without_restart_cmd_stops_and_then_starts() -> None:
    decision = decide({"order": {"payload": {"process": "stop-and-start"}}})

    assert isinstance(decision, Allowed)
    assert isinstance(decision.action, RunProgram)
    assert decision.action.argvs == (("stop",), ("start",))


@pytest.mark.parametrize(
    "raw",
    [None, [], "c-1", {}, {"id": 7}, {"id": ""}, {"id": "x" * 65}, {"id": "c\n1"}, {"id": "c\u00e91"}],
    ids=ascii,
)
def test_an_order_without_a_usable_id_cannot_be_read(raw: object) -> None:
    assert security.read_order(raw) is None
