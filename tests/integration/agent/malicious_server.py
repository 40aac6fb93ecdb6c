"""Everything that somebody who owns the server can send to a PC that pins two people's keys, and each guard turned off.

The PC is real but for its connection: control, journal, verification and the program that is restarted, which counts.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from agent_process import AgentProcess

from approvers import Approver, ed25519_browser_key, envelope, key_file, passkey, signed
from reco3.agent import approvals, lifecycle, security, signers
from reco3.agent.approvals import SignatureCheck
from reco3.agent.clocks import Clock
from reco3.agent.config import load_config
from reco3.agent.contacts import Contact
from reco3.agent.control import Control, ControlParts
from reco3.agent.http_client import Pulled
from reco3.agent.journal import Journal
from reco3.agent.modes import Modes
from reco3.agent.pin_lines import item_text
from reco3.protocol.envelope import (
    PAYLOAD_TYPE,
    Envelope,
    EnvelopePolicy,
    Expected,
    Signature,
    SignedEnvelope,
    build_envelope,
    signed_envelope_shape,
)
from reco3.protocol.messages import CommandReport
from reco3.signing.pins import Pin

FLEET = "AAAAAAAAAAAAAAAAAAAAAA"
ALICE, BOB, CAROL = key_file("alice"), passkey("bob"), ed25519_browser_key("carol")
ALICE_TOO = key_file("alice")
DEVELOPER = key_file("dev-dora")
MALLORY = key_file("mallory")
PINNED = (ALICE, BOB, CAROL, ALICE_TOO, DEVELOPER)
HOUR_S = 3600


def pinned_entries(*approvers: Approver) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = [yaml.safe_load(item_text(one.pin)) for one in approvers]
    return entries


CONTROL = {"approvers": pinned_entries(*PINNED), "approvals_required": 2, "fleet_id": FLEET}


def wanted(epoch: str, command_id: str, **fields: Any) -> Envelope:
    """A restart that everybody agrees to."""
    now = int(time.time())
    usual: dict[str, Any] = {
        "fleet_id": FLEET,
        "command_id": command_id,
        "agent_epoch": epoch,
        "payload": {"process": "web"},
        "expect": None,
        "created_at": now,
        "expires_at": now + 900,
    }
    return envelope(**usual | fields)


def order_of(sealed: SignedEnvelope | None, command_id: str, **row: Any) -> dict[str, Any]:
    """A row as the server's owner writes it: approved, of course."""
    return {
        "id": command_id,
        "agent_id": "pc-001",
        "ts": "2026-01-01T00:00:00.000Z",
        "type": "RESTART_PROCESS",
        "payload_json": '{"process": "web"}',
        "status": "delivered",
        "approved": True,
        "approval": {"id": "a-1", "approved_by": "admin"},
        **({} if sealed is None else {"envelope": signed_envelope_shape(sealed)}),
    } | row


Forge = Callable[[str, str], dict[str, Any]]
GuardOff = Callable[[pytest.MonkeyPatch, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Attack:
    """One thing that is sent, the code that refuses it, and how to turn off the one guard that does."""

    name: str
    code: str
    forge: Forge
    without_guard: GuardOff
    clock_was_ahead_s: int = 0


def _envelope(*approvers: Approver, **fields: Any) -> Forge:
    def forge(epoch: str, command_id: str) -> dict[str, Any]:
        made = replace(wanted(epoch, command_id), **fields)
        return order_of(signed(made, *approvers), command_id)

    return forge


def _claiming(body: bytes, forger: Approver, victim: Approver) -> Signature:
    return replace(forger.sign(body), key_id=victim.sign(body).key_id)


def _forged(epoch: str, command_id: str) -> dict[str, Any]:
    body = build_envelope(wanted(epoch, command_id))
    return order_of(
        SignedEnvelope(PAYLOAD_TYPE, body, (_claiming(body, MALLORY, ALICE), _claiming(body, MALLORY, ALICE_TOO))),
        command_id,
    )


def _of_another_payload(epoch: str, command_id: str) -> dict[str, Any]:
    agreed = signed(wanted(epoch, command_id, payload={"process": "other"}), ALICE, BOB)
    body = build_envelope(wanted(epoch, command_id))
    return order_of(replace(agreed, body=body), command_id)


def _with_an_unknown_key(epoch: str, command_id: str) -> dict[str, Any]:
    body = build_envelope(wanted(epoch, command_id)).replace(b'"v":1,', b'"v":1,"also":"this",')
    return order_of(SignedEnvelope(PAYLOAD_TYPE, body, (ALICE.sign(body), BOB.sign(body))), command_id)


def _mislabelled(epoch: str, command_id: str) -> dict[str, Any]:
    order = _envelope(ALICE, BOB)(epoch, command_id)
    return order | {"envelope": order["envelope"] | {"payload_type": "application/json"}}


def _in_seconds(**fields: int) -> Forge:
    def forge(epoch: str, command_id: str) -> dict[str, Any]:
        now = int(time.time())
        times = {name: now + offset for name, offset in fields.items()}
        return _envelope(ALICE, BOB, **times)(epoch, command_id)

    return forge


def _believe_every_signature(patch: pytest.MonkeyPatch, _control: dict[str, Any]) -> None:
    checks = [SignatureCheck("alice"), SignatureCheck("bob")]
    patch.setattr(signers, "_check_all", lambda *_args, **_words: checks)


def _ask_for_no_signature(patch: pytest.MonkeyPatch, _control: dict[str, Any]) -> None:
    patch.setattr(security, "_is_to_be_signed", lambda *_args: False)


def _count_signatures(patch: pytest.MonkeyPatch, _control: dict[str, Any]) -> None:
    def count(sealed: SignedEnvelope, control: Any, verify: Any, _path: str) -> Sequence[str]:
        owners = [check.owner for check in verify(sealed) if check.refusal is None]
        assert len(owners) >= control.approvals_required
        return tuple(owners)

    patch.setattr(approvals, "_owners", count)
    patch.setattr(approvals, "self_approval", lambda *_args, **_words: None)


def _be_content_with_one(_patch: pytest.MonkeyPatch, control: dict[str, Any]) -> None:
    control["approvals_required"] = 1


def _switch_off_four_eyes(_patch: pytest.MonkeyPatch, control: dict[str, Any]) -> None:
    control["four_eyes"] = False


def _be_a_development_agent(_patch: pytest.MonkeyPatch, control: dict[str, Any]) -> None:
    control["profile"] = "dev"


def _take_what_is_for_others(patch: pytest.MonkeyPatch, _control: dict[str, Any]) -> None:
    patch.setattr(approvals, "misdirected", lambda *_args: None)


def _parse_leniently(patch: pytest.MonkeyPatch, _control: dict[str, Any]) -> None:
    def parse(body: bytes) -> Envelope:
        known = {name: value for name, value in json.loads(body).items() if name not in {"v", "also"}}
        expect = known["expect"] and Expected(**known["expect"])
        return Envelope(**known | {"expect": expect, "policy": EnvelopePolicy(known["policy"])})

    patch.setattr(approvals, "parse_envelope", parse)


def _read_any_label(patch: pytest.MonkeyPatch, control: dict[str, Any]) -> None:
    read = approvals.read_signed_envelope
    patch.setattr(approvals, "read_signed_envelope", lambda raw: read(raw | {"payload_type": PAYLOAD_TYPE}))
    del control["fleet_id"]


def _ignore_time(patch: pytest.MonkeyPatch, _control: dict[str, Any]) -> None:
    patch.setattr(lifecycle, "_time_window", lambda *_args: None)


def _ignore_validity(patch: pytest.MonkeyPatch, _control: dict[str, Any]) -> None:
    patch.setattr(lifecycle, "_validity", lambda *_args: None)


def _believe_the_clock(patch: pytest.MonkeyPatch, _control: dict[str, Any]) -> None:
    patch.setattr(Clock, "is_regressed", property(lambda _self: False))


ATTACKS = (
    Attack("no signature", "not_signed", lambda _epoch, one: order_of(None, one), _ask_for_no_signature),
    Attack("an empty list of signatures", "not_signed", _envelope(), _ask_for_no_signature),
    Attack("the server's own key under a pinned one's name", "bad_signature", _forged, _believe_every_signature),
    Attack("a signature of another payload", "bad_signature", _of_another_payload, _believe_every_signature),
    Attack("an unpinned key", "unpinned_key", _envelope(ALICE, MALLORY), _believe_every_signature),
    Attack("one of two needed", "too_few_signatures", _envelope(ALICE), _be_content_with_one),
    Attack("the same key twice", "too_few_signatures", _envelope(BOB, BOB), _count_signatures),
    Attack("the same owner twice", "too_few_signatures", _envelope(ALICE, ALICE_TOO), _count_signatures),
    Attack("a development key", "dev_key_refused", _envelope(ALICE, DEVELOPER), _be_a_development_agent),
    Attack("self-approval", "self_approval", _envelope(ALICE, BOB, requested_by="bob"), _switch_off_four_eyes),
    Attack("another PC's", "wrong_agent", _envelope(ALICE, BOB, agent_id="pc-002"), _take_what_is_for_others),
    Attack("another fleet's", "wrong_fleet", _envelope(ALICE, BOB, fleet_id="B" * 21 + "A"), _take_what_is_for_others),
    Attack("a lost journal's", "wrong_epoch", _envelope(ALICE, BOB, agent_epoch="lost"), _take_what_is_for_others),
    Attack("another command's", "wrong_command", _envelope(ALICE, BOB, command_id="x"), _take_what_is_for_others),
    Attack(
        "a stolen break-glass sheet",
        "wrong_policy",
        _envelope(ALICE, BOB, policy=EnvelopePolicy.BREAK_GLASS),
        _take_what_is_for_others,
    ),
    Attack("bytes with one more key", "bad_envelope", _with_an_unknown_key, _parse_leniently),
    Attack("another type of bytes", "bad_envelope", _mislabelled, _read_any_label),
    Attack("an expired one", "expired", _in_seconds(created_at=-901, expires_at=-1), _ignore_time),
    Attack("one from the future", "not_yet_valid", _in_seconds(created_at=200, expires_at=900), _ignore_validity),
    Attack("one for a day", "validity_too_long", _in_seconds(created_at=0, expires_at=86_400), _ignore_validity),
    Attack(
        "the clock set back",
        "clock_regressed",
        _in_seconds(created_at=HOUR_S, expires_at=HOUR_S + 900),
        _believe_the_clock,
        clock_was_ahead_s=HOUR_S,
    ),
)


@dataclass
class DirectPc:
    """A PC that is asked without a network."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    reports: dict[str, CommandReport] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.process = AgentProcess(self.folder, "http://127.0.0.1:1")
        self.process.configure(control=CONTROL | self.settings)
        self.process.config_path.write_text(yaml.safe_dump(self.process._config), encoding="utf-8")
        self.process.config_path.chmod(0o600)
        self.config = load_config(self.process.config_path)
        self.config.state_dir.mkdir(exist_ok=True)
        self.journal = Journal(self.config.state_dir / "agent.db")
        self.epoch = self.journal.epoch()
        modes = Modes(self.journal)
        client: Any = self
        self.control = Control(
            self.config, ControlParts(client, Contact(modes), modes, self.journal, lambda _entry, kept: kept())
        )

    def report(self, report: CommandReport, **_: object) -> None:
        self.reports[report.command_id] = report

    def take(self, order: dict[str, Any]) -> str:
        """Deliver an order; returns the code of the refusal, or `completed`."""
        self.control._take_all(Pulled((order,)))
        report = self.reports[order["id"]]
        return str(report.result.get("code", report.status))

    def restarts(self) -> int:
        return self.process.restarts()


def pins_of(*approvers: Approver) -> tuple[Pin, ...]:
    return tuple(one.pin for one in approvers)
