"""Settings: every variable, good and bad, and the pairs that would be unsafe."""

from datetime import timedelta
from pathlib import Path

import pytest

from builders import SECRET
from reco3.server.domain.audit import HeartbeatAudit
from reco3.server.domain.errors import StartRefused
from reco3.server.settings import Settings, is_loopback, read_settings


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment that names nothing but where files go."""
    return {"RECO3_DB_PATH": str(tmp_path / "instance" / "reco3.db")}


def with_(environment: dict[str, str], **changes: str) -> Settings:
    return read_settings({**environment, **changes})


def refusal(environment: dict[str, str], **changes: str) -> str:
    with pytest.raises(StartRefused) as refused:
        with_(environment, **changes)
    return refused.value.message


def test_the_defaults_are_those_of_the_contract(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    settings = read_settings({})

    assert (settings.test_mode, settings.require_approval, settings.api_key) == (False, True, None)
    assert (settings.host, settings.port) == ("127.0.0.1", 5001)
    assert (settings.db_path, settings.database_url) == (Path("instance/reco3.db"), None)
    assert (dict(settings.agent_keys), settings.heartbeat_audit) == ({}, HeartbeatAudit.AUTO)
    assert environment["RECO3_DB_PATH"] not in str(settings)


def test_every_variable_is_read(environment: dict[str, str]) -> None:
    settings = with_(
        environment,
        RECO3_TEST_MODE="1",
        RECO3_REQUIRE_APPROVAL="0",
        RECO3_AGENT_KEYS="pc-001=devkey, pc-002=a=b",
        API_KEY="operator-key",
        SECRET_KEY=SECRET,
        RECO3_DATABASE_URL="postgresql://h/d",
        RECO3_HOST="0.0.0.0",  # noqa: S104 - never bound here
        PORT="8080",
        RECO3_AUDIT_HEARTBEATS="rollup",
        RECO3_SAMPLE_RETENTION_HOURS="48",
        RECO3_LOG_RETENTION_DAYS="7",
    )

    assert (settings.test_mode, settings.require_approval) == (True, False)
    assert settings.agent_keys == {"pc-001": "devkey", "pc-002": "a=b"}
    assert (settings.api_key, settings.secret_key) == ("operator-key", SECRET)
    assert settings.database_url == "postgresql://h/d"
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)  # noqa: S104 - never bound here
    assert settings.heartbeat_audit is HeartbeatAudit.ROLLUP
    assert (settings.sample_retention, settings.log_retention) == (timedelta(hours=48), timedelta(days=7))


def test_agent_keys_may_be_json(environment: dict[str, str]) -> None:
    settings = with_(environment, RECO3_AGENT_KEYS=' {"pc-001": "dev,key", "pc.2": "x=y"} ')

    assert settings.agent_keys == {"pc-001": "dev,key", "pc.2": "x=y"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RECO3_TEST_MODE", "true"),
        ("RECO3_TEST_MODE", "2"),
        ("RECO3_REQUIRE_APPROVAL", "no"),
        ("RECO3_AGENT_KEYS", "pc-001"),
        ("RECO3_AGENT_KEYS", "pc-001="),
        ("RECO3_AGENT_KEYS", "=key"),
        ("RECO3_AGENT_KEYS", "pc 1=key"),
        ("RECO3_AGENT_KEYS", "../pc=key"),
        ("RECO3_AGENT_KEYS", "x" * 65 + "=key"),
        ("RECO3_AGENT_KEYS", "pc-001=a,pc-001=b"),
        ("RECO3_AGENT_KEYS", "pc-001=schlüssel"),
        ("RECO3_AGENT_KEYS", "pc-001=\udcff"),
        ("RECO3_AGENT_KEYS", '{"pc-001": 5}'),
        ("RECO3_AGENT_KEYS", '{"pc-001": ""}'),
        ("RECO3_AGENT_KEYS", '{"pc-001": " padded "}'),
        ("RECO3_AGENT_KEYS", '{"pc-001": '),
        ("RECO3_AGENT_KEYS", '{"a":' * 50_000),
        ("API_KEY", "schlüssel"),
        ("API_KEY", "two\nlines"),
        ("SECRET_KEY", "short"),
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "80.0"),
        ("PORT", "²"),
        ("PORT", "9" * 5_000),
        ("RECO3_AUDIT_HEARTBEATS", "sometimes"),
        ("RECO3_SAMPLE_RETENTION_HOURS", "0"),
        ("RECO3_LOG_RETENTION_DAYS", "forever"),
        ("RECO3_LOG_RETENTION_DAYS", "100001"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_naming_its_variable(
    environment: dict[str, str], name: str, value: str
) -> None:
    message = refusal(environment, **{name: value})

    assert message.startswith(name)
    assert "\n" not in message
    assert len(message) < 300


def test_a_refusal_never_shows_a_key(environment: dict[str, str]) -> None:
    assert "geheim" not in refusal(environment, RECO3_AGENT_KEYS="pc-001=geheim-ü")
    assert "geheim" not in refusal(environment, API_KEY="geheim-ü")
    assert "geheim" not in refusal(environment, SECRET_KEY="geheim")


def test_approvals_can_be_turned_off_only_in_test_mode(environment: dict[str, str]) -> None:
    assert "RECO3_REQUIRE_APPROVAL=0" in refusal(environment, RECO3_REQUIRE_APPROVAL="0")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "my-server", ""])  # noqa: S104 - never bound here
def test_test_mode_beyond_loopback_needs_an_api_key(environment: dict[str, str], host: str) -> None:
    if not host:
        assert with_(environment, RECO3_TEST_MODE="1", RECO3_HOST=host).implicit_admin
        return

    assert "RECO3_HOST" in refusal(environment, RECO3_TEST_MODE="1", RECO3_HOST=host)
    assert not with_(environment, RECO3_TEST_MODE="1", RECO3_HOST=host, API_KEY="key").implicit_admin


@pytest.mark.parametrize(("test_mode", "expected"), [("1", True), ("0", False)])
def test_only_test_mode_makes_a_loopback_browser_the_administrator(
    environment: dict[str, str], test_mode: str, expected: bool
) -> None:
    assert with_(environment, RECO3_TEST_MODE=test_mode, API_KEY="key").implicit_admin is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - never bound here
        ("::", False),
        ("localhost.example", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback_is_an_address_that_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_generated_secret_is_kept_for_the_owner_alone(environment: dict[str, str]) -> None:
    first, second = with_(environment), with_(environment)
    kept = Path(environment["RECO3_DB_PATH"]).parent / "secret_key"

    assert first.secret_key == second.secret_key
    assert len(first.secret_key) >= 32
    assert kept.stat().st_mode & 0o077 == 0


def test_a_kept_secret_that_was_emptied_is_refused(environment: dict[str, str]) -> None:
    with_(environment)
    kept = Path(environment["RECO3_DB_PATH"]).parent / "secret_key"
    kept.write_text("", encoding="ascii")

    assert str(kept) in refusal(environment)


def test_a_folder_that_cannot_be_made_is_refused_naming_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="ascii")

    message = refusal({}, RECO3_DB_PATH=str(tmp_path / "file" / "reco3.db"))

    assert str(tmp_path / "file") in message


def test_a_database_that_lives_in_memory_alone_is_refused() -> None:
    with pytest.raises(StartRefused, match="RECO3_DB_PATH: expected the path of a file"):
        read_settings({"RECO3_DB_PATH": ":memory:", "SECRET_KEY": "a-secret-of-enough-characters"})
