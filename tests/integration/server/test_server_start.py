"""Starting: what makes it unsafe or impossible is said in one line, exit code 2, without a traceback."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from servers import ROOT, ServerProcess


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that is not started."""
    process = ServerProcess(tmp_path, RECO3_TEST_MODE="1")
    process.is_first_start = True
    yield process
    process.kill()


def refusal_of(server: ServerProcess, **environment: str) -> str:
    """The one line on stderr of a server that refuses to start."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "app.py")],
        cwd=server.folder,
        env={**server.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("reco3: ")
    assert "Traceback" not in done.stderr
    return lines[0]


def test_a_port_that_is_taken_is_named(server: ServerProcess) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()

        assert f"127.0.0.1:{server.port}" in refusal_of(server)


def test_a_second_server_on_the_same_port_is_refused_and_the_first_goes_on(server: ServerProcess) -> None:
    server.start()

    assert "choose another with PORT" in refusal_of(server)

    assert server.get("/health").status == 200
    server.stop()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "a" * 300, "::g", "1.2.3.4.5"])
def test_an_address_that_is_not_ours_is_named(server: ServerProcess, host: str) -> None:
    assert host in refusal_of(server, RECO3_HOST=host, RECO3_TEST_MODE="0")


def test_a_database_path_under_a_file_is_refused(server: ServerProcess) -> None:
    (server.folder / "file").write_text("not a folder", encoding="ascii")
    path = server.folder / "file" / "reco3.db"

    assert str(server.folder / "file") in refusal_of(server, RECO3_DB_PATH=str(path))
    assert str(path) in refusal_of(server, RECO3_DB_PATH=str(path), SECRET_KEY="x" * 32)


def test_a_database_path_that_is_a_folder_is_refused(server: ServerProcess) -> None:
    server.db_path.mkdir(parents=True)

    assert f"{server.db_path} cannot be opened for writing" in refusal_of(server)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_database_that_is_read_only_is_refused(server: ServerProcess) -> None:
    server.start()
    server.stop()
    server.db_path.chmod(0o400)

    assert f"{server.db_path} cannot be opened for writing" in refusal_of(server)


def test_a_file_that_is_no_database_is_refused_and_left_alone(server: ServerProcess) -> None:
    server.db_path.parent.mkdir()
    letter = b"this is a letter, not a database" * 200
    server.db_path.write_bytes(letter)

    assert "file is not a database" in refusal_of(server)
    assert server.db_path.read_bytes() == letter


def test_a_database_of_a_newer_version_is_refused(server: ServerProcess) -> None:
    server.start()
    server.stop()
    with closing(sqlite3.connect(server.db_path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()

    assert "version 9999" in refusal_of(server)


def test_an_unreachable_postgresql_is_refused_without_its_password(server: ServerProcess) -> None:
    line = refusal_of(server, RECO3_DATABASE_URL=f"postgresql://reco3:hunter2@/x?host={server.folder}")

    assert "cannot be opened" in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("RECO3_TEST_MODE", "yes"),
        ("RECO3_AGENT_KEYS", "pc-001"),
        ("RECO3_AUDIT_HEARTBEATS", "never"),
        ("SECRET_KEY", "short"),
        ("RECO3_DATABASE_URL", "mysql://h/d"),
        ("RECO3_HOST", "0.0.0.0"),  # noqa: S104 - refused, so never bound
    ],
)
def test_a_bad_setting_is_named(server: ServerProcess, name: str, value: str) -> None:
    assert name in refusal_of(server, **{name: value})


def test_approvals_off_without_test_mode_are_refused(server: ServerProcess) -> None:
    assert "RECO3_REQUIRE_APPROVAL=0" in refusal_of(server, RECO3_TEST_MODE="0", RECO3_REQUIRE_APPROVAL="0")


def test_a_refused_start_leaves_no_database_behind(server: ServerProcess) -> None:
    refusal_of(server, RECO3_AUDIT_HEARTBEATS="never")

    assert not server.db_path.exists()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_cleanly(server: ServerProcess, signal_number: signal.Signals) -> None:
    server.start()
    process = server.spawned
    begun = time.monotonic()

    process.send_signal(signal_number)

    assert process.wait(10) == 0
    assert time.monotonic() - begun < 10
    assert "Traceback" not in server.log_text()
    assert not server.db_path.with_name("reco3.db-wal").exists()


def test_the_log_of_a_start_names_the_database_and_no_secret(server: ServerProcess) -> None:
    server.start()
    server.stop()

    text = server.log_text()
    assert str(server.db_path) in text
    assert "devkey" not in text
    assert (server.db_path.parent / "secret_key").read_text(encoding="ascii") not in text
