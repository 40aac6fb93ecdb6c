"""`reco3 dev-signer`: signs what waits, on this machine alone."""

from pathlib import Path

import pytest
from lying_server import LyingServer

from e2e.page_server import command
from offered_envelopes import honest_offer
from reco3.cli import main
from reco3.console.approver_keys import read_key
from reco3.protocol.envelope import decode_base64url, pre_authentication_encoding, read_signature
from reco3.signing.pins import key_id
from reco3.signing.verifying import Verified, verify_signature


def waiting(liar: LyingServer, *ids: str) -> None:
    """These commands wait, and any key may be registered."""
    liar.answer("GET", "/api/me/keys", {"keys": [], "count": 0})
    liar.answer("POST", "/api/me/keys/options", {"challenge": "Y2hhbGxlbmdl"})
    liar.answer("POST", "/api/me/keys", {"owner": "admin"})
    listed = [command(one, status="pending") for one in ids]
    liar.answer("GET", "/api/agent-commands", {"commands": listed, "count": len(listed)})


def test_what_waits_is_shown_and_signed_with_a_development_key(
    liar: LyingServer, key_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = honest_offer()
    waiting(liar, "c-1")
    liar.answer("GET", "/api/agent-commands/c-1/envelope", answer)
    liar.answer("POST", "/api/agent-commands/c-1/approve", {"status": "approved"})

    assert main(["dev-signer", "--once"]) == 0

    error = capsys.readouterr().err
    assert "RESTART the process nginx" in error
    assert "reco3 agent trust add CONFIG 'dev-signer:ed25519:" in error
    pin = read_key(key_home / "dev-signer.key").pin
    assert pin.is_development
    signature = read_signature(liar.posted("/api/agent-commands/c-1/approve")[0]["signature"])
    pae = pre_authentication_encoding(answer["payload_type"], decode_base64url(answer["body"]))
    assert isinstance(verify_signature(pin, signature, pae), Verified)


def test_one_refusal_does_not_keep_the_others_from_being_signed(
    liar: LyingServer, key_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting(liar, "c-2", "c-1")
    liar.answer("GET", "/api/agent-commands/c-1/envelope", honest_offer(command_id="c-9"))
    liar.answer("GET", "/api/agent-commands/c-2/envelope", honest_offer(command_id="c-2"))
    liar.answer("POST", "/api/agent-commands/c-2/approve", {"status": "approved"})

    assert main(["dev-signer", "--once"]) == 0

    error = capsys.readouterr().err
    assert "c-1 is not signed" in error
    assert "signed c-2" in error
    assert [path for path in liar.posts() if "keys" not in path] == ["/api/agent-commands/c-2/approve"]
    assert key_home.exists()


def test_the_same_key_is_used_again_and_registered_once(liar: LyingServer, key_home: Path) -> None:
    waiting(liar)

    assert main(["dev-signer", "--once"]) == 0
    key = read_key(key_home / "dev-signer.key")
    liar.answer("GET", "/api/me/keys", {"keys": [{"key_id": key_id(key.pin.key)}], "count": 1})
    assert main(["dev-signer", "--once"]) == 0

    assert read_key(key.path).pin == key.pin
    assert len(liar.posted("/api/me/keys")) == 1


@pytest.mark.parametrize("url", ["https://reco3.example", "http://192.0.2.1:5001", "http://127.0.0.1.nip.io:5001"])
def test_no_other_machines_server_is_spoken_to(key_home: Path, capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert main(["dev-signer", "--once", "--server", url]) == 2

    assert "a server on this machine alone" in capsys.readouterr().err
    assert not key_home.exists()


def test_a_development_key_is_not_taken_for_ones_own(
    liar: LyingServer, key_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting(liar)
    assert main(["dev-signer", "--once"]) == 0
    assert key_home.exists()

    assert main(["approve", "c-1", "--yes"]) == 2

    assert "there is no key of yours" in capsys.readouterr().err
