"""A newcomer types what docs/approving.md shows, in its order, and nothing else: two minutes to a signed restart."""

import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from world import World, wait_until

from terminals import Terminal

DOCUMENT = Path(__file__).parents[2] / "docs" / "approving.md"
CHAPTER = "## From nothing to a signed restart in six commands"
RESTART = "sudo systemctl restart reco3-agent"
PASSPHRASE = "correct horse battery staple"
TWO_MINUTES_S = 120.0
# A person reads, copies and types; each command is given this long on top of what the machine took.
PERSON_S_PER_COMMAND = 12.0


def shown_commands() -> list[str]:
    """Every line after a `$` in the chapter, as it stands there."""
    chapter = DOCUMENT.read_text(encoding="utf-8").partition(CHAPTER)[2].partition("\n## ")[0]
    return re.findall(r"^\$ (.+)$", chapter, flags=re.MULTILINE)


@dataclass
class Newcomer:
    """Types commands at a terminal; what they print is what later commands are filled in with."""

    world: World
    words: dict[str, str] = field(default_factory=dict)

    def do(self, shown: str) -> str:
        """Do one line of the document; returns what was seen."""
        if shown == RESTART:
            # The agent was started in a terminal here, and not by an installer.
            self.world.restart_agent()
            return ""
        argv = [self._filled_in(word) for word in shlex.split(shown)]
        assert argv[0] == "reco3", shown
        with Terminal(self.program(argv[1:]), cwd=self.world.folder, environment=self._environment) as terminal:
            for question, answer in _questions(argv[1:]):
                terminal.answer(question, answer)
            code, seen = terminal.end()
        assert code == 0, f"{shown}\n{seen}"
        self._remember(seen)
        return seen

    def program(self, words: list[str]) -> list[str]:
        """What runs `reco3` with these words."""
        return [sys.executable, "-m", "reco3.cli", *words]

    @property
    def _environment(self) -> dict[str, str]:
        folder = self.world.folder
        own = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / ".config"), "RECO3_URL": self.world.url}
        return {**os.environ, **own}

    def _filled_in(self, word: str) -> str:
        for name, value in self.words.items():
            word = re.sub(rf"\b{name}\b", lambda _found, value=value: value, word)  # type: ignore[misc]
        return word

    def _remember(self, seen: str) -> None:
        if pin := re.search(r"^pin +(\S+)", seen, flags=re.MULTILINE):
            self.words["PIN"] = pin[1]
        if created := re.search(r"^created (\S+)", seen, flags=re.MULTILINE):
            self.words["ID"] = created[1]


def _questions(argv: list[str]) -> Iterator[tuple[str, str]]:
    """What the command asks, and what the newcomer answers."""
    if argv[:2] == ["keys", "init"]:
        yield "Passphrase for the new key: ", PASSPHRASE
        yield "The same again: ", PASSPHRASE
    if argv[:1] == ["approve"]:
        yield "Sign this? [y/N] ", "y"
    if argv[:1] == ["approve"] or argv[:2] == ["keys", "register"]:
        yield "key: ", PASSPHRASE


def _pinned(world: World) -> object:
    agent = world.agent()
    return agent["metrics"].get("approvers_pinned") if agent else None


@pytest.fixture
def newcomer(world: World) -> Newcomer:
    return Newcomer(world, {"CONFIG": str(world.folder / "config.yaml"), "NAME": world.service_name})


def test_the_document_shows_what_this_test_can_type() -> None:
    verbs = [" ".join(shlex.split(line)[1:3]) for line in shown_commands()]

    assert verbs == [
        "keys init",
        "agent trust",
        "systemctl restart",
        "keys register",
        "commands create",
        "approve ID",
    ]


def test_a_newcomer_restarts_a_service_with_a_signature_within_two_minutes(newcomer: Newcomer) -> None:
    world = newcomer.world
    pid = world.service_pid()
    commands = shown_commands()

    began_s = time.monotonic()
    for shown in commands:
        last = newcomer.do(shown)
    took_s = time.monotonic() - began_s

    assert "RESTART the process" in last
    assert re.search(r"^completed .* after approval$", last, flags=re.MULTILINE)
    assert world.service_pid() != pid
    assert world.command(newcomer.words["ID"])["status"] == "completed"
    with_person_s = took_s + PERSON_S_PER_COMMAND * len(commands)
    print(f"\nnewcomer: {len(commands)} commands, {took_s:.1f} s of machine time, {with_person_s:.0f} s with a person")
    assert with_person_s < TWO_MINUTES_S


def test_after_the_set_up_the_servers_word_alone_restarts_nothing(newcomer: Newcomer) -> None:
    """The negative control: it is the signature that opens the PC, and not the record on the server."""
    world = newcomer.world
    *setting_up, asking, _approving = shown_commands()
    for shown in (*setting_up, asking):
        newcomer.do(shown)
    pid, command_id = world.service_pid(), newcomer.words["ID"]
    wait_until(lambda: _pinned(world) == 1, timeout_s=15.0, what="the PC says that it pins a key")

    answer = world.post(f"/api/agent-commands/{command_id}/approve", {})
    assert answer.json()["error"] == "signature_needed"
    world.forge_approval(command_id)
    # It pulls at once when it starts, which spares the test the rest of a held pull.
    world.restart_agent()

    ended = world.wait_ended(command_id, timeout_s=30.0)
    assert ended["result"]["code"] == "not_signed"
    assert world.service_pid() == pid
