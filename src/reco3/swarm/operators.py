"""The operator's side of a run: asks for commands while the fleet runs, and reads log lines back afterwards.

It sends its key to the named server alone, and never in clear text to another machine.
"""

import contextlib
import http.client
import json
import random
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reco3.protocol.commands import CommandType, Mode
from reco3.swarm.ledger import Asked
from reco3.swarm.plans import CommandPlan
from reco3.swarm.requests import agent_id
from reco3.swarm.targets import BadUsage, SwarmFailed, Target

ANSWER_TIMEOUT_S = 30.0
LINES_PER_PAGE = 500
_FAILED = (OSError, http.client.HTTPException, ValueError)


def read_operator_key(path: Path | None, target: Target) -> str | None:
    """The operator's key in a file; None without one.

    Raises:
        BadUsage: the file cannot be read, holds no key, or the key would travel in clear text to another machine.
    """
    if path is None:
        return None
    try:
        key = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as err:
        raise BadUsage(
            f"--operator-key-file: cannot read {path}: {getattr(err, 'strerror', 'it is not text')}"
        ) from err
    if not key or not key.isprintable() or " " in key:
        raise BadUsage(f"--operator-key-file: expected one line with a key in {path}")
    if not target.is_tls and not target.is_loopback and target.address != "::1":
        raise BadUsage("--operator-key-file: the key is not sent over plain http to another machine; use https")
    return key


class OperatorApi:
    """One kept-alive connection to the operator API."""

    def __init__(self, target: Target, key: str | None) -> None:
        self._target = target
        self._headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
        self._connection: http.client.HTTPConnection | None = None

    def create_command(self, number: int) -> str:
        """Ask a PC for a harmless mode; returns the command's id.

        Raises:
            SwarmFailed: the server did not take it.
        """
        wish = {"agent_id": agent_id(number), "type": CommandType.SET_MODE, "payload": {"mode": Mode.NORMAL}}
        return str(self._ask("POST", "/api/agent-commands", json.dumps(wish))["id"])

    def command_status(self, command_id: str) -> str:
        """What became of a command. Raises: SwarmFailed."""
        return str(self._ask("GET", f"/api/agent-commands/{command_id}")["status"])

    def messages(self, number: int) -> Iterator[str]:
        """Every log line of a PC, newest first. Raises: SwarmFailed."""
        cursor = ""
        while True:
            query = f"?limit={LINES_PER_PAGE}" + (f"&cursor={cursor}" if cursor else "")
            page = self._ask("GET", f"/api/r3/agent/{agent_id(number)}/logs{query}")
            yield from (str(line["msg"]) for line in page["logs"])
            cursor = page.get("next_cursor") or ""
            if not cursor:
                return

    def last_seen_texts(self) -> Iterator[tuple[str, str]]:
        """Every PC's id with the time at which the server heard of it last. Raises: SwarmFailed."""
        cursor = ""
        while True:
            page = self._ask("GET", f"/api/r3/agents?limit=500&cursor={cursor}")
            yield from ((str(agent["agent_id"]), str(agent["last_seen"])) for agent in page["agents"])
            cursor = page.get("next_cursor") or ""
            if not cursor:
                return

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        try:
            status, content = self._exchange(method, path, body)
            answer = json.loads(content)
        except _FAILED as err:
            self.close()
            raise SwarmFailed(f"the operator API did not answer {method} {path.partition('?')[0]}: {err}") from err
        if status != http.client.OK or not isinstance(answer, dict):
            raise SwarmFailed(f"the operator API answered {method} {path.partition('?')[0]} with {status}")
        return answer

    def _exchange(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        for is_last_try in (self._connection is None, True):
            if self._connection is None:
                self._connection = _connection(self._target)
            try:
                self._connection.request(method, self._target.base_path + path, body=body, headers=self._headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (ConnectionError, http.client.RemoteDisconnected):
                self.close()
                if is_last_try or method != "GET":
                    raise
        raise AssertionError("unreachable")


class CommandDesk:
    """Asks for commands at even intervals, each for another random PC."""

    def __init__(self, plan: CommandPlan, target: Target, *, pcs: int, seed: str) -> None:
        self.asked: dict[str, Asked] = {}
        self.refused = 0
        self.last_refusal = ""
        self._api = OperatorApi(target, plan.operator_key)
        chance = random.Random(f"{seed}:commands")  # noqa: S311 - repeats with its seed, guards nothing
        self._numbers = chance.sample(range(pcs), min(plan.count, pcs))
        self._period_s = (plan.last_at - plan.first_at) / max(1, len(self._numbers))
        self._next_at = plan.first_at
        self._last_at = plan.last_at

    def wait_s(self) -> float | None:
        """How long until the next command is due; None when there is none left."""
        return max(0.0, self._next_at - time.monotonic()) if self._numbers else None

    def ask_due(self) -> None:
        """Ask for the command that is due, if there is one; what is not asked for in time never is."""
        now = time.monotonic()
        if now > self._last_at:
            self._numbers.clear()
        if not self._numbers or now < self._next_at:
            return
        self._next_at += self._period_s
        number = self._numbers.pop()
        asked_at = time.time()
        try:
            self.asked[self._api.create_command(number)] = Asked(number, asked_at)
        except SwarmFailed as err:
            self.refused += 1
            self.last_refusal = str(err)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._api.close()


def _connection(target: Target) -> http.client.HTTPConnection:
    if target.is_tls:
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(target.host, target.port, timeout=ANSWER_TIMEOUT_S, context=context)
    return http.client.HTTPConnection(target.host, target.port, timeout=ANSWER_TIMEOUT_S)
