"""Servers with one fault each, real sockets and certificates: the doctor names the fault, and tells them apart."""

import contextlib
import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from doctor_pc import HealthyPc, levels, the
from doctor_servers import RECO3, Certificates, StrangeServer

from reco3.agent import http_client, http_wire
from reco3.agent.doctor import contact
from reco3.agent.doctor.findings import Level
from servers import ServerProcess, free_port

BROKEN, WARNING, NOTE, OK = Level.BROKEN, Level.WARNING, Level.NOTE, Level.OK
HOSTILE = {
    "/health": {"status": "ok"},
    "/api/config/test-mode": {"test_mode": True, "version": "\x1b[2J" + "é" * 10_000},
}
TLS_CODES = {"tls", "tls_dates", "tls_authority", "tls_name"}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("server")).start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests is no server that keeps silent."""
    monkeypatch.setattr(contact, "STEP_S", 40.0)
    monkeypatch.setattr(contact, "ALL_S", 60.0)
    monkeypatch.setattr(http_client, "CONNECT_TIMEOUT_S", 40.0)


@pytest.fixture
def strange() -> Iterator[Callable[..., StrangeServer]]:
    servers: list[StrangeServer] = []

    def make(*args: Any, **kwargs: Any) -> StrangeServer:
        servers.append(StrangeServer(*args, **kwargs))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> Iterator[None]:
    """This PC trusts the test's authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    http_wire.tls_context.cache_clear()
    yield
    http_wire.tls_context.cache_clear()


def ask(pc: HealthyPc, url: str, **values: Any) -> list[Any]:
    pc.config.update(base_url=url, **values)
    pc.write()
    return pc.examine(is_offline=False)


def test_a_real_server_is_found_well(healthy: HealthyPc, real: ServerProcess) -> None:
    findings = ask(healthy, real.base_url)

    assert [one for one in findings if one.level is not OK] == []
    codes = {one.code for one in findings}
    assert codes > {"server_name", "server_connection", "server_reco3", "clock_server", "server_key", "proxy"}
    assert not codes & TLS_CODES


def test_asking_leaves_nothing_on_the_server(healthy: HealthyPc, real: ServerProcess) -> None:
    def rows() -> list[tuple[int, int]]:
        with contextlib.closing(sqlite3.connect(f"file:{real.db_path}?mode=ro", uri=True)) as db:
            return db.execute("SELECT (SELECT count(*) FROM agent_status), (SELECT count(*) FROM audit_log)").fetchall()

    before = rows()

    assert levels(ask(healthy, real.base_url), "server_key") == {OK}
    assert rows() == before

    assert levels(ask(healthy, real.base_url, api_key="wrong"), "server_key") == {BROKEN}
    assert rows() != before, "a refused key is audited, which shows that the rows are those that count"


def test_a_wrong_key_is_told_with_the_way_to_a_new_one(healthy: HealthyPc, real: ServerProcess) -> None:
    found = the(ask(healthy, real.base_url, api_key="of-yesterday"), "server_key")

    assert found.level is BROKEN
    assert "refuses this key for pc-001" in found.found
    assert "reco3 enrol create --agent pc-001 --may-replace" in found.to_do
    assert f"reco3 agent enrol {healthy.config_path} --server {real.base_url}" in found.to_do
    assert "of-yesterday" not in found.found + found.to_do


@pytest.mark.parametrize(
    ("seconds", "level", "words"),
    [
        (0, OK, "agrees"),
        (-20, OK, "agrees"),
        (-90, WARNING, "s ahead of"),
        (90, WARNING, "s behind"),
        (1200, BROKEN, "15 minutes"),
    ],
)
def test_a_clock_that_differs_from_the_servers_is_told(
    healthy: HealthyPc, strange: Callable[..., StrangeServer], seconds: int, level: Level, words: str
) -> None:
    server = strange(ahead=timedelta(seconds=seconds))

    found = the(ask(healthy, server.url), "clock_server")

    assert found.level is level, found
    assert words in found.found
    assert level is OK or "timedatectl set-ntp true" in found.to_do


def test_an_older_server_cannot_be_asked_about_a_key(healthy: HealthyPc, strange: Callable[..., StrangeServer]) -> None:
    server = strange({path: body for path, body in RECO3.items() if path != "/agent/key"})

    found = the(ask(healthy, server.url), "server_key")

    assert (found.level, found.found[:11]) == (NOTE, "not checked")


def test_a_key_is_not_asked_about_while_an_older_one_may_be_in_use(
    healthy: HealthyPc, strange: Callable[..., StrangeServer]
) -> None:
    server = strange()
    healthy.config.update(base_url=server.url)
    healthy.write()
    assert levels(healthy.examine(is_offline=False), "server_key") == {OK}
    server.asked.clear()

    healthy.config_path.touch()
    found = the(healthy.examine(is_offline=False), "server_key")

    assert found.level is NOTE
    assert "restart the agent" in found.to_do
    assert server.asked == ["/health", "/api/config/test-mode"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can become another user")
def test_a_key_is_not_asked_about_by_whom_the_agents_lock_is_closed_to(
    healthy: HealthyPc, strange: Callable[..., StrangeServer]
) -> None:
    server = strange()
    healthy.config.update(base_url=server.url)
    healthy.write()
    for folder in (healthy.folder, *healthy.folder.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    healthy.config_path.chmod(0o644)
    (healthy.state / "agent.lock").chmod(0o600)
    healthy.state.chmod(0o711)

    os.seteuid(65534)
    try:
        findings = healthy.examine(is_offline=False)
    finally:
        os.seteuid(0)

    assert levels(findings, "server_key") == {NOTE}
    assert "/agent/key" not in server.asked
    assert the(findings, "agent_running").level is WARNING
    assert "cannot be told" in the(findings, "agent_running").found
    assert the(findings, "user").level is WARNING
    assert "run it as root" in the(findings, "user").to_do


def test_another_program_than_reco3_gets_no_key(healthy: HealthyPc, strange: Callable[..., StrangeServer]) -> None:
    for answers in ({"/health": {"status": "ok"}}, {"/health": {"status": "ok"}, "/api/config/test-mode": {}}, {}):
        server = strange(answers)

        found = the(ask(healthy, server.url), "server_reco3")

        assert found.level is BROKEN
        assert "no RECO3 server" in found.found
        assert "base_url" in found.to_do
        assert "/agent/key" not in server.asked


def test_a_servers_own_words_are_cut_and_made_plain(healthy: HealthyPc, strange: Callable[..., StrangeServer]) -> None:
    found = the(ask(healthy, strange(HOSTILE).url), "server_reco3")

    assert found.level is OK
    assert "?[2J???" in found.found
    assert len(found.found) < 300
    assert found.found.isascii()
    assert found.found.isprintable()


def test_nobody_at_the_port_is_told(healthy: HealthyPc) -> None:
    found = the(ask(healthy, f"http://127.0.0.1:{free_port()}"), "server_connection")

    assert found.level is BROKEN
    assert "nobody listens" in found.found
    assert "start the server" in found.to_do


def test_a_name_that_does_not_exist_is_told(healthy: HealthyPc) -> None:
    found = the(ask(healthy, "https://reco3.invalid"), "server_name")

    assert found.level is BROKEN
    assert "reco3.invalid" in found.found
    assert "getent hosts reco3.invalid" in found.to_do


@pytest.mark.parametrize(("says", "words"), [(b"", "closed the connection"), (b"SSH-2.0-x\r\n", "not an HTTP answer")])
def test_what_speaks_no_http_is_told(healthy: HealthyPc, says: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_say, args=(listener, says), daemon=True).start()

        found = the(ask(healthy, f"http://127.0.0.1:{listener.getsockname()[1]}"), "server_reco3")

    assert found.level is BROKEN
    assert words in found.found


def _say(listener: socket.socket, says: bytes) -> None:
    try:
        while True:
            with listener.accept()[0] as connection:
                connection.recv(10_000)
                connection.sendall(says)
    except OSError:
        return


def test_a_server_that_says_nothing_is_not_waited_for(healthy: HealthyPc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact, "STEP_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began_at = time.monotonic()
        found = the(ask(healthy, f"http://127.0.0.1:{listener.getsockname()[1]}"), "server_reco3")

    assert found.level is BROKEN
    assert "did not answer" in found.found
    assert time.monotonic() - began_at < 3


@pytest.mark.parametrize(
    ("terms", "code", "words_and_cure"),
    [
        ({"begins_in_days": -3, "ends_in_days": -1}, "tls_dates", ("has expired", "renew it")),
        ({"begins_in_days": 1, "ends_in_days": 3}, "tls_dates", ("not valid yet", "set this PC's clock")),
        ({"name": "elsewhere.example"}, "tls_name", ("another name than localhost", "base_url")),
    ],
)
@pytest.mark.usefixtures("trusting")
def test_a_faulty_certificate_is_told_from_others(
    healthy: HealthyPc,
    strange: Callable[..., StrangeServer],
    certificates: Certificates,
    terms: dict[str, Any],
    code: str,
    words_and_cure: tuple[str, str],
) -> None:
    good = ask(healthy, strange(context=certificates.context()).url)
    assert {one.code for one in good if one.level is OK} > TLS_CODES | {"server_reco3", "server_key"}, good

    findings = ask(healthy, strange(context=certificates.context(**terms)).url)

    assert {one.code for one in findings} & TLS_CODES == {code}
    assert the(findings, code).level is BROKEN
    assert words_and_cure[0] in the(findings, code).found
    assert words_and_cure[1] in the(findings, code).to_do


def test_an_unknown_authority_is_told(
    healthy: HealthyPc,
    strange: Callable[..., StrangeServer],
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    other = Certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(other.authority))
    http_wire.tls_context.cache_clear()

    found = the(ask(healthy, strange(context=certificates.context()).url), "tls_authority")
    http_wire.tls_context.cache_clear()

    assert found.level is BROKEN
    assert "no authority that this PC knows" in found.found
    assert "SSL_CERT_FILE" in found.to_do


def test_tls_where_there_is_none_is_told(healthy: HealthyPc, strange: Callable[..., StrangeServer]) -> None:
    found = the(ask(healthy, strange().url.replace("http:", "https:")), "tls")

    assert found.level is BROKEN
    assert "does not speak TLS" in found.found


def test_a_proxy_is_ignored_as_the_agent_ignores_it(
    healthy: HealthyPc, real: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert levels(ask(healthy, real.base_url), "proxy") == {OK}
    monkeypatch.setenv("HTTP_PROXY", "http://user:hidden@127.0.0.1:1")

    findings = ask(healthy, real.base_url)

    assert levels(findings, "server_key") == {OK}
    assert the(findings, "proxy").level is NOTE
    assert "HTTP_PROXY is set, and the agent ignores it" in the(findings, "proxy").found
    assert "hidden" not in str(findings)


def test_plain_http_to_another_machine_is_told(healthy: HealthyPc) -> None:
    assert levels(healthy.examine(), "plain_http") == {OK}
    healthy.config.update(base_url="http://192.0.2.1:5001", allow_insecure_http=True)
    healthy.control(profile="dev")
    healthy.write()

    findings = healthy.examine()

    assert the(findings, "plain_http").level is WARNING
    assert "base_url: https://192.0.2.1" in the(findings, "plain_http").to_do
    assert the(findings, "profile").level is WARNING
    assert "profile: production" in the(findings, "profile").to_do
