"""`reco3 approve` against a server that may lie: what is signed, and what never is."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from lying_server import LyingServer

from e2e.page_server import command, stamp
from offered_envelopes import envelope, honest_offer, offer
from reco3.cli import main
from reco3.console.approver_keys import KeyFile, create_key
from reco3.protocol.envelope import (
    EnvelopePolicy,
    build_envelope,
    decode_base64url,
    pre_authentication_encoding,
    read_signature,
)
from reco3.signing.verifying import Verified, verify_signature
from terminals import Terminal

ENVELOPE = "/api/agent-commands/c-1/envelope"
APPROVE = "/api/agent-commands/c-1/approve"
COMMAND = "/api/agent-commands/c-1"
RECO3 = [sys.executable, "-m", "reco3.cli"]
PASSPHRASE = "correct horse battery staple"


def offered(liar: LyingServer, answer: dict[str, Any], **changes: Any) -> None:
    """The server offers this envelope, and lists the command as `envelope()` has it."""
    liar.answer("GET", ENVELOPE, answer)
    liar.answer("GET", COMMAND, command("c-1", **{"reason": envelope().reason, **changes}))


@pytest.fixture
def key(key_home: Path) -> KeyFile:
    return create_key(key_home / "alice.key", "alice", None)


def ended(liar: LyingServer, status: str, **changes: Any) -> None:
    """The server says that approving worked, and how the command then ended."""
    liar.answer("POST", APPROVE, {"approval_id": "a-1", "status": "approved"})
    approval = {"approved_by": "user:alice", "approved_at": stamp(1)}
    facts = {"reason": envelope().reason, "finished_at": stamp(0.16), **changes}
    row = command("c-1", status=status, approved=True, approval=approval, **facts)
    liar.answer("GET", COMMAND, row)


def test_an_approval_signs_the_bytes_that_were_shown_and_waits_for_the_result(
    liar: LyingServer, key: KeyFile, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = honest_offer()
    offered(liar, answer)
    ended(liar, "completed")

    code = main(["approve", "c-1", "--yes", "--comment", "ticket 7"])

    printed = capsys.readouterr()
    assert code == 0
    assert "RESTART the process nginx" in printed.err
    assert "completed 840 ms after approval" in printed.out
    sent = liar.posted(APPROVE)[0]
    body = decode_base64url(answer["body"])
    assert set(sent) == {"signature", "body_sha256", "comment"}
    assert sent["body_sha256"] == hashlib.sha256(body).hexdigest()
    pae = pre_authentication_encoding(answer["payload_type"], body)
    assert verify_signature(key.pin, read_signature(sent["signature"]), pae) == Verified(
        "alice", sent["signature"]["key_id"]
    )


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("failed", 4), ("rejected", 4), ("expired", 4), ("unknown", 5)]
)
def test_the_exit_code_says_how_the_command_ended(liar: LyingServer, key: KeyFile, status: str, code: int) -> None:
    assert key.salt is None
    offered(liar, honest_offer())
    ended(liar, status)

    assert main(["approve", "c-1", "--yes"]) == code


def test_an_approval_that_needs_another_person_does_not_wait(
    liar: LyingServer, key: KeyFile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert key.pin.owner == "alice"
    offered(liar, honest_offer() | {"approvals_required": 2})
    liar.answer("POST", APPROVE, {"status": "pending", "approvals": 1, "required": 2})

    assert main(["approve", "c-1", "--yes"]) == 0

    printed = capsys.readouterr()
    assert "The server says: 0 of 2 approvals" in printed.err
    assert "signed c-1 (1 of 2 approvals); it needs another person" in printed.out


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (honest_offer(command_id="c-2"), "those of c-2"),
        (honest_offer(policy=EnvelopePolicy.BREAK_GLASS), "break-glass"),
        (honest_offer(expires_at=envelope().created_at + 86_400), "at most 900 s"),
        (honest_offer(now_s=1_000_000), "its time was over"),
        (honest_offer() | {"fields": {"agent_id": "pc-test\x1b[2J"}}, "agent_id: it says pc-test\u2039U+001B\u203a"),
        (honest_offer() | {"body": "e30"}, "no command envelope"),
        ({}, "no command envelope"),
        ({"payload_type": {}, "body": [], "fields": 5, "signatures": "x"}, "no command envelope"),
    ],
    ids=["another", "break-glass", "a day", "expired", "another view", "an empty object", "nothing", "nonsense"],
)
def test_a_hostile_server_gets_no_signature(
    liar: LyingServer, key: KeyFile, capsys: pytest.CaptureFixture[str], answer: dict[str, Any], says: str
) -> None:
    assert key.path.exists()
    offered(liar, answer)
    ended(liar, "completed")

    code = main(["approve", "c-1", "--yes"])

    printed = capsys.readouterr()
    assert code == 1
    assert "NOT SIGNED" in printed.err
    assert says in printed.err
    assert "\x1b" not in printed.err + printed.out
    assert liar.posts() == []


def test_the_servers_row_is_held_against_the_bytes_too(
    liar: LyingServer, key: KeyFile, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever edits the database changes what everybody was shown, but not the bytes."""
    assert key.path.exists()
    offered(liar, honest_offer(), payload={"process": "demo"})

    assert main(["approve", "c-1", "--yes"]) == 1

    assert 'payload: it says {"process": "demo"}' in capsys.readouterr().err
    assert liar.posts() == []


def test_the_refusal_is_json_where_json_was_asked_for(
    liar: LyingServer, key: KeyFile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert key.path.exists()
    offered(liar, {})

    assert main(["approve", "c-1", "--yes", "--json"]) == 1

    assert json.loads(capsys.readouterr().out)["error"] == "not_signed"


def test_without_a_terminal_nobody_can_agree_and_nothing_is_signed(
    liar: LyingServer, key: KeyFile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert key.path.exists()
    offered(liar, honest_offer())

    assert main(["approve", "c-1"]) == 2

    assert "--yes signs without asking" in capsys.readouterr().err
    assert liar.posts() == []


def test_whoever_asked_is_warned_that_four_eyes_do_not_count_him(
    liar: LyingServer, key: KeyFile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert key.path.exists()
    offered(liar, honest_offer(requested_by="alice"))
    ended(liar, "completed")

    main(["approve", "c-1", "--yes"])

    assert "alice asked for this" in capsys.readouterr().err


def test_no_key_means_no_request(liar: LyingServer, key_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not key_home.exists()

    assert main(["approve", "c-1", "--yes"]) == 2

    assert "`reco3 keys init` makes one" in capsys.readouterr().err
    assert liar.requests == []


@pytest.mark.parametrize("typed", ["", "n", "N", "yess", "ja", "y n"])
def test_at_a_terminal_anything_but_a_plain_yes_is_no(
    liar: LyingServer, key: KeyFile, tmp_path: Path, typed: str
) -> None:
    assert key.path.exists()
    offered(liar, honest_offer())

    with Terminal([*RECO3, "approve", "c-1"], cwd=tmp_path, environment=os.environ) as terminal:
        terminal.answer("Sign this? [y/N] ", typed)
        code, seen = terminal.end()

    assert code == 1
    assert "NOT SIGNED: you did not say yes" in seen
    assert liar.posts() == []


def test_at_a_terminal_the_passphrase_is_asked_for_after_the_yes_and_never_shown(
    liar: LyingServer, key_home: Path, tmp_path: Path
) -> None:
    create_key(key_home / "alice.key", "alice", PASSPHRASE)
    offered(liar, honest_offer())
    ended(liar, "completed")

    with Terminal([*RECO3, "approve", "c-1"], cwd=tmp_path, environment=os.environ) as terminal:
        terminal.wait_for("RESTART the process nginx")
        terminal.answer("Sign this? [y/N] ", "y")
        terminal.answer("Passphrase of alice's key: ", PASSPHRASE)
        code, seen = terminal.end()

    assert code == 0
    assert PASSPHRASE not in seen
    assert len(liar.posted(APPROVE)) == 1


def test_a_wrong_passphrase_signs_nothing(
    liar: LyingServer, key_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_key(key_home / "alice.key", "alice", PASSPHRASE)
    offered(liar, honest_offer())
    wrong = tmp_path / "wrong"
    wrong.write_text("another", encoding="utf-8")
    wrong.chmod(0o600)

    assert main(["approve", "c-1", "--yes", "--passphrase-file", str(wrong)]) == 2

    error = capsys.readouterr().err
    assert "the passphrase does not open" in error
    assert "another" not in error
    assert liar.posts() == []


def test_an_envelope_of_another_command_in_the_address_is_not_asked_for(liar: LyingServer, key: KeyFile) -> None:
    assert key.path.exists()

    assert main(["approve", "../c-1?x=#", "--yes"]) == 1

    assert liar.requests[-1][1] == "/api/agent-commands/..%2Fc-1%3Fx%3D%23/envelope"


def test_denying_sends_the_reason(liar: LyingServer, capsys: pytest.CaptureFixture[str]) -> None:
    liar.answer("POST", "/api/agent-commands/c-1/deny", {"status": "rejected"})

    assert main(["deny", "c-1", "--reason", "not tonight"]) == 0

    assert "denied c-1: it will not run" in capsys.readouterr().out
    assert liar.posted("/api/agent-commands/c-1/deny") == [{"reason": "not tonight"}]


def test_the_bytes_of_the_offer_are_never_written_anew(liar: LyingServer, key: KeyFile) -> None:
    """A signature over a copy that only means the same would be one over other bytes."""
    reason = "Stra\u00dfe \u2603"
    body = build_envelope(envelope(reason=reason))
    offered(liar, offer(body))
    ended(liar, "completed", reason=reason)

    assert main(["approve", "c-1", "--yes"]) == 0

    signature = read_signature(liar.posted(APPROVE)[0]["signature"])
    pae = pre_authentication_encoding("application/vnd.reco3.command.v1+json", body)
    assert isinstance(verify_signature(key.pin, signature, pae), Verified)
