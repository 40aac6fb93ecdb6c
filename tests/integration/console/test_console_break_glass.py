"""`reco3 keys break-glass`: sheets for the day on which the server is down."""

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from lying_server import LyingServer

from offered_envelopes import FLEET, envelope
from reco3.cli import main
from reco3.console.approver_keys import KeyFile, create_key
from reco3.protocol.envelope import (
    PAYLOAD_TYPE,
    EnvelopePolicy,
    SignedEnvelope,
    build_envelope,
    parse_envelope,
    pre_authentication_encoding,
    read_signed_envelope,
    signed_envelope_shape,
)
from reco3.signing.verifying import Verified, verify_signature

DAY_S = 86_400
MAKING = ["keys", "break-glass", "--pc", "pc-001", "--type", "RESTART_PROCESS", "process=nginx", "--reason", "fire"]
OFFLINE = [*MAKING, "--agent-epoch", "epoch-1", "--fleet-id", FLEET, "--yes"]


@pytest.fixture
def alice(key_home: Path) -> KeyFile:
    return create_key(key_home / "alice.key", "alice", None)


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    return tmp_path / "pc-001.sheet"


def written(path: Path, key: KeyFile) -> list[bool]:
    """Whether each signature of a sheet is by this key."""
    signed = read_signed_envelope(json.loads(path.read_text())["envelope"])
    pae = pre_authentication_encoding(signed.payload_type, signed.body)
    return [isinstance(verify_signature(key.pin, one, pae), Verified) for one in signed.signatures]


def with_policy(policy: EnvelopePolicy = EnvelopePolicy.BREAK_GLASS, **changes: Any) -> dict[str, Any]:
    """A sheet as it is written, with other facts in its bytes."""
    made = envelope(policy=policy, **changes)
    return {"break_glass": 1, "envelope": signed_envelope_shape(SignedEnvelope(PAYLOAD_TYPE, build_envelope(made)))}


def test_a_sheet_is_made_without_any_server_and_can_be_used_once_within_its_days(
    alice: KeyFile, sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before_s = int(time.time())

    assert main([*OFFLINE, "--expires-in-days", "90", "--out", str(sheet)]) == 0

    content = json.loads(sheet.read_text())
    assert set(content) == {"break_glass", "envelope"}
    said = parse_envelope(read_signed_envelope(content["envelope"]).body)
    assert stat.S_IMODE(sheet.stat().st_mode) == 0o600
    assert written(sheet, alice) == [True]
    assert (said.policy, said.agent_id, said.agent_epoch, said.fleet_id) == ("break-glass", "pc-001", "epoch-1", FLEET)
    assert (said.type, said.payload, said.reason) == ("RESTART_PROCESS", {"process": "nginx"}, "fire")
    assert said.expires_at - said.created_at == 90 * DAY_S
    assert before_s <= said.created_at <= time.time()
    printed = capsys.readouterr()
    assert "RESTART the process nginx" in printed.err
    assert f"reco3 agent break-glass CONFIG {sheet}" in printed.out


def test_the_owner_who_made_a_sheet_is_not_its_requester(alice: KeyFile, sheet: Path) -> None:
    """Else four eyes on the PC would never count his signature."""
    assert main([*OFFLINE, "--out", str(sheet)]) == 0

    said = parse_envelope(read_signed_envelope(json.loads(sheet.read_text())["envelope"]).body)
    assert said.requested_by != alice.pin.owner


def test_two_sheets_are_two_commands(alice: KeyFile, tmp_path: Path) -> None:
    assert alice.path.exists()
    bodies = []
    for name in ("one", "two"):
        assert main([*OFFLINE, "--out", str(tmp_path / name)]) == 0
        bodies.append(parse_envelope(read_signed_envelope(json.loads((tmp_path / name).read_text())["envelope"]).body))

    assert bodies[0].command_id != bodies[1].command_id
    assert bodies[0].nonce != bodies[1].nonce


def test_a_second_owner_signs_the_same_bytes_and_nobody_counts_twice(
    alice: KeyFile, key_home: Path, sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*OFFLINE, "--out", str(sheet)]) == 0
    bob = create_key(key_home / "bob.key", "bob", None)
    body = json.loads(sheet.read_text())["envelope"]["body"]
    adding = ["keys", "break-glass", "--add-signature", str(sheet), "--yes", "--owner"]

    codes = [main([*adding, "bob"]), main([*adding, "bob"]), main([*adding, "alice"])]

    assert codes == [0, 1, 1]
    assert "one owner counts once" in capsys.readouterr().err
    assert json.loads(sheet.read_text())["envelope"]["body"] == body
    assert (written(sheet, alice), written(sheet, bob)) == ([True, False], [False, True])
    assert stat.S_IMODE(sheet.stat().st_mode) == 0o600
    assert [path.name for path in sheet.parent.iterdir() if path.name.startswith(".")] == []


def test_show_says_what_a_sheet_does_and_who_signed_it(
    alice: KeyFile, sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*OFFLINE, "--out", str(sheet)]) == 0
    capsys.readouterr()

    assert main(["keys", "break-glass", "show", str(sheet)]) == 0
    with_key = capsys.readouterr().out
    alice.path.unlink()
    assert main(["keys", "break-glass", "show", str(sheet)]) == 0

    assert "once, on the PC itself" in with_key
    assert "29 days left" in with_key or "30 days left" in with_key
    assert "signed by alice, verified with the key on this machine" in with_key
    assert "signed by a key not on this machine" in capsys.readouterr().out


def test_a_forged_signature_is_not_said_to_be_the_owners(
    alice: KeyFile, sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*OFFLINE, "--out", str(sheet)]) == 0
    content = json.loads(sheet.read_text())
    content["envelope"]["signatures"][0]["sig"] = "A" * 86
    sheet.write_text(json.dumps(content))
    capsys.readouterr()

    assert main(["keys", "break-glass", "show", str(sheet)]) == 0

    assert alice.pin.owner not in capsys.readouterr().out


def test_a_sheet_is_never_overwritten(alice: KeyFile, sheet: Path) -> None:
    assert alice.path.exists()
    sheet.write_text("mine")

    assert main([*OFFLINE, "--out", str(sheet)]) == 2

    assert sheet.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*MAKING, "--fleet-id", FLEET], "a sheet names the journal of its PC"),
        ([*MAKING, "--agent-epoch", "epoch-1"], "a sheet names the server's fleet"),
        ([*OFFLINE, "--fleet-id", "odd"], "fleet_id: expected base64url of 16 bytes"),
        ([*OFFLINE, "--agent-epoch", "a b"], "agent_epoch"),
        ([*OFFLINE, "--pc", "a/b"], "agent_id"),
    ],
)
def test_a_sheet_that_no_pc_would_take_is_not_made(
    alice: KeyFile, sheet: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert alice.path.exists()

    assert main([*words, "--out", str(sheet)]) == 2

    assert says in capsys.readouterr().err
    assert not sheet.exists()


@pytest.mark.parametrize(
    "words", [["--type", "SET_MODE", "mode=SAFE"], ["--type", "STOP_PROCESS"], ["--type", "FORMAT"]]
)
def test_a_sheet_names_one_strong_command_with_its_payload(alice: KeyFile, sheet: Path, words: list[str]) -> None:
    assert alice.path.exists()
    common = [
        "--pc",
        "pc-001",
        "--reason",
        "x",
        "--agent-epoch",
        "e",
        "--fleet-id",
        FLEET,
        "--out",
        str(sheet),
        "--yes",
    ]

    assert main(["keys", "break-glass", *common, *words]) == 1

    assert not sheet.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "expected {"),
        ([], "expected {"),
        ({"break_glass": 2, "envelope": {}}, "expected {"),
        ({"break_glass": 1, "envelope": {}, "more": 1}, "expected {"),
        ({"break_glass": 1, "envelope": {}}, "payload_type"),
        (with_policy(EnvelopePolicy.APPROVAL), "its policy is approval"),
        (with_policy(agent_epoch=None), "names no journal"),
        (with_policy(expires_at=int(time.time()) + 91 * DAY_S), "more than 90 days"),
        (with_policy(type="SET_MODE", payload={"mode": "SAFE"}), "no command that needs a signature"),
    ],
)
def test_a_file_that_is_no_sheet_is_neither_shown_nor_signed(
    alice: KeyFile, sheet: Path, capsys: pytest.CaptureFixture[str], content: object, says: str
) -> None:
    assert alice.path.exists()
    sheet.write_text(json.dumps(content))

    codes = [
        main(["keys", "break-glass", "show", str(sheet)]),
        main(["keys", "break-glass", "--add-signature", str(sheet), "--yes"]),
    ]

    assert codes == [2, 1]
    assert says in capsys.readouterr().err
    assert json.loads(sheet.read_text()) == content


def test_a_sheet_whose_time_is_over_gets_no_signature(
    alice: KeyFile, sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alice.path.exists()
    sheet.write_text(json.dumps(with_policy(now_s=1_000_000)))

    assert main(["keys", "break-glass", "--add-signature", str(sheet), "--yes"]) == 1

    assert "time is over" in capsys.readouterr().err


def told(liar: LyingServer, *uses: dict[str, Any]) -> list[str]:
    """The server knows the PC and its fleet, and these uses of sheets; returns the words that ask it."""
    liar.answer("GET", "/api/r3/agents", {"agents": [{"agent_id": "pc-001", "metrics": {"journal": "epoch-9"}}]})
    liar.answer("GET", "/api/fleet", {"fleet_id": FLEET})
    liar.answer("GET", "/api/break-glass", {"break_glass": list(uses), "next_cursor": None})
    return [*MAKING, "--server", liar.url, "--yes"]


def test_a_server_that_is_there_tells_the_journal_and_the_fleet(liar: LyingServer, alice: KeyFile, sheet: Path) -> None:
    reviewed = {"agent_id": "pc-001", "used_at": "2026-11-01T00:00:00Z", "reviewed_at": "2026-11-02T00:00:00Z"}
    elsewhere = {"agent_id": "pc-002", "used_at": "2026-11-01T00:00:00Z", "reviewed_at": None}

    assert main([*told(liar, reviewed, elsewhere), "--out", str(sheet)]) == 0

    said = parse_envelope(read_signed_envelope(json.loads(sheet.read_text())["envelope"]).body)
    assert (said.agent_epoch, said.fleet_id) == ("epoch-9", FLEET)
    assert written(sheet, alice) == [True]


def test_a_use_that_nobody_has_reviewed_keeps_a_new_sheet_from_being_made(
    liar: LyingServer, alice: KeyFile, sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alice.path.exists()
    used = {"agent_id": "pc-001", "used_at": "2026-11-01T00:00:00Z\x1b[2J", "reviewed_at": None}

    assert main([*told(liar, used), "--out", str(sheet)]) == 1

    error = capsys.readouterr().err
    assert "nobody has reviewed that" in error
    assert "\x1b" not in error
    assert not sheet.exists()


def test_a_list_of_uses_without_end_makes_no_sheet(liar: LyingServer, alice: KeyFile, sheet: Path) -> None:
    assert alice.path.exists()
    words = told(liar)
    liar.answer("GET", "/api/break-glass", {"break_glass": [], "next_cursor": "once more"})

    assert main([*words, "--out", str(sheet)]) == 1

    assert not sheet.exists()


def test_the_environment_does_not_make_an_offline_sheet_speak_to_a_server(
    liar: LyingServer, alice: KeyFile, sheet: Path
) -> None:
    assert alice.path.exists()
    assert os.environ["RECO3_URL"] == liar.url

    assert main([*OFFLINE, "--out", str(sheet)]) == 0

    assert liar.requests == []
