"""The command line against the real server, with a PC played by the test."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reco3.cli import main as console
from reco3.console.approver_keys import create_key
from reco3.console.commands import main
from reco3.console.sheets import read_sheet
from reco3.signing.pins import fingerprint
from servers import ServerProcess

API_KEY = "an-operators-long-key"
NGINX = {"name": "nginx", "running": True, "pid": 4711, "create_time_ms": 1_795_438_000_000}
HEARTBEAT = {
    "platform": "linux",
    "version": "1",
    "metrics": {"mode": "NORMAL", "journal": "epoch-1", "processes": [NGINX]},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("console"), API_KEY=API_KEY).start()
    assert process.say("/agent/heartbeat", HEARTBEAT).status == 200
    yield process
    process.stop()


@pytest.fixture(autouse=True)
def addressed(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb speaks to this server with its key."""
    monkeypatch.setenv("RECO3_URL", server.base_url)
    monkeypatch.setenv("RECO3_API_KEY", API_KEY)


def created(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Ask for a command; returns its id."""
    assert main(["create", *words]) == 0
    return capsys.readouterr().out.split()[1]


class PlayedPc(threading.Thread):
    """Fetches one command and reports what it was told to."""

    def __init__(self, server: ServerProcess, status: str, result: dict[str, Any]) -> None:
        super().__init__()
        self._server = server
        self._ending = {"status": status, "result": result, "journal": "epoch-1"}

    def run(self) -> None:
        for order in self._server.pull("?wait=20&journal=epoch-1").json["commands"]:
            self._server.say("/agent/report", {"command_id": order["id"], "status": "running", "result": {}})
            self._server.say("/agent/report", {"command_id": order["id"], **self._ending})


def test_a_strong_command_goes_from_the_request_to_its_result(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    command_id = created(capsys, "RESTART_PROCESS", "pc-001", "process=nginx", "--reason", "shop answers 502")
    assert main(["list", "--status", "pending"]) == 0
    assert "waits for approval, expires in 1" in capsys.readouterr().out
    pc = PlayedPc(server, "completed", {"success": True, "output": "pid 5120", "exit_code": 0})
    pc.start()

    code = main(["approve", command_id, "--wait"])

    pc.join()
    text = capsys.readouterr().out
    assert code == 0
    for words in (
        "reason: shop answers 502",
        "expect: pid 4711",
        "sent to the PC",
        "begun",
        "exit_code: 0",
        "| pid 5120",
    ):
        assert words in text
    assert " after approval" in text.splitlines()[-1]
    assert text.splitlines()[-1].startswith("completed ")


def test_an_unknown_end_is_exit_code_5_and_is_resolved_once(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    command_id = created(capsys, "RESTART_PROCESS", "pc-001", "process=nginx")
    pc = PlayedPc(server, "unknown", {"success": False, "code": "interrupted", "evidence": {"before": {"pid": 4711}}})
    pc.start()
    assert main(["approve", command_id, "--wait"]) == 5
    pc.join()
    assert "WE DO NOT KNOW WHETHER IT RAN" in capsys.readouterr().out

    codes = [main(["resolve", command_id, "did-not-run", "--reason", "the pid is the same"]) for _ in range(2)]

    printed = capsys.readouterr()
    assert codes == [0, 1]
    assert "it did not run; now failed" in printed.out
    assert "not_unknown" in printed.err
    assert main(["show", command_id]) == 0
    assert "resolved by a person" in capsys.readouterr().out


def test_a_pending_command_is_cancelled_once(capsys: pytest.CaptureFixture[str]) -> None:
    command_id = created(capsys, "STOP_PROCESS", "pc-001", "process=nginx")

    codes = [main(["cancel", command_id, "--reason", "not needed"]) for _ in range(2)]

    printed = capsys.readouterr()
    assert codes == [0, 1]
    assert "it will not run" in printed.out
    assert "not_cancellable" in printed.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["create", "RESTART", "pc-001"], "unknown_command_type"),
        (["create", "SET_MODE", "pc-404", "mode=SAFE"], "agent_not_found"),
        (["create", "SET_MODE", "pc-001", "mode=ODD"], "payload.mode: expected one of NORMAL, SAFE, LOCKED"),
        (["create", "RESTART_PROCESS", "pc-001", "process=apache"], "unknown_process"),
        (["create", "SET_RATE_LIMIT", "pc-001", "endpoint=/api", "limit_rps=0"], "payload.limit_rps"),
        (["show", "no-such-command"], "command_not_found"),
        (["approve", "no-such-command"], "command_not_found"),
        (["cancel", "no-such-command"], "command_not_found"),
        (["resolve", "no-such-command", "ran", "--reason", "x"], "command_not_found"),
        (["list", "--status", "odd"], "status: expected a list of pending"),
    ],
)
def test_what_the_server_refuses_is_exit_code_1_with_its_code_and_message(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(words) == 1

    assert says in capsys.readouterr().err


def test_a_safe_command_is_not_approved(capsys: pytest.CaptureFixture[str]) -> None:
    command_id = created(capsys, "SET_MODE", "pc-001", "mode=SAFE")

    assert main(["approve", command_id]) == 1

    assert "approval_not_needed" in capsys.readouterr().err


def test_an_approvers_key_is_registered_once_with_a_proof(
    key_home: Path, server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    key = create_key(key_home / "alice.key", "alice", None)

    codes = [console(["keys", "register", "--label", "laptop"]), console(["keys", "register"])]

    printed = capsys.readouterr()
    assert codes == [0, 1]
    assert f"the server knows the key {fingerprint(key.pin.key)} as yours" in printed.out
    assert "key_known" in printed.err
    known = server.get("/api/me/keys", **{"X-API-Key": API_KEY}).json["keys"]
    assert [(one["label"], one["fingerprint"]) for one in known] == [("laptop", fingerprint(key.pin.key))]


def test_one_signature_of_two_is_kept_and_says_that_another_is_needed(
    key_home: Path, server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    create_key(key_home / "admin.key", "admin", None)
    assert console(["keys", "register"]) == 0
    capsys.readouterr()
    terms = {"command_type": "STOP_PROCESS", "agent_pattern": "pc-001", "approvals_required": 2, "four_eyes": False}
    admin = {"X-API-Key": API_KEY}
    assert server.request("PUT", "/api/policies", headers=admin, body=terms).status == 200
    command_id = created(capsys, "STOP_PROCESS", "pc-001", "process=nginx")

    codes = [console(["approve", command_id, "--yes"]), console(["approve", command_id, "--yes"])]

    printed = capsys.readouterr()
    assert codes == [0, 1], printed.err
    assert f"signed {command_id} (1 of 2 approvals); it needs another person" in printed.out
    assert "STOP the process nginx" in printed.err
    assert "1 of 2 approvals, so far by admin" in printed.err
    assert "already_approved" in printed.err


def test_a_key_that_the_server_does_not_know_is_refused_with_what_to_do(
    key_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_key(key_home / "bob.key", "bob", None)
    command_id = created(capsys, "RESTART_PROCESS", "pc-001", "process=nginx")

    assert console(["approve", command_id, "--yes"]) == 1

    error = capsys.readouterr().err
    assert "unknown_key" in error
    assert "reco3 keys register" in error


def test_a_denied_command_is_rejected_and_cannot_be_signed(key_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_key(key_home / "bob.key", "bob", None)
    command_id = created(capsys, "RESTART_PROCESS", "pc-001", "process=nginx")

    codes = [console(["deny", command_id, "--reason", "not tonight"]), console(["approve", command_id, "--yes"])]

    printed = capsys.readouterr()
    assert codes == [0, 1]
    assert f"denied {command_id}: it will not run" in printed.out
    assert main(["show", command_id]) == 0
    shown = capsys.readouterr().out
    assert "rejected" in shown
    assert "not tonight" in shown


def test_a_server_that_is_there_fills_in_what_a_sheet_needs(key_home: Path, server: ServerProcess) -> None:
    create_key(key_home / "bob.key", "bob", None)
    sheet = key_home / "sheet"
    words = ["--pc", "pc-001", "--type", "RESTART_PROCESS", "process=nginx", "--reason", "x", "--out", str(sheet)]

    assert console(["keys", "break-glass", *words, "--server", server.base_url, "--yes"]) == 0

    said = read_sheet(sheet).envelope
    fleet = server.get("/api/fleet", **{"X-API-Key": API_KEY}).json["fleet_id"]
    assert (said.agent_epoch, said.fleet_id) == ("epoch-1", fleet)


def test_a_wrong_key_is_refused_with_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    path.write_text("another-key", encoding="utf-8")
    path.chmod(0o600)

    assert main(["list", "--api-key-file", str(path)]) == 1

    error = capsys.readouterr().err
    assert "unauthorized" in error
    assert "--api-key-file" in error
    assert "another-key" not in error
