"""Settings: the environment, read once, into frozen values.

A bad value stops start-up and names its variable; nobody else reads the environment.
"""

import ipaddress
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from reco3.protocol.limits import is_agent_id
from reco3.server.domain.audit import HeartbeatAudit
from reco3.server.domain.errors import StartRefused

_NO_HEADER = "cannot travel in an HTTP header; use printable ASCII without spaces at its ends"
DEFAULT_DB_PATH = "instance/reco3.db"
MAX_PORT = 65_535
MIN_SECRET_CHARS = 16
MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an administrator may choose; see docs/settings.md."""

    test_mode: bool
    require_approval: bool
    agent_keys: Mapping[str, str]
    api_key: str | None
    secret_key: str
    db_path: Path
    database_url: str | None
    host: str
    port: int
    heartbeat_audit: HeartbeatAudit
    sample_retention: timedelta
    minute_retention: timedelta
    quarter_retention: timedelta
    two_hour_retention: timedelta
    log_retention: timedelta

    @property
    def implicit_admin(self) -> bool:
        """Whether a loopback browser acts as the administrator without a login.

        Setting `API_KEY` while listening beyond loopback turns this off.
        """
        return self.test_mode and is_loopback(self.host)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings that an environment spells.

    Raises:
        StartRefused: a value is not what its variable expects, or two of them make an unsafe pair.
    """
    db_path = _db_path(environment.get("RECO3_DB_PATH") or DEFAULT_DB_PATH)
    settings = Settings(
        test_mode=_flag(environment, "RECO3_TEST_MODE", default=False),
        require_approval=_flag(environment, "RECO3_REQUIRE_APPROVAL", default=True),
        agent_keys=_all_agent_keys(environment),
        api_key=_api_key(_given(environment, "API_KEY", file="API_KEY_FILE")),
        secret_key=_secret_key(_given(environment, "SECRET_KEY", file="SECRET_KEY_FILE"), db_path.parent),
        db_path=db_path,
        database_url=_given(environment, "RECO3_DATABASE_URL", file="RECO3_DATABASE_URL_FILE"),
        host=environment.get("RECO3_HOST") or "127.0.0.1",
        port=_whole_number(environment, "PORT", default=5001, lowest=0, highest=MAX_PORT),
        heartbeat_audit=_heartbeat_audit(environment.get("RECO3_AUDIT_HEARTBEATS") or "auto"),
        sample_retention=timedelta(hours=_whole_number(environment, "RECO3_SAMPLE_RETENTION_HOURS", default=24)),
        minute_retention=timedelta(days=_whole_number(environment, "RECO3_MINUTE_RETENTION_DAYS", default=7)),
        quarter_retention=timedelta(days=_whole_number(environment, "RECO3_QUARTER_RETENTION_DAYS", default=30)),
        two_hour_retention=timedelta(days=_whole_number(environment, "RECO3_TWO_HOUR_RETENTION_DAYS", default=365)),
        log_retention=timedelta(days=_whole_number(environment, "RECO3_LOG_RETENTION_DAYS", default=30)),
    )
    _refuse_unsafe_pairs(settings)
    return settings


def is_loopback(host: str) -> bool:
    """Whether a bind address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_unsafe_pairs(settings: Settings) -> None:
    if not settings.require_approval and not settings.test_mode:
        raise StartRefused(
            "RECO3_REQUIRE_APPROVAL=0 is allowed only together with RECO3_TEST_MODE=1: "
            "without approvals a strong command would have one lock instead of two."
        )
    if settings.test_mode and settings.api_key is None and not is_loopback(settings.host):
        raise StartRefused(
            f"RECO3_TEST_MODE=1 lets anybody act as admin, so it listens on loopback only; RECO3_HOST is "
            f"{settings.host}. Listen on 127.0.0.1, or set API_KEY, which turns the implicit admin off."
        )


def _db_path(text: str) -> Path:
    if text.startswith(":"):
        raise StartRefused(
            f"RECO3_DB_PATH: expected the path of a file, got {text[:40]!r}; nothing durable lives there."
        )
    return Path(text)


def _given(environment: Mapping[str, str], name: str, *, file: str) -> str | None:
    """The value of a variable, or the one line in the file that its other variable names; None without either."""
    value, path = environment.get(name), environment.get(file)
    if not path:
        return value or None
    if value:
        raise StartRefused(f"{name} and {file} are both set; keep one of them.")
    text = _text_of(path, file).strip()
    if not text or "\n" in text:
        raise StartRefused(f"{file}: expected one line in {path}, got {len(text.splitlines())}.")
    return text


def _text_of(path: str, name: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise StartRefused(
            f"{name}: {path} cannot be read: {getattr(err, 'strerror', None) or 'it is no UTF-8 text'}."
        ) from err


def _flag(environment: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if text not in ("0", "1"):
        raise StartRefused(f"{name}: expected 0 or 1, got {text[:40]!r}.")
    return text == "1"


def _whole_number(
    environment: Mapping[str, str], name: str, *, default: int, lowest: int = 1, highest: int = 100_000
) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not lowest <= int(text[:MAX_DIGITS]) <= highest:
        raise StartRefused(f"{name}: expected a whole number from {lowest} to {highest}, got {text[:40]!r}.")
    return int(text)


def _heartbeat_audit(text: str) -> HeartbeatAudit:
    try:
        return HeartbeatAudit(text)
    except ValueError as err:
        raise StartRefused(f"RECO3_AUDIT_HEARTBEATS: expected every, rollup or auto, got {text[:40]!r}.") from err


def _all_agent_keys(environment: Mapping[str, str]) -> Mapping[str, str]:
    keys = _agent_keys(environment.get("RECO3_AGENT_KEYS", ""))
    path = environment.get("RECO3_AGENT_KEYS_FILE")
    if not path:
        return keys
    return {**_agent_keys(_text_of(path, "RECO3_AGENT_KEYS_FILE"), name="RECO3_AGENT_KEYS_FILE"), **keys}


def _agent_keys(text: str, *, name: str = "RECO3_AGENT_KEYS") -> Mapping[str, str]:
    text = text.strip()
    pairs = _json_keys(text, name) if text.startswith("{") else _listed_keys(text, name)
    for agent_id, key in pairs.items():
        if not is_agent_id(agent_id):
            raise StartRefused(f"{name}: {agent_id[:70]!r} cannot name a PC; use 1 to 64 letters, digits and . _ -")
        if not key:
            raise StartRefused(f"{name}: the key of {agent_id} is empty.")
        if not _fits_a_header(key):
            raise StartRefused(f"{name}: the key of {agent_id} {_NO_HEADER}.")
    return pairs


def _api_key(text: str | None) -> str | None:
    if text and not _fits_a_header(text):
        raise StartRefused(f"API_KEY {_NO_HEADER}.")
    return text or None


def _fits_a_header(key: str) -> bool:
    return key.isascii() and key.isprintable() and key == key.strip()


def _json_keys(text: str, name: str) -> dict[str, str]:
    try:
        pairs = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise StartRefused(f'{name}: expected JSON such as {{"pc-001":"key"}}; it does not parse.') from err
    if not all(isinstance(key, str) for key in pairs.values()):
        raise StartRefused(f"{name}: every key must be a JSON string.")
    return dict(pairs)


def _listed_keys(text: str, name: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for place, pair in enumerate(filter(None, map(str.strip, text.replace("\n", ",").split(","))), start=1):
        agent_id, separator, key = pair.partition("=")
        if not separator:
            raise StartRefused(f"{name}: entry {place} has no '='; expected id=key,id=key.")
        if agent_id in pairs:
            raise StartRefused(f"{name}: {agent_id[:70]!r} is listed twice.")
        pairs[agent_id] = key
    return pairs


def _secret_key(given: str | None, instance: Path) -> str:
    if given:
        if len(given) < MIN_SECRET_CHARS:
            raise StartRefused(f"SECRET_KEY: expected at least {MIN_SECRET_CHARS} characters, got {len(given)}.")
        return given
    path = instance / "secret_key"
    try:
        return _kept_secret(path)
    except OSError as err:
        raise StartRefused(
            f"The session secret {path} cannot be read or written: {err.strerror}. "
            "Make the folder writable, or set SECRET_KEY."
        ) from err


def _kept_secret(path: Path) -> str:
    if path.exists():
        return _checked_secret(path, path.read_text(encoding="ascii", errors="replace").strip())
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that a start cut short leaves no half a secret.
    fresh = path.with_name(f"{path.name}.new")
    fresh.touch(mode=0o600)
    secret = secrets.token_urlsafe(48)
    fresh.write_text(secret, encoding="ascii")
    fresh.replace(path)
    return secret


def _checked_secret(path: Path, secret: str) -> str:
    if len(secret) < MIN_SECRET_CHARS:
        raise StartRefused(
            f"The session secret {path} holds {len(secret)} characters, expected at least {MIN_SECRET_CHARS}. "
            "Restore it; or delete it and log in with API_KEY, because the stored keys and sessions stop working."
        )
    return secret
