"""Gives a PC its key: made here, known to the server by its hash alone, kept in the config, and changed in time.

It refuses to lose a key that the server may have taken: the key is in a file before the server hears of it, and a run
that was cut short is finished by the next one.

    KeyTroubleError
    ├── NotDoneError       the server refused, or did not answer
    └── UnusableError      a file, an address or a token cannot be used
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from reco3.agent import failpoints
from reco3.agent.config import AgentConfig, ConfigError, detected_platform, load_config
from reco3.agent.config_texts import TextError, template_text, value_of, with_values
from reco3.agent.digests import sha256_hex
from reco3.agent.http_client import HTTP_UNAUTHORIZED, BaseUrl, ContactError, HttpClient, RefusedError
from reco3.agent.private_files import move, write_private
from reco3.protocol.limits import is_agent_id
from reco3.protocol.messages import EnrolmentRequest

HTTP_NOT_FOUND = 404
# Stands in an unfinished config until the server has said for which PC the token is.
NOT_KNOWN_YET = "not-known-yet"
MAX_CONFIG_BYTES = 1024 * 1024

T = TypeVar("T")


class KeyTroubleError(Exception):
    """The PC has no new key; the text is for its administrator."""


class NotDoneError(KeyTroubleError):
    """The server refused, or did not answer."""


class UnusableError(KeyTroubleError):
    """Something that was given cannot be used."""


@dataclass(frozen=True, slots=True)
class EnrolOrder:
    """What the administrator asks for; without `agent_id` the config's name counts, and else the token's."""

    config_path: Path
    base_url: str
    token: str
    agent_id: str | None = None
    allow_insecure_http: bool = False


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What came of it."""

    config: AgentConfig
    fleet_id: str | None
    is_new_file: bool


def enrol(order: EnrolOrder) -> Enrolled:
    """Make a key, bring its hash to the server with the token, and put it into the config.

    Raises: KeyTroubleError.
    """
    path = Path(os.path.realpath(order.config_path))
    text = _text_of(path) if path.exists() else None
    _refuse_hidden_flag(order, text)
    unfinished = _Unfinished(path, path.with_name(f"{path.name}.enrolling"))
    left = unfinished.left()
    agent_id = order.agent_id or (left and left.agent_id) or (text and _edited(lambda: value_of(text, "agent_id")))
    if agent_id and not is_agent_id(agent_id):
        raise UnusableError(f"agent id: expected 1 to 64 letters, digits and . _ -, got {ascii(agent_id)[:70]}")
    draft = _draft(order, text)
    key = left.api_key if left else secrets.token_urlsafe(32)
    config = unfinished.write(draft, agent_id=agent_id or NOT_KNOWN_YET, api_key=key)
    failpoints.hit("enrol_key_written")
    if left and agent_id and _is_good(config):
        return Enrolled(unfinished.finish(), None, is_new_file=text is None)
    answer = _come_in(order.token, agent_id or None, config, unfinished, has_left=left is not None)
    failpoints.hit("enrol_answered")
    unfinished.write(draft, agent_id=answer[0], api_key=key)
    return Enrolled(unfinished.finish(), answer[1], is_new_file=text is None)


def rotate_key(config_path: Path) -> AgentConfig:
    """Make the next key, announce its hash with the present one, and put it into the config.

    Raises: KeyTroubleError.
    """
    path = Path(os.path.realpath(config_path))
    present = _usable(path)
    unfinished = _Unfinished(path, path.with_name(f"{path.name}.rotating"))
    left = unfinished.left()
    key = left.api_key if left else secrets.token_urlsafe(32)
    following = unfinished.write(_text_of(path), agent_id=present.agent_id, api_key=key)
    failpoints.hit("rotation_key_written")
    try:
        _asked(present, lambda client: client.announce_key(sha256_hex(key.encode())))
    except RefusedError as error:
        is_refused = error.status == HTTP_UNAUTHORIZED
        if not (is_refused and left and _is_good(following)):
            unfinished.give_up(is_kept=left is not None)
            raise NotDoneError(_why_not_rotated(error)) from error
    except ContactError as error:
        raise NotDoneError(f"no new key yet: {_shown(error)}. The old one is still good; try again.") from error
    failpoints.hit("rotation_announced")
    return unfinished.finish()


@dataclass(frozen=True, slots=True)
class _Left:
    """What a run that was cut short has left behind."""

    agent_id: str | None
    api_key: str


@dataclass(frozen=True, slots=True)
class _Unfinished:
    """The config that takes the place of the present one once the server has taken its key."""

    config_path: Path
    path: Path

    def left(self) -> _Left | None:
        if not self.path.exists():
            return None
        text = _text_of(self.path)
        api_key, agent_id = _edited(lambda: (value_of(text, "api_key"), value_of(text, "agent_id")))
        if not api_key:
            raise UnusableError(f"{self.path}: holds no key; move it away and try again")
        return _Left(None if agent_id == NOT_KNOWN_YET else agent_id, api_key)

    def write(self, draft: str, *, agent_id: str, api_key: str) -> AgentConfig:
        text = _edited(lambda: with_values(draft, {"agent_id": agent_id, "api_key": api_key}))
        was_there = self.path.exists()
        owner = self.config_path if self.config_path.exists() else self.config_path.parent
        try:
            write_private(self.path, text, owner_like=owner)
        except OSError as error:
            raise UnusableError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            return load_config(self.path)
        except ConfigError as error:
            self.give_up(is_kept=was_there)
            raise UnusableError(str(error)) from error

    def finish(self) -> AgentConfig:
        config = _usable(self.path)
        try:
            move(self.path, self.config_path)
        except OSError as error:
            raise UnusableError(f"{self.config_path}: cannot be replaced: {error.strerror}") from error
        failpoints.hit("key_in_place")
        return config

    def give_up(self, *, is_kept: bool) -> None:
        if not is_kept:
            self.path.unlink(missing_ok=True)


def _draft(order: EnrolOrder, text: str | None) -> str:
    values = {"base_url": order.base_url}
    if text is None:
        text = template_text()
        values["platform"] = detected_platform()
        if order.allow_insecure_http:
            text = text.replace("# allow_insecure_http: false ", "allow_insecure_http: true ", 1)
    base = text
    return _edited(lambda: with_values(base, values))


def _refuse_hidden_flag(order: EnrolOrder, text: str | None) -> None:
    if order.allow_insecure_http and text is not None:
        raise UnusableError("--allow-insecure-http is for a new config; say allow_insecure_http: true in this one")
    if BaseUrl.parse(order.base_url) is None:
        raise UnusableError(
            f"--server: expected http://HOST[:PORT] or https://HOST[:PORT][/PATH], got {ascii(order.base_url)[:80]}"
        )


def _come_in(
    token: str, agent_id: str | None, config: AgentConfig, unfinished: _Unfinished, *, has_left: bool
) -> tuple[str, str]:
    """The PC's name and its fleet's id."""
    request = EnrolmentRequest(token, sha256_hex(config.api_key.encode()), agent_id, config.platform)
    client = HttpClient(config.base_url)
    try:
        return client.enrol(request)
    except RefusedError as error:
        # A key that was left behind may be good under a name that we do not know.
        unfinished.give_up(is_kept=has_left)
        raise NotDoneError(_why_not_enrolled(error, has_left=has_left)) from error
    except ContactError as error:
        again = "it is not known whether the server took the key: run the same again, which finishes it"
        raise NotDoneError(f"{_shown(error)}; {again}. The key is kept in {unfinished.path}.") from error
    finally:
        client.close()


def _is_good(config: AgentConfig) -> bool:
    """Whether the server takes this key."""
    try:
        return _asked(config, lambda client: client.is_key_good())
    except ContactError as error:
        raise NotDoneError(f"the key that an earlier run left cannot be tried: {_shown(error)}; try again") from error


def _asked(config: AgentConfig, request: Callable[[HttpClient], T]) -> T:
    client = HttpClient(config.base_url, agent_id=config.agent_id, api_key=config.api_key)
    try:
        return request(client)
    finally:
        client.close()


def _usable(path: Path) -> AgentConfig:
    try:
        return load_config(path)
    except ConfigError as error:
        raise UnusableError(str(error)) from error


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) <= MAX_CONFIG_BYTES:
            return content.decode("utf-8")
    except OSError as error:
        raise UnusableError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnusableError(f"{path}: expected UTF-8") from error
    raise UnusableError(f"{path}: expected at most {MAX_CONFIG_BYTES} bytes")


def _edited(edit: Callable[[], T]) -> T:
    try:
        return edit()
    except TextError as error:
        raise UnusableError(f"the config cannot be changed: {error}") from error


def _why_not_enrolled(error: RefusedError, *, has_left: bool) -> str:
    if error.status == HTTP_UNAUTHORIZED:
        earlier = " If an earlier run was cut short, --agent-id with this PC's name finishes it." if has_left else ""
        return (
            "the server does not take this token: it was used, it is older than 15 minutes, or it is for another PC. "
            f"Ask for a new one: reco3 enrol create.{earlier}"
        )
    if error.status == HTTP_NOT_FOUND:
        return "this server does not know enrolment; it may be of an older version"
    return f"the server refused: {_shown(error)}"


def _why_not_rotated(error: RefusedError) -> str:
    if error.status == HTTP_UNAUTHORIZED:
        return (
            "the server does not take this PC's present key: it was revoked or replaced. Ask the operator, then: "
            "reco3 agent enrol CONFIG --server URL --token-file FILE"
        )
    if error.status == HTTP_NOT_FOUND:
        return "this server does not know the change of keys; it may be of an older version"
    return f"the server refused: {_shown(error)}"


def _shown(error: Exception) -> str:
    return "".join(character if character.isprintable() else "?" for character in str(error))
