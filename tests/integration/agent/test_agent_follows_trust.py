"""A real agent follows a change of trust that enough owners signed, keeps to it, and no other."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from agent_process import AgentProcess
from malicious_server import order_of, wanted
from scripted_server import Rule, ScriptedServer, answer

from approvers import Approver, key_file, passkey, signed
from reco3.agent.agent import main
from reco3.agent.config import load_config
from reco3.agent.pin_lines import item_text
from reco3.protocol.trust_changes import TrustChange
from reco3.signing.pins import pin_text, trust_version
from trust_changing import trust_change, wire

ALICE, BOB, CAROL, MALLORY = key_file("alice"), key_file("bob"), passkey("carol"), key_file("mallory")


def entries(*people: Approver) -> list[dict[str, str]]:
    return [yaml.safe_load(item_text(one.pin)) for one in people]


def relaying(server: ScriptedServer, *changes: dict[str, Any], revision: int = 1) -> None:
    """Have the server relay these changes of trust."""
    heartbeat: Rule = lambda _request: answer(body={"status": "ok", "trust_changes": revision})  # noqa: E731 - a rule
    server.rules["/agent/heartbeat"] = heartbeat
    server.rules["/agent/trust-changes"] = lambda _request: answer(
        body={"trust_changes": list(changes), "revision": revision}
    )


def wait_for_trust(server: ScriptedServer, *people: Approver, after: int = 0) -> dict[str, Any]:
    """The first heartbeat that names these people's keys as those that are trusted."""
    version = trust_version([one.pin for one in people])
    metrics: dict[str, Any] = server.wait_for(
        "/agent/heartbeat", lambda request: request.body["metrics"].get("trust_version") == version, after=after
    ).body["metrics"]
    return metrics


def approved(server: ScriptedServer, epoch: str, command_id: str, *signers: Approver) -> str:
    """What becomes of a restart that these people signed: its code, or that it completed."""
    server.deliver(order_of(signed(wanted(epoch, command_id), *signers), command_id))
    report = server.wait_for_report(command_id)
    return str(report["result"].get("code") or report["status"])


@pytest.fixture
def trusting_alice(server: ScriptedServer, pc: AgentProcess) -> AgentProcess:
    """A PC that pins Alice's key; its pulls come back at once, so that it looks for news often."""
    server.holds_pulls = False
    pc.configure(control={"approvers": entries(ALICE)})
    return pc


def test_a_running_agent_takes_over_the_new_keys_and_drops_the_old(
    server: ScriptedServer, trusting_alice: AgentProcess
) -> None:
    pc = trusting_alice
    pc.start()
    epoch = wait_for_trust(server, ALICE)["journal"]
    assert approved(server, epoch, "before", ALICE) == "completed"

    relaying(server, wire(trust_change([ALICE], [BOB, CAROL], new_required=2), ALICE, BOB, CAROL))
    metrics = wait_for_trust(server, BOB, CAROL)

    assert (metrics["approvers_pinned"], metrics["approvals_required"]) == (2, 2)
    assert approved(server, epoch, "by-the-old", ALICE) == "unpinned_key"
    assert approved(server, epoch, "by-one", BOB) == "too_few_signatures"
    assert approved(server, epoch, "by-both", BOB, CAROL) == "completed"
    assert pc.restarts() == 2
    line = server.wait_for("/agent/logs", lambda request: "TRUST_CHANGED" in json.dumps(request.body)).body["logs"]
    told = next(one for one in line if one["code"] == "TRUST_CHANGED")
    assert (told["level"], told["meta"]["signed_by"], told["meta"]["owners"]) == ("WARN", "alice", "bob, carol")


def test_the_next_run_trusts_the_new_keys_and_the_config_is_as_it_was(
    server: ScriptedServer, trusting_alice: AgentProcess
) -> None:
    pc = trusting_alice
    relaying(server, wire(trust_change([ALICE], [BOB]), ALICE, BOB))
    pc.start()
    epoch = wait_for_trust(server, BOB)["journal"]
    config = pc.config_path.read_bytes()
    pc.kill()
    server.rules.clear()
    seen = len(server.requests)
    pc.start()
    first = server.wait_for("/agent/heartbeat", after=seen).body["metrics"]

    assert first["trust_version"] == trust_version([BOB.pin])
    assert approved(server, epoch, "by-the-old", ALICE) == "unpinned_key"
    assert approved(server, epoch, "by-the-new", BOB) == "completed"
    assert pc.config_path.read_bytes() == config
    assert "trust_changes_in_force" in pc.log()


@pytest.mark.parametrize(
    ("change", "signers", "code"),
    [
        (trust_change([ALICE], [MALLORY]), [MALLORY], "too_few_signatures"),
        (trust_change([ALICE], [BOB]), [ALICE], "too_few_new_signatures"),
        (trust_change([ALICE, BOB], [BOB]), [ALICE, BOB], "other_trust"),
        (trust_change([ALICE], [BOB], created_at=1_700_000_000, expires_at=1_700_000_060), [ALICE, BOB], "expired"),
    ],
    ids=["signed by a stranger", "not by the new owner", "for other PCs", "expired"],
)
def test_a_change_that_does_not_count_changes_nothing_and_is_asked_for_once(
    change: TrustChange, signers: list[Approver], code: str, server: ScriptedServer, trusting_alice: AgentProcess
) -> None:
    pc = trusting_alice
    relaying(server, wire(change, *signers))
    pc.start()
    server.wait_until(lambda: f"trust_change_refused code={code}" in pc.log())
    seen = len(server.requests)
    for _ in range(3):
        later = server.wait_for("/agent/heartbeat", after=seen)
        seen = server.requests.index(later) + 1

    assert later.body["metrics"]["trust_version"] == trust_version([ALICE.pin])
    assert len(server.sent("/agent/trust-changes")) == 1
    assert not (pc.folder / "state" / "trust-changes.json").exists()


def test_a_change_is_followed_once_even_when_trust_came_back(
    server: ScriptedServer, trusting_alice: AgentProcess
) -> None:
    pc = trusting_alice
    to_bob, back = wire(trust_change([ALICE], [BOB]), ALICE, BOB), wire(trust_change([BOB], [ALICE]), BOB, ALICE)
    relaying(server, to_bob, back)
    pc.start()
    server.wait_until(lambda: pc.log().count("trust_change_followed") == 2)
    wait_for_trust(server, ALICE)

    relaying(server, to_bob, revision=2)
    server.wait_until(lambda: "trust_change_refused code=already_used" in pc.log(), deadline_s=60.0)

    assert pc.log().count("trust_change_followed") == 2


def test_changes_that_come_in_another_order_are_followed_all_the_same(
    server: ScriptedServer, trusting_alice: AgentProcess
) -> None:
    first, second = wire(trust_change([ALICE], [BOB]), ALICE, BOB), wire(trust_change([BOB], [CAROL]), BOB, CAROL)
    relaying(server, second, first)
    trusting_alice.start()

    wait_for_trust(server, CAROL)

    assert "trust_change_refused" not in trusting_alice.log()


def test_a_pc_that_pins_nothing_does_not_even_ask(server: ScriptedServer, pc: AgentProcess) -> None:
    relaying(server, wire(trust_change([ALICE], [BOB]), ALICE, BOB))
    pc.start()
    seen = 0
    for _ in range(3):
        seen = server.requests.index(server.wait_for("/agent/heartbeat", after=seen)) + 1

    assert server.sent("/agent/trust-changes") == []


@pytest.fixture
def changed(server: ScriptedServer, trusting_alice: AgentProcess) -> AgentProcess:
    """A PC, its agent stopped, that followed a change from Alice to Bob, or Bob and Carol."""
    relaying(server, wire(trust_change([ALICE], [BOB, CAROL], new_required=2), ALICE, BOB, CAROL))
    trusting_alice.start()
    wait_for_trust(server, BOB, CAROL)
    trusting_alice.stop()
    return trusting_alice


def test_what_is_in_force_is_shown_and_exported(changed: AgentProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "show", str(changed.config_path)]) == 0
    shown = capsys.readouterr().out
    assert main(["trust", "export", str(changed.config_path)]) == 0
    exported = json.loads(capsys.readouterr().out)

    assert "2 of 2 (bob, carol)" in shown
    assert "by the signatures of alice: a laptop was stolen" in shown
    assert "alice  ed25519" not in shown
    assert exported == {"approvers": sorted([pin_text(BOB.pin), pin_text(CAROL.pin)]), "approvals_required": 2}


def test_the_config_is_not_edited_past_a_change_in_force(
    changed: AgentProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trust", "add", str(changed.config_path), pin_text(MALLORY.pin)]) == 2

    assert "reco3 agent trust settle" in capsys.readouterr().err


def test_settling_writes_into_the_config_what_is_in_force(
    server: ScriptedServer, changed: AgentProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trust", "settle", str(changed.config_path)]) == 0
    out = capsys.readouterr().out
    again = main(["trust", "settle", str(changed.config_path)])

    control = load_config(changed.config_path).control
    assert (control.approvers, control.approvals_required) == ((BOB.pin, CAROL.pin), 2)
    assert "2 of 2 (bob, carol)" in out
    assert again == 0
    assert "No signed change is in force" in capsys.readouterr().out
    kept = json.loads((changed.folder / "state" / "trust-changes.json").read_text(encoding="utf-8"))
    assert (kept["changes"], len(kept["spent"])) == ([], 1)
    del server


def test_the_doctor_tells_of_a_change_that_the_config_does_not_know(
    changed: AgentProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    def finding() -> tuple[str, str]:
        main(["doctor", str(changed.config_path), "--offline", "--json"])
        findings = json.loads(capsys.readouterr().out)["checks"]
        [one] = [one for one in findings if one["code"] == "trust_changes"]
        return one["level"], one["found"]

    level, found = finding()
    main(["trust", "settle", str(changed.config_path)])
    capsys.readouterr()

    assert (level, "this PC trusts bob, carol now" in found) == ("warning", True)
    assert finding()[0] == "ok"
    (changed.folder / "state" / "trust-changes.json").write_text("{", encoding="utf-8")
    assert finding()[0] == "broken"


def test_whoever_edits_the_list_by_hand_has_the_last_word(server: ScriptedServer, changed: AgentProcess) -> None:
    changed.configure(control={"approvers": entries(ALICE, MALLORY)})
    seen = len(server.requests)
    changed.start()

    first = server.wait_for("/agent/heartbeat", after=seen).body["metrics"]

    assert first["trust_version"] == trust_version([ALICE.pin, MALLORY.pin])
    assert "trust_changes_set_aside" in changed.log()


def test_a_file_of_changes_that_somebody_edited_is_not_believed(server: ScriptedServer, changed: AgentProcess) -> None:
    path = changed.folder / "state" / "trust-changes.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    kept["changes"] = [wire(trust_change([ALICE], [MALLORY]), MALLORY)]
    path.write_text(json.dumps(kept), encoding="utf-8")
    seen = len(server.requests)
    changed.start()

    first = server.wait_for("/agent/heartbeat", after=seen).body["metrics"]

    assert first["trust_version"] == trust_version([ALICE.pin])


def test_a_file_of_changes_that_is_damaged_stops_the_start_and_says_so(changed: AgentProcess) -> None:
    path = changed.folder / "state" / "trust-changes.json"
    path.write_text("{", encoding="utf-8")

    called = changed.call(str(changed.config_path))

    assert called.returncode == 2
    assert called.stderr.startswith(f"{path}: expected the changes of trust")
    assert called.stderr.count("\n") == 1


def test_what_cannot_be_kept_is_not_followed(
    server: ScriptedServer, trusting_alice: AgentProcess, tmp_path: Path
) -> None:
    state = trusting_alice.folder / "state"
    state.mkdir(mode=0o700)
    (state / "trust-changes.json.tmp").mkdir()  # In the way of the file that would be written.
    relaying(server, wire(trust_change([ALICE], [BOB]), ALICE, BOB))
    trusting_alice.start()

    server.wait_until(lambda: "trust_change_not_kept" in trusting_alice.log())
    seen = len(server.requests)
    later = server.wait_for("/agent/heartbeat", after=seen).body["metrics"]

    assert later["trust_version"] == trust_version([ALICE.pin])
    del tmp_path
