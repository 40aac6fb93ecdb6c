"""`reco3 enrol` against the real server, with PCs played by the test."""

import hashlib
import json
from collections.abc import Iterator

import pytest

from reco3.console.enrolments import main
from servers import AGENT_KEYS, ServerProcess, agent_headers

API_KEY = "an-operators-long-key"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("enrol"), API_KEY=API_KEY).start()
    yield process
    process.stop()


@pytest.fixture(autouse=True)
def addressed(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECO3_URL", server.base_url)
    monkeypatch.setenv("RECO3_API_KEY", API_KEY)


def enrol(server: ServerProcess, token: str, agent_id: str) -> int:
    body = {"token": token, "agent_id": agent_id, "key_hash": hashlib.sha256(b"key").hexdigest()}
    return server.post("/agent/enrol", body).status


def test_a_token_stands_alone_on_standard_output_and_works(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create", "--agent", "pc-7"]) == 0
    printed = capsys.readouterr()
    token = printed.out.strip()
    assert "for pc-7: good once, until " in printed.err
    assert f"reco3 agent enrol config.yaml --server {server.base_url} --token-file FILE" in printed.err
    assert token not in printed.err

    assert enrol(server, token, "pc-7") == 200

    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert token not in listed
    assert listed.splitlines()[1].split()[1:5] == ["used", "pc-7", "no", "admin"]


def test_a_token_is_taken_back_by_its_id(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", "--agent", "pc-001", "--may-replace", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)

    codes = [main(["revoke", made["id"]]) for _ in range(2)]

    printed = capsys.readouterr()
    assert codes == [0, 1]
    assert f"revoked token {made['id']}" in printed.out
    assert "token_not_found" in printed.err
    assert enrol(server, made["token"], "pc-001") == 401


def test_a_key_is_revoked_and_what_is_no_clone_is_not_cleared(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    cleared = main(["clear-clone", "pc-002", "--reason", "looked"])
    revoked = main(["revoke-key", "pc-002", "--reason", "stolen"])

    printed = capsys.readouterr()
    assert (cleared, revoked) == (1, 0)
    assert "no_clone_suspected" in printed.err
    assert "the key of pc-002 opens nothing any more" in printed.out
    headers = agent_headers("pc-002", AGENT_KEYS["pc-002"])
    assert server.request("GET", "/agent/key", headers=headers).status == 401


def test_a_token_that_may_replace_anybody_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", "--may-replace"]) == 1
    assert "expected the name of the PC" in capsys.readouterr().err
