"""Signatures from the command line that a real PC takes: the development signer's, and those of a sheet."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from world import AGENT_ID, World, wait_until

from reco3.console.approver_keys import create_key
from reco3.signing.pins import pin_text


def reco3(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in the world's folder, with keys of its own."""
    own = {"XDG_CONFIG_HOME": str(world.folder / ".config"), "RECO3_URL": world.url}
    argv = [sys.executable, "-m", "reco3.cli", *words]
    return subprocess.run(
        argv, cwd=world.folder, env={**os.environ, **own}, capture_output=True, text=True, timeout=90, check=False
    )


def pin_on_the_pc(world: World, pin: str) -> None:
    """Pin a key as the PC's administrator, and wait until the server has heard of it."""
    config = str(world.folder / "config.yaml")
    added = reco3(world, "agent", "trust", "add", config, pin)
    assert added.returncode == 0, added.stderr
    world.restart_agent()
    wait_until(lambda: pinned(world) == 1, timeout_s=20.0, what="the PC says that it pins a key")


def pinned(world: World) -> object:
    agent = world.agent()
    return agent["metrics"].get("approvers_pinned") if agent else None


def use_profile(world: World, profile: str) -> None:
    path = world.folder / "config.yaml"
    path.write_text(path.read_text().replace("control:\n", f"control:\n  profile: {profile}\n", 1))


@pytest.mark.parametrize(("profile", "status"), [("dev", "completed"), (None, "failed")])
def test_the_development_signer_counts_on_a_development_pc_alone(
    world: World, profile: str | None, status: str
) -> None:
    if profile:
        use_profile(world, profile)
    made = reco3(world, "dev-signer", "--once")
    assert made.returncode == 0, made.stderr
    pin = re.search(r"'(dev-signer:ed25519:\S+)'", made.stderr)
    assert pin is not None
    pin_on_the_pc(world, pin[1])
    pid, command_id = world.service_pid(), world.request("RESTART_PROCESS", {"process": world.service_name})

    signed = reco3(world, "dev-signer", "--once")

    ended = world.wait_ended(command_id, timeout_s=30.0)
    assert f"signed {command_id} as dev-signer" in signed.stderr
    assert ended["status"] == status
    assert (world.service_pid() != pid) == (status == "completed")
    if status == "failed":
        assert ended["result"]["code"] == "dev_key_refused"


@pytest.mark.slow
def test_a_sheet_works_once_with_the_server_down_and_must_be_reviewed_before_the_next(world: World) -> None:
    key = create_key(world.folder / ".config/reco3/keys/alice.key", "alice", None)
    pin_on_the_pc(world, pin_text(key.pin))
    config, sheet = str(world.folder / "config.yaml"), world.folder / "sheet"

    def make(out: Path) -> subprocess.CompletedProcess[str]:
        command = ["--pc", AGENT_ID, "--type", "RESTART_PROCESS", f"process={world.service_name}", "--reason", "fire"]
        return reco3(world, "keys", "break-glass", *command, "--server", world.url, "--out", str(out), "--yes")

    made = make(sheet)
    assert made.returncode == 0, made.stderr
    world.stop("server")
    pid = world.service_pid()

    used = reco3(world, "agent", "break-glass", config, str(sheet), "--yes")
    after = world.service_pid()
    again = reco3(world, "agent", "break-glass", config, str(sheet), "--yes")

    assert used.returncode == 0, used.stdout + used.stderr
    assert after != pid
    assert again.returncode == 1
    assert "already_used" in again.stderr
    assert world.service_pid() == after

    world.start_server()
    uses = wait_until(
        lambda: world.get("/api/break-glass")["break_glass"], timeout_s=90.0, what="the server hears of the use"
    )
    refused = make(world.folder / "second")
    assert refused.returncode == 1
    assert "nobody has reviewed that" in refused.stderr
    world.post(f"/api/break-glass/{uses[0]['id']}/review", {"review": "the server room was on fire"})
    assert make(world.folder / "second").returncode == 0


def test_a_stolen_key_is_taken_from_a_pc_by_those_who_remain(world: World) -> None:
    keys = {name: create_key(world.folder / f".config/reco3/keys/{name}.key", name, None) for name in ("ann", "bob")}
    pin_on_the_pc(world, pin_text(keys["ann"].pin))
    before, pid = world.agent(), world.service_pid()
    assert before is not None
    exported = reco3(world, "agent", "trust", "export", str(world.folder / "config.yaml"))
    (world.folder / "trust.json").write_text(exported.stdout, encoding="utf-8")
    change = ["--add", pin_text(keys["bob"].pin), "--remove", pin_text(keys["ann"].pin), "--reason", "stolen"]

    proposed = reco3(world, "trust", "propose", "--from", "trust.json", *change)
    assert proposed.returncode == 0, proposed.stderr
    change_id = proposed.stdout.splitlines()[0].split()[-1]
    first = reco3(world, "trust", "sign", change_id, "--owner", "ann", "--yes")
    last = reco3(world, "trust", "sign", change_id, "--owner", "bob", "--yes")

    def has_followed() -> bool:
        agent = world.agent()
        return agent is not None and agent["metrics"]["trust_version"] != before["metrics"]["trust_version"]

    wait_until(has_followed, timeout_s=60.0, what="the PC trusts the other key")
    assert "0 of 1 owners of new keys" in first.stdout, first.stderr
    assert "enough have" in last.stdout, last.stderr
    for owner in keys:
        assert reco3(world, "keys", "register", "--owner", owner).returncode == 0
    by_ann = world.request("RESTART_PROCESS", {"process": world.service_name})
    refused = reco3(world, "approve", by_ann, "--owner", "ann", "--yes")
    assert refused.returncode == 4, refused.stderr
    assert world.wait_ended(by_ann, timeout_s=30.0)["result"]["code"] == "unpinned_key"
    by_bob = world.request("RESTART_PROCESS", {"process": world.service_name})
    approved = reco3(world, "approve", by_bob, "--owner", "bob", "--yes")
    assert approved.returncode == 0, approved.stderr
    assert world.service_pid() != pid
    assert "published" in reco3(world, "trust", "list").stdout
