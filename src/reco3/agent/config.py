"""Reads the YAML file of a PC's administrator into a frozen `AgentConfig`.

It refuses whatever it does not know: an error is one line that names the file, the line, the key and what was expected.
"""

import gc
import json
import re
import shlex
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from reco3 import __version__
from reco3.agent.http_client import BaseUrl
from reco3.agent.local_checks import HttpUrl
from reco3.protocol.commands import Mode
from reco3.protocol.limits import (
    HEARTBEAT_PERIOD_S,
    LOGS_PERIOD_S,
    MAX_PROCESSES,
    PROCESS_NAME_PATTERN,
    PULL_PERIOD_S,
    is_agent_id,
)

if TYPE_CHECKING:
    import yaml

    from reco3.signing.pins import Pin

MAX_CONFIG_BYTES = 1024 * 1024
MAX_KEY_CHARS = 256
MAX_LOG_FILES = 100
MAX_APPROVERS = 100
MAX_SHOWN_CHARS = 60
MAX_CHECKS = 10
DEFAULT_VERIFY_TIMEOUT_S = 30.0
DEFAULT_HTTP_STATUS = 200
PLATFORMS = ("windows", "macos", "linux")
PROFILES = ("production", "dev")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# The agent itself is protected by its process id besides, whatever the list says.
NEVER_TOUCH = (
    *("reco3-agent", "RECO3Agent", "com.reco3.agent", "init", "systemd", "sshd", "launchd"),
    *("services.exe", "lsass.exe", "csrss.exe", "wininit.exe", "winlogon.exe"),
)

_FLEET_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{22}")
_QUIET_HOURS_PATTERN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24(?=:00)):([0-5]\d)", re.ASCII)

T = TypeVar("T")
U = TypeVar("U")


class ConfigError(Exception):
    """The config cannot be used; the text is one line for the PC's administrator."""


class LimitDriver(StrEnum):
    """Who enforces a rate limit: an application that reads a file, nginx, or a command of the PC's own."""

    FILE = "file"
    NGINX = "nginx"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class NginxConfig:
    """The nginx that enforces the limits: how to call it, and the second file it includes, within `server {}`."""

    server_path: Path
    argv: tuple[str, ...] = ("nginx",)
    reload_argv: tuple[str, ...] = ("nginx", "-s", "reload")
    pid_path: Path = Path("/run/nginx.pid")


@dataclass(frozen=True, slots=True)
class LimitCommands:
    """Two argv templates: `{endpoint}` and `{limit_rps}` in their words are replaced, in the first word nothing is."""

    set_argv: tuple[str, ...]
    clear_argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RateLimitConfig:
    """How `SET_RATE_LIMIT` is enforced; `path` is the file in which the limits in force are kept."""

    driver: LimitDriver
    path: Path
    nginx: NginxConfig | None = None
    command: LimitCommands | None = None


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A stretch of local time, in minutes since midnight; one that ends before it begins spans midnight."""

    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What strong commands must keep to on this PC, whatever the server says."""

    strong_per_hour: int = 20
    cooldown_s: float = 5
    never_touch: tuple[str, ...] = NEVER_TOUCH
    quiet_hours: tuple[QuietHours, ...] = ()


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """What this PC lets the server ask for; `veto_s` is how long a strong command waits for somebody to stop it.

    With any key in `approvers` strong commands need the signatures of `approvals_required` distinct owners, with
    `four_eyes` of others than who requested it. An empty `fleet_id` is any. With `trust_changes` enough of their owners
    may replace the keys by a change that they signed.
    """

    rate_limit: RateLimitConfig
    apply_enabled: bool = False
    safe_modes: tuple[Mode, ...] = (Mode.NORMAL, Mode.SAFE)
    approvers: tuple["Pin", ...] = ()
    approvals_required: int = 1
    four_eyes: bool = True
    trust_changes: bool = True
    fleet_id: str = ""
    is_development: bool = False
    veto_s: int = 0
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    command_timeout_s: float = 60
    max_output_bytes: int = 16 * 1024


@dataclass(frozen=True, slots=True)
class UpFor:
    """A process of the name is up, and the same one, for so long."""

    up_s: float


@dataclass(frozen=True, slots=True)
class TcpPort:
    """Somebody accepts connections at this port of the PC itself."""

    port: int


@dataclass(frozen=True, slots=True)
class HttpStatus:
    """A GET of the address is answered with this status; redirects are not followed."""

    url: HttpUrl
    status: int


@dataclass(frozen=True, slots=True)
class RunsWell:
    """The argv ends with exit code 0."""

    argv: tuple[str, ...]


Check = UpFor | TcpPort | HttpStatus | RunsWell


class OnFailure(StrEnum):
    """What the agent does by itself when a restart turns out not to have worked."""

    NONE = "none"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class WatchedProgram:
    """One entry of `watch.processes`; an empty argv or service means that it is not configured.

    `verify` is None when the config leaves it out: then the default holds. An empty one means that exit code 0 is
    believed.
    """

    name: str
    start_argv: tuple[str, ...] = ()
    stop_argv: tuple[str, ...] = ()
    restart_argv: tuple[str, ...] = ()
    allow_restart: bool = False
    service: str = ""
    verify: tuple[Check, ...] | None = None
    verify_timeout_s: float = DEFAULT_VERIFY_TIMEOUT_S
    on_failure: OnFailure = OnFailure.NONE
    rollback_argv: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """What the agent looks at."""

    processes: tuple[WatchedProgram, ...] = ()
    log_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IntervalsConfig:
    """How often the agent speaks, in seconds."""

    heartbeat_s: float = HEARTBEAT_PERIOD_S
    pull_s: float = PULL_PERIOD_S
    logs_s: float = LOGS_PERIOD_S


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    """The agent's own log; no file means standard error."""

    level: str = "INFO"
    file: Path | None = None
    max_size_mb: float = 100
    backup_count: int = 5


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything the PC's administrator decided, checked."""

    path: Path
    base_url: BaseUrl
    agent_id: str
    api_key: str = field(repr=False)
    platform: str
    version: str
    state_dir: Path
    control: ControlConfig
    watch: WatchConfig
    intervals: IntervalsConfig
    logging: LoggingConfig


def load_config(path: Path) -> AgentConfig:
    """Read and check the file at `path`; relative paths in it start at its own folder.

    Raises: ConfigError.
    """
    root = _Value(_compose(path), "", str(path)).section(
        "base_url",
        "agent_id",
        "api_key",
        "platform",
        "version",
        "allow_insecure_http",
        "state_dir",
        "control",
        "watch",
        "intervals",
        "logging",
    )
    folder = path.absolute().parent
    state_dir = folder / root.read("state_dir", _text, "state")
    return AgentConfig(
        path=path.absolute(),
        base_url=_base_url(root),
        agent_id=root.need("agent_id", "a name for this PC").matching(
            is_agent_id, "1 to 64 letters, digits and . _ -, such as pc-001"
        ),
        api_key=root.need("api_key", "the key the server knows this PC by").matching(
            _is_api_key, f"1 to {MAX_KEY_CHARS} printable ASCII characters without spaces"
        ),
        platform=root.read("platform", lambda value: value.one_of(PLATFORMS), detected_platform()),
        version=root.read("version", _text, __version__),
        state_dir=state_dir,
        control=_control(root.child("control", *_CONTROL_KEYS), folder=folder, state_dir=state_dir),
        watch=_watch(root.child("watch", "processes", "log_files"), folder),
        intervals=_intervals(root.child("intervals", "heartbeat_sec", "pull_sec", "logs_sec")),
        logging=_logging(root.child("logging", "level", "file", "max_size_mb", "backup_count"), folder),
    )


def detected_platform() -> str:
    """The name of this operating system as the server knows it."""
    return {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")


@dataclass(frozen=True, slots=True)
class Permissions:
    """Who besides its owner may change the config file."""

    by_group: bool
    by_others: bool


def writable_by(path: Path) -> Permissions:
    """Look at the permission bits of the file and its folder; Windows has none, so both are False there."""
    if sys.platform == "win32":
        return Permissions(by_group=False, by_others=False)
    file_bits = path.stat().st_mode
    folder_bits = path.parent.stat().st_mode
    if folder_bits & stat.S_ISVTX:  # In a sticky folder only a file's owner may replace it.
        folder_bits = 0
    either = file_bits | folder_bits
    return Permissions(by_group=bool(either & stat.S_IWGRP), by_others=bool(either & stat.S_IWOTH))


_CONTROL_KEYS = (
    "apply_enabled",
    "safe_modes",
    "approvers",
    "approvals_required",
    "four_eyes",
    "trust_changes",
    "fleet_id",
    "profile",
    "veto_s",
    "limits",
    "command_timeout_s",
    "rate_limit",
    "max_output_kb",
)
_PIN_KEYS = {"owner": "a person's name", "kind": "the kind of key", "key": "a public key in base64"}
_LIMIT_KEYS = ("strong_per_hour", "cooldown_s", "never_touch", "quiet_hours")
_PROCESS_KEYS = (
    "name",
    "start_cmd",
    "stop_cmd",
    "restart_cmd",
    "allow_restart",
    "service",
    "verify",
    "verify_timeout_s",
    "on_failure",
    "rollback",
)
# No systemd pattern (* ? [), no option, no path; Windows has spaces and dollars in its names.
_SERVICE_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:$ -]{0,254}")


def forget_parser() -> None:
    """Let go of the YAML parser: an agent reads its config once, and then it would keep a megabyte for nothing.

    Whoever reads another config after that in the same process would have to load it again, which it may refuse.
    """
    for name in [name for name in sys.modules if name == "yaml" or name.startswith("yaml.")]:
        del sys.modules[name]
    gc.collect()


def _compose(path: Path) -> "yaml.Node":
    import yaml  # noqa: PLC0415 - see forget_parser

    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: expected at most {MAX_CONFIG_BYTES} bytes")
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: expected valid YAML: {_one_line(error.problem or '')}") from error
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise ConfigError(f"{path}:1: expected valid YAML: {_one_line(str(error))}") from error
    if node is None:
        raise ConfigError(f"{path}:1: expected base_url, agent_id and api_key, got an empty file")
    return node


def _base_url(root: "_Section") -> BaseUrl:
    value = root.need("base_url", "the server's address, such as https://reco3.example.com")
    is_insecure_allowed = root.read("allow_insecure_http", _flag, default=False)
    url = BaseUrl.parse(value.text())
    if url is None:
        raise value.wrong("http://HOST[:PORT] or https://HOST[:PORT][/PATH]")
    if not url.is_tls and not url.is_loopback and not is_insecure_allowed:
        raise value.wrong(
            "https:// for a server on another machine (over plain http anyone on the way reads the key and forges "
            "orders; allow_insecure_http: true accepts that)"
        )
    return url


def _control(section: "_Section", *, folder: Path, state_dir: Path) -> ControlConfig:
    return ControlConfig(
        rate_limit=_rate_limit(
            section.child("rate_limit", "driver", "path", "nginx", "command"), folder=folder, state_dir=state_dir
        ),
        apply_enabled=section.read("apply_enabled", _flag, default=False),
        safe_modes=section.read("safe_modes", _modes, (Mode.NORMAL, Mode.SAFE)),
        approvers=section.read("approvers", _approvers, ()),
        approvals_required=section.read("approvals_required", lambda value: value.whole(1, 100), 1),
        four_eyes=section.read("four_eyes", _flag, default=True),
        trust_changes=section.read("trust_changes", _flag, default=True),
        fleet_id=section.read("fleet_id", _fleet_id, ""),
        is_development=section.read("profile", lambda value: value.one_of(PROFILES), PROFILES[0]) == "dev",
        veto_s=section.read("veto_s", lambda value: value.whole(0, 3600), 0),
        limits=_limits(section.child("limits", *_LIMIT_KEYS)),
        command_timeout_s=section.read("command_timeout_s", lambda value: value.number(1, 3600), 60.0),
        max_output_bytes=section.read("max_output_kb", lambda value: value.whole(1, 20), 16) * 1024,
    )


def _rate_limit(section: "_Section", *, folder: Path, state_dir: Path) -> RateLimitConfig:
    driver = LimitDriver(section.read("driver", lambda value: value.one_of(tuple(LimitDriver)), LimitDriver.FILE))
    if driver is LimitDriver.NGINX:
        path = folder / section.need("path", "the file that nginx includes in http {}").matching(bool, "a path")
        return RateLimitConfig(driver, path, nginx=_nginx(section, folder=folder, path=path))
    text = section.read("path", _text, "")
    path = folder / text if text else state_dir / "rate_limits.json"
    if driver is LimitDriver.COMMAND:
        expected = "set and clear, the commands that put a limit in force and lift it"
        command = section.need("command", expected).section("set", "clear")
        return RateLimitConfig(driver, path, command=_limit_commands(command))
    return RateLimitConfig(driver, path)


def _nginx(section: "_Section", *, folder: Path, path: Path) -> NginxConfig:
    nginx = section.child("nginx", "server_path", "argv", "reload_argv", "pid_path")
    argv = nginx.read("argv", _program_argv, ("nginx",))
    server_path = folder / nginx.read("server_path", _path, str(path.with_name("server.conf")))
    if server_path == path:
        raise nginx.need("server_path", "a path").wrong("another file than control.rate_limit.path")
    return NginxConfig(
        server_path=server_path,
        argv=argv,
        reload_argv=nginx.read("reload_argv", _program_argv, (*argv, "-s", "reload")),
        pid_path=folder / nginx.read("pid_path", _path, "/run/nginx.pid"),
    )


def _limit_commands(section: "_Section") -> LimitCommands:
    return LimitCommands(
        set_argv=_template(section.need("set", "the command that puts a limit in force"), "{endpoint}", "{limit_rps}"),
        clear_argv=_template(section.need("clear", "the command that lifts a limit"), "{endpoint}"),
    )


def _template(value: "_Value", *places: str) -> tuple[str, ...]:
    argv = _program_argv(value)
    if any("{" in argv[0] or not any(place in word for word in argv[1:]) for place in places):
        raise value.wrong(f"a program and, among its words, {' and '.join(places)}")
    return argv


def _program_argv(value: "_Value") -> tuple[str, ...]:
    argv = _argv(value)
    if not argv:
        raise value.wrong("a program and its words")
    return argv


def _limits(section: "_Section") -> LimitsConfig:
    return LimitsConfig(
        strong_per_hour=section.read("strong_per_hour", lambda value: value.whole(0, 100_000), 20),
        cooldown_s=section.read("cooldown_s", lambda value: value.number(0, 86_400), 5.0),
        never_touch=section.read(
            "never_touch", lambda value: tuple(_protected_name(item) for item in value.items(1000)), NEVER_TOUCH
        ),
        quiet_hours=section.read("quiet_hours", lambda value: tuple(_quiet_hours(one) for one in value.items(24)), ()),
    )


def _protected_name(value: "_Value") -> str:
    return value.matching(_is_process_name, "a process name: letters, digits, spaces and . _ @ + -")


def _quiet_hours(value: "_Value") -> QuietHours:
    match = _QUIET_HOURS_PATTERN.fullmatch(value.text())
    if match is None:
        raise value.wrong('local times of day such as "22:00-06:00"')
    begins, ends = (int(match[first]) * 60 + int(match[first + 1]) for first in (1, 3))
    if begins == ends:
        raise value.wrong("hours that end at another time than they begin")
    return QuietHours(begins, ends)


def _modes(value: "_Value") -> tuple[Mode, ...]:
    return tuple(Mode(item.one_of(tuple(Mode))) for item in value.items(len(Mode)))


def _approvers(value: "_Value") -> tuple["Pin", ...]:
    pins: list[Pin] = []
    for item in value.items(MAX_APPROVERS):
        section = item.section("owner", "kind", "key", "origin")
        pin = _approver(section)
        if any(pin.key == other.key for other in pins):
            raise section.need("key", "a key").wrong("a key that is not in the list yet")
        pins.append(pin)
    return tuple(pins)


def _approver(section: "_Section") -> "Pin":
    from reco3.signing.pins import BadPin, make_pin  # noqa: PLC0415 - an agent without approvers does not need it

    owner, kind, key = (section.need(name, expected).text() for name, expected in _PIN_KEYS.items())
    try:
        return make_pin(owner, kind, key, section.read("origin", _text, None))
    except BadPin as error:
        raise section.need(error.field, error.expected).wrong(error.expected) from error


def _fleet_id(value: "_Value") -> str:
    return value.matching(
        lambda text: not text or _FLEET_ID_PATTERN.fullmatch(text) is not None,
        "the id of the server's fleet, 22 letters, digits, _ and -",
    )


def _watch(section: "_Section", folder: Path) -> WatchConfig:
    return WatchConfig(
        processes=section.read("processes", _programs, ()),
        log_files=section.read(
            "log_files", lambda value: tuple(str(folder / _path(item)) for item in value.items(MAX_LOG_FILES)), ()
        ),
    )


def _programs(value: "_Value") -> tuple[WatchedProgram, ...]:
    programs: dict[str, WatchedProgram] = {}
    for item in value.items(MAX_PROCESSES):
        section = item.section(*_PROCESS_KEYS)
        name = section.need("name", "a process name")
        if name.text() in programs:
            raise name.wrong("a name that is not in the list yet")
        programs[name.text()] = _program(
            section, name.matching(_is_process_name, "letters, digits, spaces and . _ @ + -")
        )
    return tuple(programs.values())


def _program(section: "_Section", name: str) -> WatchedProgram:
    program = WatchedProgram(
        name=name,
        start_argv=section.read("start_cmd", _argv, ()),
        stop_argv=section.read("stop_cmd", _argv, ()),
        restart_argv=section.read("restart_cmd", _argv, ()),
        allow_restart=section.read("allow_restart", _flag, default=False),
        service=section.read("service", _service, ""),
        verify=section.read("verify", _checks, None),
        verify_timeout_s=section.read(
            "verify_timeout_s", lambda value: value.number(0.1, 600), DEFAULT_VERIFY_TIMEOUT_S
        ),
        on_failure=section.read("on_failure", _on_failure, OnFailure.NONE),
        rollback_argv=section.read("rollback", _argv, ()),
    )
    _refuse_contradictions(section, program)
    return program


def _refuse_contradictions(section: "_Section", program: WatchedProgram) -> None:
    if program.service and (program.start_argv or program.stop_argv or program.restart_argv):
        raise section.need("service", "a service").wrong("either service, or start_cmd, stop_cmd and restart_cmd")
    if program.on_failure is OnFailure.ROLLBACK and not program.rollback_argv:
        raise section.need("on_failure", "what to do").wrong("rollback only together with a rollback command")
    longest_s = max((check.up_s for check in program.verify or () if isinstance(check, UpFor)), default=0.0)
    if longest_s >= program.verify_timeout_s:
        raise section.need("verify", "checks").wrong(
            f"up_s below verify_timeout_s ({program.verify_timeout_s:g}), within which every check must hold"
        )


def _service(value: "_Value") -> str:
    return value.matching(
        lambda text: text == text.strip() and (not text or _SERVICE_PATTERN.fullmatch(text) is not None),
        "the name of a systemd unit, Windows service or launchd daemon: letters, digits, spaces and . _ @ : $ -",
    )


def _on_failure(value: "_Value") -> OnFailure:
    return OnFailure(value.one_of(tuple(OnFailure)))


def _checks(value: "_Value") -> tuple[Check, ...]:
    return tuple(_check(item) for item in value.items(MAX_CHECKS))


def _check(value: "_Value") -> Check:
    section = value.section("up_s", "tcp_port", "http", "status", "argv")
    status = section.read("status", lambda each: each.whole(100, 599), None)
    read: tuple[Check | None, ...] = (
        section.read("up_s", lambda each: UpFor(each.number(0, 600)), None),
        section.read("tcp_port", lambda each: TcpPort(each.whole(1, 65_535)), None),
        section.read("http", lambda each: HttpStatus(_http_url(each), status or DEFAULT_HTTP_STATUS), None),
        section.read("argv", lambda each: RunsWell(_program_argv(each)), None),
    )
    found = [check for check in read if check is not None]
    if len(found) != 1:
        raise value.wrong("one of up_s, tcp_port, http (with status) and argv in each entry")
    if status is not None and not isinstance(found[0], HttpStatus):
        raise section.need("status", "a status").wrong("status only beside http")
    return found[0]


def _http_url(value: "_Value") -> HttpUrl:
    url = HttpUrl.parse(value.text())
    if url is None:
        raise value.wrong("http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]")
    return url


def _argv(value: "_Value") -> tuple[str, ...]:
    words = tuple(item.text() for item in value.items(1000)) if value.is_list else _split_text(value)
    if any("\0" in word for word in words):
        raise value.wrong("a command without NUL characters")
    if words and not words[0]:
        raise value.wrong("a command that starts with a program's name")
    return words


def _split_text(value: "_Value") -> tuple[str, ...]:
    try:
        return split_command(value.text(), is_windows=sys.platform == "win32")
    except ValueError as error:
        raise value.wrong(f"a command with its quotes closed ({error})") from error


def split_command(text: str, *, is_windows: bool) -> tuple[str, ...]:
    """Split a command into words; on Windows a backslash is part of a path, not an escape.

    Raises: ValueError for a quote that is never closed.
    """
    if not is_windows:
        return tuple(shlex.split(text))
    return tuple(_unquoted(word) for word in shlex.split(text, posix=False))


def _unquoted(word: str) -> str:
    is_quoted = len(word) > 1 and word[0] == word[-1] and word[0] in "\"'"
    return word[1:-1] if is_quoted else word


def _intervals(section: "_Section") -> IntervalsConfig:
    # The server calls a PC offline after 30 s, so a longer heartbeat period would show it offline for ever.
    return IntervalsConfig(
        heartbeat_s=section.read("heartbeat_sec", lambda value: value.number(0.1, 25), float(HEARTBEAT_PERIOD_S)),
        pull_s=section.read("pull_sec", lambda value: value.number(0.1, 3600), float(PULL_PERIOD_S)),
        logs_s=section.read("logs_sec", lambda value: value.number(0.1, 3600), float(LOGS_PERIOD_S)),
    )


def _logging(section: "_Section", folder: Path) -> LoggingConfig:
    file = section.read("file", _text, "")
    return LoggingConfig(
        level=section.read("level", lambda value: value.one_of(LOG_LEVELS), "INFO"),
        file=folder / file if file else None,
        max_size_mb=section.read("max_size_mb", lambda value: value.number(0.01, 10_000), 100.0),
        backup_count=section.read("backup_count", lambda value: value.whole(1, 100), 5),
    )


def _text(value: "_Value") -> str:
    return value.text()


def _flag(value: "_Value") -> bool:
    return value.flag()


def _path(value: "_Value") -> str:
    return value.matching(bool, "a path")


def _is_api_key(text: str) -> bool:
    return 1 <= len(text) <= MAX_KEY_CHARS and text.isascii() and text.isprintable() and " " not in text


def _is_process_name(text: str) -> bool:
    return PROCESS_NAME_PATTERN.fullmatch(text) is not None and ".." not in text and text == text.strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())


_TAG = "tag:yaml.org,2002:"


def _kind_of(node: "yaml.Node") -> str:
    """Say `scalar`, `sequence` or `mapping`, without a need for the parser's classes."""
    return str(node.id)  # type: ignore[attr-defined]  # the stubs have it in the subclasses only


@dataclass(frozen=True, slots=True)
class _Value:
    """One value of the file, its key path (empty for the whole file), and the file's name for errors."""

    node: "yaml.Node"
    path: str
    file: str

    @property
    def is_list(self) -> bool:
        return _kind_of(self.node) == "sequence"

    def wrong(self, expected: str) -> ConfigError:
        where = f"{self.path}: " if self.path else ""
        return ConfigError(
            f"{self.file}:{self.node.start_mark.line + 1}: {where}expected {expected}, got {self._shown()}"
        )

    def text(self) -> str:
        """The scalar as it is written, so that `agent_id: 007` keeps its zeros."""
        if _kind_of(self.node) != "scalar" or self.node.tag == _TAG + "null":
            raise self.wrong("text")
        if "\0" in self.node.value:
            raise self.wrong("text without NUL characters")
        return str(self.node.value)

    def matching(self, is_right: Callable[[str], bool], expected: str) -> str:
        text = self.text()
        if not is_right(text):
            raise self.wrong(expected)
        return text

    def one_of(self, choices: tuple[str, ...]) -> str:
        return self.matching(lambda text: text in choices, "one of " + ", ".join(choices))

    def flag(self) -> bool:
        if self.node.tag != _TAG + "bool":
            raise self.wrong("true or false")
        return str(self.node.value).lower() in {"true", "yes", "on"}

    def number(self, low: float, high: float) -> float:
        expected = f"a number from {low} to {high}"
        if self.node.tag not in {_TAG + "int", _TAG + "float"}:
            raise self.wrong(expected)
        try:
            number = float(self.node.value)
        except ValueError as error:  # YAML has more ways to write a number than Python: 0x10, 1:30.
            raise self.wrong(expected) from error
        if not low <= number <= high:
            raise self.wrong(expected)
        return number

    def whole(self, low: int, high: int) -> int:
        number = self.number(low, high)
        if not number.is_integer():
            raise self.wrong(f"a whole number from {low} to {high}")
        return int(number)

    def items(self, max_count: int) -> list["_Value"]:
        if _kind_of(self.node) != "sequence":
            raise self.wrong("a list")
        if len(self.node.value) > max_count:
            raise self.wrong(f"a list of at most {max_count}")
        return [_Value(node, f"{self.path}[{index}]", self.file) for index, node in enumerate(self.node.value)]

    def section(self, *known: str) -> "_Section":
        if _kind_of(self.node) != "mapping":
            raise self.wrong("keys with values")
        return _Section(self, known)

    def _shown(self) -> str:
        if _kind_of(self.node) == "mapping":
            return "keys with values"
        if _kind_of(self.node) == "sequence":
            return f"a list of {len(self.node.value)}"
        if self.node.tag == _TAG + "null":
            return "nothing"
        if self.path == "api_key":
            return "something else"
        text = str(self.node.value)
        return json.dumps(text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…", ensure_ascii=False)


class _Section:
    """A mapping of the file, with every key known and none given twice."""

    def __init__(self, whole: _Value, known: tuple[str, ...]) -> None:
        self._whole = whole
        self._values: dict[str, _Value] = {}
        for key_node, node in whole.node.value:
            self._add(_Value(key_node, whole.path, whole.file), node, known)

    def _add(self, key: _Value, node: "yaml.Node", known: tuple[str, ...]) -> None:
        name = str(key.node.value)
        if name not in known:
            raise key.wrong(f"one of the keys {', '.join(known)}")
        if name in self._values:
            raise _Value(key.node, self._path_of(name), key.file).wrong("each key once")
        self._values[name] = _Value(node, self._path_of(name), key.file)

    def need(self, key: str, expected: str) -> _Value:
        """The value of a key that must be there."""
        if key not in self._values:
            line = self._whole.node.start_mark.line + 1
            raise ConfigError(
                f"{self._whole.file}:{line}: {self._path_of(key)}: expected {expected}, but it is missing"
            )
        return self._values[key]

    def read(self, key: str, parse: Callable[[_Value], T], default: U) -> T | U:
        """The parsed value of a key that may be left out."""
        return parse(self._values[key]) if key in self._values else default

    def child(self, key: str, *known: str) -> "_Section":
        """The section under a key; left out, it has no keys and every default holds."""
        if key in self._values:
            return self._values[key].section(*known)
        mapping = self._whole.node
        empty = type(mapping)(_TAG + "map", [], mapping.start_mark, mapping.end_mark)
        return _Section(_Value(empty, self._path_of(key), self._whole.file), known)

    def _path_of(self, key: str) -> str:
        return f"{self._whole.path}.{key}" if self._whole.path else key
