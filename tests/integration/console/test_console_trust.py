"""`reco3 trust` against a server that may lie: what is asked for, what is signed, and what never is."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lying_server import LyingServer

from approvers import Approver, key_file, passkey
from reco3.cli import main
from reco3.console.approver_keys import KeyFile, create_key
from reco3.protocol.envelope import decode_base64url, pre_authentication_encoding, read_signature
from reco3.protocol.trust_changes import TRUST_PAYLOAD_TYPE, trust_set_fields
from reco3.signing.pins import Pin, fingerprint, pin_text
from reco3.signing.trust_changes import trust_set_of
from reco3.signing.verifying import Verified, verify_signature
from trust_changing import trust_change, wire

BOB, CAROL = key_file("bob"), passkey("carol")
CHANGES = "/api/trust-changes"


@dataclass(frozen=True)
class Owner:
    """Somebody whose key file is on this machine, as a test's changes name him."""

    pin: Pin


@pytest.fixture
def key(key_home: Path) -> KeyFile:
    return create_key(key_home / "alice.key", "alice", None)


@pytest.fixture
def alice(key: KeyFile) -> Owner:
    return Owner(key.pin)


def offered(liar: LyingServer, envelope: dict[str, Any], change_id: str, **fields: Any) -> None:
    row = {"id": change_id, "status": "open", "old_signed": [], "new_signed": [], "old_needed": 1, "new_needed": 1}
    liar.answer("GET", f"{CHANGES}/{change_id}", row | {"envelope": envelope} | fields)
    liar.answer("POST", f"{CHANGES}/{change_id}/sign", row | {"old_signed": ["alice"]})


def test_the_bytes_are_shown_and_signed_as_they_are(
    liar: LyingServer, key: KeyFile, alice: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    change = trust_change([alice, CAROL], [BOB, CAROL], reason="Alice leaves")
    envelope = wire(change, CAROL)
    offered(liar, envelope, change.nonce)

    assert main(["trust", "sign", change.nonce, "--yes"]) == 0

    printed = capsys.readouterr()
    for line in (
        f"REMOVES   alice  ed25519  {fingerprint(key.pin.key)}",
        f"keeps   carol  webauthn at http://localhost:5001  {fingerprint(CAROL.pin.key)}",
        f"ADDS      bob  ed25519  {fingerprint(BOB.pin.key)}",
        "because   Alice leaves",
        "old keys  1 of 2 signed: carol",
        "new keys  1 of 1 signed: carol",
    ):
        assert line in printed.err
    assert "signed; 1 of 1 owners of old keys and 0 of 1 owners of new keys have" in printed.out
    sent = liar.posted(f"{CHANGES}/{change.nonce}/sign")[0]["signature"]
    pae = pre_authentication_encoding(TRUST_PAYLOAD_TYPE, decode_base64url(envelope["body"]))
    assert isinstance(verify_signature(key.pin, read_signature(sent), pae), Verified)


def test_a_hostile_server_gets_no_signature(
    liar: LyingServer, alice: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    change = trust_change([alice], [BOB])
    long_ago = int(time.time()) - 1_000_000
    over = trust_change([alice], [BOB], created_at=long_ago, expires_at=long_ago + 60)
    lies = {
        "another change": (wire(change), "AAAAAAAAAAAAAAAAAAAAAA", "not of the one that you named"),
        "a command": (
            wire(change) | {"payload_type": "application/vnd.reco3.command.v1+json"},
            change.nonce,
            "no change",
        ),
        "nothing": ({}, change.nonce, "no change of trust"),
        "bytes that are none": (wire(change) | {"body": "e30"}, change.nonce, "no change of trust"),
        "expired": (wire(over), over.nonce, "its time is over"),
        "of others": (wire(trust_change([BOB], [CAROL])), change.nonce, "neither as an old nor as a new one"),
    }
    for what, (envelope, change_id, says) in lies.items():
        offered(liar, envelope, change_id)
        assert main(["trust", "sign", change_id, "--yes"]) == 1, what
        assert says in capsys.readouterr().err, what

    assert liar.posts() == []


def test_one_that_was_withdrawn_is_not_signed(
    liar: LyingServer, alice: Owner, capsys: pytest.CaptureFixture[str]
) -> None:
    change = trust_change([alice], [BOB])
    facts = {"status": "withdrawn", "withdrawn_by": "admin\x1b[2J", "withdrawn_reason": "wrong key"}
    offered(liar, wire(change), change.nonce, **facts)

    assert main(["trust", "sign", change.nonce, "--yes"]) == 1

    err = capsys.readouterr().err
    assert "wrong key" in err
    assert "\x1b" not in err
    assert liar.posts() == []


def exported(folder: Path, *people: Owner | Approver, required: int = 1) -> str:
    path = folder / "trust.json"
    path.write_text(json.dumps(trust_set_fields(trust_set_of([one.pin for one in people], required))), "utf-8")
    return str(path)


def test_a_change_is_asked_for_by_what_is_added_and_removed(
    liar: LyingServer, alice: Owner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    liar.answer("POST", CHANGES, {"id": "BBBBBBBBBBBBBBBBBBBBBA", "status": "open"})
    words = ["--from", exported(tmp_path, alice, CAROL), "--add", pin_text(BOB.pin), "--reason", "Alice leaves"]

    code = main(["trust", "propose", *words, "--remove", fingerprint(alice.pin.key), "--required", "2"])

    sent = liar.posted(CHANGES)[0]
    assert code == 0
    assert sent["old"] == trust_set_fields(trust_set_of([alice.pin, CAROL.pin], 1))
    assert sent["new"] == trust_set_fields(trust_set_of([BOB.pin, CAROL.pin], 2))
    assert (sent["reason"], "expires_in_days" in sent) == ("Alice leaves", False)
    out = capsys.readouterr().out
    assert "once 2 of alice, carol have signed it with an old key" in out
    assert "reco3 trust sign BBBBBBBBBBBBBBBBBBBBBA" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing would change"),
        (["--add", "nonsense"], "expected owner:kind:key"),
        (["--remove", "0000"], "no such key is in the set"),
        (["--required", "2"], "1 people would own keys then, and 2 must sign"),
        (["--required", "0"], "expected a whole number from 1 to 64"),
        (["--add", pin_text(BOB.pin), "--expires-in-days", "31"], "expected a whole number from 1 to 30"),
        (["--remove", pin_text(CAROL.pin)], "0 people would own keys then"),
        (["--add", pin_text(CAROL.pin)], "that key is in the set already"),
    ],
)
def test_what_cannot_be_is_not_asked_for(
    words: list[str], says: str, liar: LyingServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trust", "propose", "--from", exported(tmp_path, CAROL), "--reason", "why", *words]) == 2

    assert says in capsys.readouterr().err
    assert liar.requests == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"approvers": [], "approvals_required": 1}', "alice:ed25519:x"])
def test_a_file_that_is_no_export_is_refused_by_name(
    content: str, liar: LyingServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trust.json"
    path.write_text(content, encoding="utf-8")

    assert main(["trust", "propose", "--from", str(path), "--reason", "why", "--add", pin_text(BOB.pin)]) == 2

    err = capsys.readouterr().err
    assert str(path) in err
    assert "reco3 agent trust export CONFIG" in err
    assert liar.requests == []


def test_a_verb_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust"]) == 2
    assert "expected one of propose, list, show, sign, withdraw" in capsys.readouterr().err
    assert main(["trust", "sign"]) == 2
    assert "ID" in capsys.readouterr().err
