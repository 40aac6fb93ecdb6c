"""`reco3 keys`: what lies on disk, what is printed, and what leaves the machine."""

import base64
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from lying_server import LyingServer

from reco3.cli import main
from reco3.console.approver_keys import create_key, read_key, unlock
from reco3.console.keys import BadUsage
from reco3.protocol.envelope import (
    PAYLOAD_TYPE,
    Signature,
    decode_base64url,
    encode_base64url,
    pre_authentication_encoding,
)
from reco3.signing.pins import fingerprint, key_id, parse_pin, pin_text
from reco3.signing.proofs import key_proof_bytes
from reco3.signing.verifying import Verified, verify_signature
from terminals import Terminal

RECO3 = [sys.executable, "-m", "reco3.cli"]
PASSPHRASE = "correct horse battery staple"
# What a hostile server would like to have signed instead of a challenge.
APPROVAL = pre_authentication_encoding(PAYLOAD_TYPE, b"{}")


@pytest.fixture
def passphrase_file(tmp_path: Path) -> str:
    path = tmp_path / "passphrase"
    path.write_text(f"{PASSPHRASE}\n", encoding="utf-8")
    path.chmod(0o600)
    return str(path)


def test_a_new_key_is_locked_and_nobody_elses_to_read(
    key_home: Path, passphrase_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "init", "--owner", "alice", "--passphrase-file", passphrase_file]) == 0

    path = key_home / "alice.key"
    printed = capsys.readouterr()
    key = read_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_home.stat().st_mode) == 0o700
    assert "BEGIN ENCRYPTED PRIVATE KEY" in path.read_text()
    assert fingerprint(key.pin.key) in printed.out
    assert f"  reco3 agent trust add CONFIG '{pin_text(key.pin)}'\n" in printed.out
    assert "  reco3 keys register\n" in printed.out
    assert PASSPHRASE not in printed.out + printed.err + path.read_text()


def test_a_key_is_made_at_a_terminal_with_the_passphrase_asked_twice(key_home: Path, tmp_path: Path) -> None:
    with Terminal([*RECO3, "keys", "init", "--owner", "alice"], cwd=tmp_path, environment=os.environ) as terminal:
        terminal.answer("Passphrase for the new key: ", PASSPHRASE)
        terminal.answer("The same again: ", PASSPHRASE)
        code, seen = terminal.end()

    assert code == 0
    assert PASSPHRASE not in seen
    assert unlock(read_key(key_home / "alice.key"), PASSPHRASE).pin.owner == "alice"


@pytest.mark.parametrize(("first", "second", "says"), [("one", "two", "differ"), ("", "", "is empty")])
def test_a_passphrase_that_is_none_or_mistyped_makes_no_key(
    key_home: Path, tmp_path: Path, first: str, second: str, says: str
) -> None:
    with Terminal([*RECO3, "keys", "init", "--owner", "alice"], cwd=tmp_path, environment=os.environ) as terminal:
        terminal.answer("Passphrase for the new key: ", first)
        if first:
            terminal.answer("The same again: ", second)
        code, seen = terminal.end()

    assert code == 2
    assert says in seen
    assert not key_home.exists()


def test_a_key_without_a_passphrase_is_made_only_when_told_so_and_with_a_warning(
    key_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.touch(0o600)

    refused = main(["keys", "init", "--owner", "alice", "--passphrase-file", str(empty)])
    assert refused == 2
    assert "is empty" in capsys.readouterr().err
    assert main(["keys", "init", "--owner", "alice", "--no-passphrase"]) == 0

    assert "whoever copies its file can approve in your name" in capsys.readouterr().err
    assert read_key(key_home / "alice.key").salt is None


def test_a_key_is_never_overwritten(key_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_key(key_home / "alice.key", "alice", None)
    before = (key_home / "alice.key").read_bytes()

    assert main(["keys", "init", "--owner", "alice", "--no-passphrase"]) == 2

    assert "exists and is not overwritten" in capsys.readouterr().err
    assert (key_home / "alice.key").read_bytes() == before


def test_a_link_in_the_place_of_a_key_is_not_followed(key_home: Path, tmp_path: Path) -> None:
    key_home.mkdir(parents=True)
    (key_home / "alice.key").symlink_to(tmp_path / "elsewhere")

    assert main(["keys", "init", "--owner", "alice", "--no-passphrase"]) == 2

    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_key_that_others_can_read_is_not_used(key_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = create_key(key_home / "alice.key", "alice", None).path
    path.chmod(0o640)

    assert main(["keys", "show"]) == 2

    assert "others can read the key" in capsys.readouterr().err
    path.chmod(0o600)
    assert main(["keys", "show"]) == 0


def test_a_key_whose_pin_was_changed_is_not_used(key_home: Path) -> None:
    """Else somebody who can write the file, but not open it, would have another's key pinned."""
    mine = create_key(key_home / "alice.key", "alice", PASSPHRASE)
    other = create_key(key_home / "mallory.key", "alice", None)
    mine.path.write_text(mine.path.read_text().replace(pin_text(mine.pin), pin_text(other.pin)))

    with pytest.raises(BadUsage, match="was changed"):
        unlock(read_key(mine.path), PASSPHRASE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"-----BEGIN PRIVATE KEY-----\n",
        b"RECO3 approver key, version 2.\npin a\n-----BEGIN ",
        b"x" * 20_000,
    ],
)
def test_a_file_that_is_no_key_says_so(key_home: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    key_home.mkdir(parents=True)
    (key_home / "alice.key").write_bytes(content)
    (key_home / "alice.key").chmod(0o600)

    assert main(["keys", "show"]) == 2

    assert "is no approver's key of RECO3" in capsys.readouterr().err


def test_show_and_list_say_what_a_person_compares_by_voice(key_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alice = create_key(key_home / "alice.key", "alice", None)
    create_key(key_home / "bob.key", "bob", PASSPHRASE)

    codes = [main(["keys", "show", "--owner", "alice", "--json"]), main(["keys", "list"]), main(["keys", "show"])]

    printed = capsys.readouterr()
    assert codes == [0, 0, 2]
    shown, listed = printed.out.split("}\n")
    assert json.loads(shown + "}")["pin"] == pin_text(alice.pin)
    assert f"alice  {fingerprint(alice.pin.key)}  NO PASSPHRASE" in listed
    assert "locked with a passphrase" in listed
    assert "say --owner alice or --owner bob" in printed.err


def test_a_key_elsewhere_is_named_by_its_file(
    key_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stick" / "my key"

    assert main(["keys", "init", "--owner", "alice", "--file", str(path), "--no-passphrase"]) == 0

    assert f"  reco3 keys register --file '{path}'\n" in capsys.readouterr().out
    assert main(["keys", "show", "--file", str(path)]) == 0
    assert not key_home.exists()


def test_registering_sends_the_public_half_and_a_proof_that_is_no_approval(
    liar: LyingServer, key_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = create_key(key_home / "alice.key", "alice", None)
    liar.answer("POST", "/api/me/keys/options", {"challenge": encode_base64url(APPROVAL)})
    liar.answer("POST", "/api/me/keys", {"key_id": key_id(key.pin.key), "owner": "admin"})

    assert main(["keys", "register", "--label", "laptop"]) == 0

    sent = liar.posted("/api/me/keys")[0]
    assert set(sent) == {"kind", "public_key", "proof", "label"}
    assert parse_pin(f"alice:ed25519:{sent['public_key']}") == key.pin
    proof = Signature(key.pin.kind, "hint", decode_base64url(sent["proof"]))
    assert isinstance(verify_signature(key.pin, proof, key_proof_bytes(APPROVAL)), Verified)
    assert not isinstance(verify_signature(key.pin, proof, APPROVAL), Verified)
    assert "You are admin there, and on PCs that pin this key its owner is alice" in capsys.readouterr().out


@pytest.mark.parametrize("challenge", [None, "", 5, ["x"], "\u00e9", "a+b/", "x" * 2_000])
def test_a_challenge_that_is_none_is_not_signed(liar: LyingServer, key_home: Path, challenge: object) -> None:
    create_key(key_home / "alice.key", "alice", None)
    liar.answer("POST", "/api/me/keys/options", {"challenge": challenge})

    assert main(["keys", "register"]) == 1

    assert liar.posted("/api/me/keys") == []


def test_nothing_secret_is_in_the_words_of_an_open_key(key_home: Path) -> None:
    key = create_key(key_home / "alice.key", "alice", None)
    secret = base64.b64encode(key.pem)

    assert secret not in repr(key).encode()
    assert "PRIVATE" not in repr(key)
    assert "_private" not in repr(unlock(key, None))
