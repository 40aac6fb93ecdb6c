"""Speaks to the operator API and turns whatever goes wrong into one of two errors.

It refuses to follow redirects or proxies: the key goes to the named server and nowhere else.
"""

import contextlib
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from reco3.console.keys import ServerAddress

Json = dict[str, Any]
TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class Refused(Exception):
    """The server answered, and the answer is no."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message


class Unreachable(Exception):
    """Nothing that RECO3 said came back; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Api:
    """One server with one operator's key, or without a key where the server asks for none."""

    address: ServerAddress
    key: str | None = None
    timeout_s: float = TIMEOUT_S

    def commands(self, **query: str | int | None) -> Json:
        """`GET /api/agent-commands`."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._request("GET", f"/api/agent-commands?{urlencode(given)}")

    def command(self, command_id: str) -> Json:
        """One command with its timeline and reports."""
        return self._request("GET", _command_path(command_id))

    def create(self, command: Mapping[str, object]) -> Json:
        """Ask for a command."""
        return self._request("POST", "/api/agent-commands", command)

    def approve(self, command_id: str) -> Json:
        """Say yes to a strong command."""
        return self._request("POST", f"{_command_path(command_id)}/approve", {})

    def envelope(self, command_id: str) -> Json:
        """The bytes to sign, and what the server says of them."""
        return self._request("GET", f"{_command_path(command_id)}/envelope")

    def approve_signed(self, command_id: str, approval: Mapping[str, object]) -> Json:
        """Say yes to a strong command with a signature over its envelope."""
        return self._request("POST", f"{_command_path(command_id)}/approve", approval)

    def deny(self, command_id: str, reason: str) -> Json:
        """Say no to a strong command."""
        return self._request("POST", f"{_command_path(command_id)}/deny", {"reason": reason})

    def own_keys(self) -> Json:
        """The keys that the server knows as the caller's."""
        return self._request("GET", "/api/me/keys")

    def key_challenge(self) -> Json:
        """A challenge that a new key of the caller's must sign."""
        return self._request("POST", "/api/me/keys/options", {"kind": "ed25519"})

    def register_key(self, key: Mapping[str, object]) -> Json:
        """Make a key known to the server as the caller's."""
        return self._request("POST", "/api/me/keys", key)

    def agents(self) -> Json:
        """`GET /api/r3/agents`."""
        return self._request("GET", "/api/r3/agents")

    def fleet(self) -> Json:
        """`GET /api/fleet`: which fleet this server is."""
        return self._request("GET", "/api/fleet")

    def break_glass_uses(self, cursor: str | None = None) -> Json:
        """`GET /api/break-glass`: a page of what was done with the server down."""
        query = {"limit": 500} | ({"cursor": cursor} if cursor else {})
        return self._request("GET", f"/api/break-glass?{urlencode(query)}")

    def cancel(self, command_id: str, reason: str | None) -> Json:
        """Ask that a command does not run."""
        return self._request("POST", f"{_command_path(command_id)}/cancel", {"reason": reason} if reason else {})

    def resolve(self, command_id: str, *, outcome: str, reason: str) -> Json:
        """Record what became of a command whose end is unknown."""
        return self._request("POST", f"{_command_path(command_id)}/resolve", {"outcome": outcome, "reason": reason})

    def make_enrolment_token(self, agent_id: str | None, *, may_replace: bool) -> Json:
        """A token that lets one PC in; its text is in this answer alone."""
        return self._request("POST", "/api/enrolment-tokens", {"agent_id": agent_id, "may_replace": may_replace})

    def enrolment_tokens(self) -> Json:
        """The tokens of the last weeks, without their texts."""
        return self._request("GET", "/api/enrolment-tokens")

    def revoke_enrolment_token(self, token_id: str) -> Json:
        """Take back a token that nobody has used."""
        return self._request("DELETE", f"/api/enrolment-tokens/{quote(token_id, safe='')}")

    def propose_trust_change(self, change: Mapping[str, object]) -> Json:
        """Ask for a change of the keys that PCs trust."""
        return self._request("POST", "/api/trust-changes", change)

    def trust_changes(self) -> Json:
        """The changes of trust, newest first."""
        return self._request("GET", "/api/trust-changes?limit=100")

    def trust_change(self, change_id: str) -> Json:
        """One change of trust, with the bytes to sign."""
        return self._request("GET", _trust_change_path(change_id))

    def sign_trust_change(self, change_id: str, signature: Mapping[str, object]) -> Json:
        """Say yes to a change of trust with a signature over its bytes."""
        return self._request("POST", f"{_trust_change_path(change_id)}/sign", signature)

    def withdraw_trust_change(self, change_id: str, reason: str) -> Json:
        """Have a change of trust handed on no more."""
        return self._request("POST", f"{_trust_change_path(change_id)}/withdraw", {"reason": reason})

    def order_about_key(self, agent_id: str, order: str, *, reason: str) -> Json:
        """`revoke-key` or `clear-clone`."""
        return self._request("POST", f"/api/r3/agent/{quote(agent_id, safe='')}/{order}", {"reason": reason})

    def _request(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Json:
        status, content = self._answer(method, path, body)
        answer = _parsed(content)
        if status == http.client.OK and answer is not None:
            return answer
        if answer is not None and isinstance(answer.get("error"), str):
            raise Refused(status, answer["error"], str(answer.get("message", "")))
        raise Unreachable(f"something that is not RECO3 answered at {self.address.url} (HTTP {status})")

    def _answer(self, method: str, path: str, body: Mapping[str, object] | None) -> tuple[int, bytes]:
        headers = {"Accept": "application/json"}
        if self.key is not None:
            headers["X-API-Key"] = self.key
        if body is not None:
            headers["Content-Type"] = "application/json"
        sent = None if body is None else json.dumps(body).encode()
        try:
            with contextlib.closing(self._connection()) as connection:
                connection.request(method, self.address.base_path + path, body=sent, headers=headers)
                response = connection.getresponse()
                content = response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException, UnicodeError) as err:
            raise Unreachable(f"no answer from {self.address.url}: {_reason(err)}") from err
        if len(content) > MAX_ANSWER_BYTES:
            raise Unreachable(f"the answer of {self.address.url} has no end")
        return response.status, content

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self.address.host, self.address.port
        if self.address.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self.timeout_s, context=context)
        return http.client.HTTPConnection(host, port, timeout=self.timeout_s)


def _command_path(command_id: str) -> str:
    return f"/api/agent-commands/{quote(command_id, safe='')}"


def _trust_change_path(change_id: str) -> str:
    return f"/api/trust-changes/{quote(change_id, safe='')}"


def _parsed(content: bytes) -> Json | None:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _reason(err: Exception) -> str:
    if isinstance(err, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({err.verify_message}); SSL_CERT_FILE can name the authority's"
    if isinstance(err, TimeoutError):
        return "it took too long"
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    return str(err) or type(err).__name__
