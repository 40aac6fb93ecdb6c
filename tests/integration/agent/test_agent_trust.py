"""`reco3 agent trust`: the PC's own administrator says whose signatures count, and nothing is ever half done."""

import os
import stat
import sys
from pathlib import Path

import pytest
import yaml
from agent_process import AgentProcess
from scripted_server import ScriptedServer

from approvers import key_file, passkey
from reco3.agent import pin_lines, trust
from reco3.agent.agent import main
from reco3.agent.config import load_config
from reco3.signing.pins import Pin, fingerprint, key_id, pin_text, trust_version

ALICE, BOB = key_file("alice").pin, passkey("bob").pin
CONFIG = """# Kept by hand.
base_url: "http://127.0.0.1:1"
agent_id: pc-001
api_key: secret-key
control:
  apply_enabled: true
  approvals_required: 1  # one is enough
logging: {file: agent.log}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    path.chmod(0o640)
    return path


def pins(path: Path) -> tuple[Pin, ...]:
    return load_config(path).control.approvers


def test_a_first_key_is_pinned_with_its_fingerprint_and_what_that_means(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trust", "add", str(path), pin_text(ALICE)]) == 0

    out, err = capsys.readouterr()
    assert pins(path) == (ALICE,)
    assert fingerprint(ALICE.key) in out
    assert "from now on strong commands on this PC need a signature" in out
    assert err == ""
    assert path.read_text(encoding="utf-8").startswith("# Kept by hand.\n")
    log = (path.parent / "agent.log").read_text(encoding="utf-8")
    assert f"trust_added owner=alice kind=ed25519 key_id={key_id(ALICE.key)}" in log
    assert f"trust_version={trust_version([ALICE])}" in log
    assert "secret-key" not in out + log


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no such bits")
def test_the_file_keeps_its_owner_and_its_rights_and_no_other_is_left(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, 12_345, 12_346)

    before = path.stat()
    assert main(["trust", "add", str(path), pin_text(ALICE)]) == 0

    after = path.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert sorted(one.name for one in path.parent.iterdir()) == ["agent.log", "config.yaml"]


def test_a_pin_with_its_origin_may_come_as_two_words(path: Path) -> None:
    assert main(["trust", "add", str(path), *pin_text(BOB).split(" "), pin_text(ALICE)]) == 0

    assert pins(path) == (BOB, ALICE)


@pytest.mark.parametrize(
    "name", [pin_text(ALICE), key_id(ALICE.key), fingerprint(ALICE.key)], ids=["pin", "id", "fingerprint"]
)
def test_a_key_is_removed_by_its_pin_its_id_or_its_fingerprint(
    name: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["trust", "add", str(path), pin_text(ALICE), pin_text(BOB)])

    assert main(["trust", "remove", str(path), *name.split(" ")]) == 0
    left = pins(path)
    assert main(["trust", "remove", str(path), pin_text(BOB)]) == 0

    assert left == (BOB,)
    assert pins(path) == ()
    assert "need no signature any more" in capsys.readouterr().out
    assert main(["--check", str(path)]) == 0


def test_what_is_pinned_is_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["trust", "show", str(path)])
    nobody = capsys.readouterr().out
    main(["trust", "add", str(path), pin_text(ALICE), pin_text(BOB)])
    capsys.readouterr()
    main(["trust", "show", str(path)])
    both = capsys.readouterr().out

    assert "pins no key" in nobody
    assert f"bob  webauthn at http://localhost:5001  {fingerprint(BOB.key)}" in both
    assert "1 of 2 (alice, bob), none of them who requested it" in both
    assert trust_version([ALICE, BOB]) in both


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", pin_text(ALICE)], "pins that key already"),
        (["add", "mallory" + pin_text(ALICE)[5:]], "pins that key already"),
        (["add", "alice:ed25519:AAAA"], "expected 32 bytes of Ed25519"),
        (["add", pin_text(BOB)[:-1].split(" ")[0]], "expected the address of the page"),
        (["add", pin_text(BOB).replace("ed25519", "x").replace("AE", "AF", 1)], "expected"),
        (["add"], "expected at least one PIN"),
        (["remove", "alice"], "pins no such key"),
        (["remove", pin_text(BOB)], "pins no such key"),
    ],
    ids=range(8),
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    words: list[str], said: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["trust", "add", str(path), pin_text(ALICE)])
    before = path.read_bytes()

    assert main(["trust", words[0], str(path), *words[1:]]) == 2

    assert said in capsys.readouterr().err
    assert path.read_bytes() == before


def test_nobody_is_removed_who_is_needed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(CONFIG.replace("approvals_required: 1", "approvals_required: 2"), encoding="utf-8")
    main(["trust", "add", str(path), pin_text(ALICE)])
    alone = capsys.readouterr().out
    main(["trust", "add", str(path), pin_text(BOB)])

    assert main(["trust", "remove", str(path), pin_text(ALICE)]) == 2
    assert "control.approvals_required is 2" in capsys.readouterr().err
    assert pins(path) == (ALICE, BOB)
    assert "every strong command is refused until more are added" in alone


def test_an_edit_that_changes_more_than_the_list_is_not_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def careless(text: str, pin: Pin) -> str:
        return pin_lines.with_pin(text, pin).replace("apply_enabled: true", "apply_enabled: false")

    monkeypatch.setattr(trust, "with_pin", careless)
    before = path.read_bytes()

    assert main(["trust", "add", str(path), pin_text(ALICE)]) == 2

    assert "edit it by hand" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["config.yaml"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows asks whether one is an administrator")
@pytest.mark.parametrize(("person", "exit_code"), [("owner", 0), ("root", 0), ("somebody else", 2)])
def test_only_root_and_the_owner_of_the_file_say_whom_it_trusts(
    person: str, exit_code: int, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = path.stat().st_uid
    user_id = {"owner": owner, "root": 0, "somebody else": owner + 1}[person]
    monkeypatch.setattr("os.geteuid", lambda: user_id)

    assert main(["trust", "add", str(path), pin_text(ALICE)]) == exit_code

    assert pins(path) == ((ALICE,) if exit_code == 0 else ())
    assert ("only the administrator" in capsys.readouterr().err) is (exit_code != 0)


def test_a_pc_tells_with_each_heartbeat_whom_it_trusts(server: ScriptedServer, pc: AgentProcess) -> None:
    pc.configure(control={"approvals_required": 2})
    pc.start()
    nobody = server.wait_for("/agent/heartbeat").body["metrics"]
    pc.stop()
    pc.call("trust", "add", str(pc.config_path), pin_text(ALICE), pin_text(BOB))
    pc.configure(control={"approvers": [dict(_fields(pin)) for pin in pins(pc.config_path)]})
    seen = len(server.requests)
    pc.start()
    two = server.wait_for("/agent/heartbeat", after=seen).body["metrics"]

    assert (nobody["approvers_pinned"], nobody["approvals_required"], "trust_version" in nobody) == (0, 2, False)
    assert (two["approvers_pinned"], two["approvals_required"]) == (2, 2)
    assert two["trust_version"] == trust_version([ALICE, BOB])


def _fields(pin: Pin) -> dict[str, str]:
    fields: dict[str, str] = yaml.safe_load(pin_lines.item_text(pin))
    return fields
