"""install_systemd.sh and uninstall_systemd.sh on a real systemd: a Debian booted in a container, without network.

RECO3_SOAK=1 runs it (some minutes); it needs root. A real server runs in the container too.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from systemd_container import ROOT, Container, booted

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.environ.get("RECO3_SOAK") != "1", reason="make soak runs it"),
]

INSTALL = "/mnt/reco3/agent/linux/install_systemd.sh"
UNINSTALL = "/mnt/reco3/agent/linux/uninstall_systemd.sh"
WORDS = ("devkey", "http://127.0.0.1:5001", "pc-001", "--wheels", "/mnt/wheels")
UNIT = "reco3-agent.service"
CONFIG = "/opt/reco3-agent/config.yaml"
SERVER_UNIT = """\
[Service]
Environment=PYTHONPATH=/mnt/reco3/src:/mnt/libraries PYTHONDONTWRITEBYTECODE=1
Environment=RECO3_AGENT_KEYS=pc-001=devkey API_KEY=operator RECO3_DB_PATH=/srv/server/reco3.db
WorkingDirectory=/srv/server
ExecStart=/usr/bin/python3 -m reco3.cli server
[Install]
WantedBy=multi-user.target
"""
ASK = """\
import json, urllib.request
asked = urllib.request.Request("http://127.0.0.1:5001/api/r3/agents", headers={"X-API-Key": "operator"})
print(urllib.request.urlopen(asked, timeout=5).read().decode())
"""
MAKE_TOKEN = """\
import json, urllib.request
headers = {"X-API-Key": "operator", "Content-Type": "application/json"}
asked = urllib.request.Request("http://127.0.0.1:5001/api/enrolment-tokens", b'{"agent_id": "pc-002"}', headers)
print(json.load(urllib.request.urlopen(asked, timeout=5))["token"])
"""
ALICE = "alice:ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="
# useradd and userdel keep the lists of before.
ACCOUNT_COPIES = {"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"}


class Pc:
    """The container as a PC that is installed."""

    def __init__(self, container: Container, log: Path) -> None:
        self.container = container
        self.log = log

    def run(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        return self.container.call(argv, timeout_s=300)

    def must(self, *argv: str) -> str:
        done = self.run(*argv)
        print(f"$ {' '.join(argv)}\n{done.stdout}{done.stderr}", flush=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def listing(self) -> dict[str, Any]:
        listed = self.run("/usr/bin/python3", "/mnt/reco3/tests/soak/pc_listing.py")
        assert listed.returncode == 0, listed.stderr
        return dict(json.loads(listed.stdout))

    def last_seen(self) -> str | None:
        """When the server heard of the PC that it shows as ONLINE."""
        asked = self.run("/usr/bin/python3", "-c", ASK)
        agents = json.loads(asked.stdout)["agents"] if asked.returncode == 0 else []
        online = [agent["last_seen"] for agent in agents if agent["status"] == "ONLINE"]
        return str(online[0]) if online else None

    def wait_online(self, *, after: str | None) -> float:
        """Wait until the server has heard of the PC anew; returns the seconds it took."""
        started_at = time.monotonic()
        wait_for(lambda: (seen := self.last_seen()) is not None and seen != after, "the PC never came ONLINE")
        return time.monotonic() - started_at

    def pid(self) -> str:
        return self.run("systemctl", "show", "--property=MainPID", "--value", UNIT).stdout.strip()


def wait_for(is_so: Callable[[], bool], complaint: str, *, within_s: float = 40) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.3)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    requirements = ROOT / "agent/common/requirements-agent.txt"
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary=:all:"]
    subprocess.run([*argv, "--dest", folder, "-r", requirements], check=True)
    return folder


@pytest.fixture
def pc(wheels: Path, tmp_path: Path) -> Iterator[Pc]:
    with booted(tmp_path, is_kept=True, mounts=[f"{wheels}:/mnt/wheels"]) as container:
        pc = Pc(container, tmp_path / "boot.log")
        (container.root / "srv/server").mkdir()
        (container.root / "etc/systemd/system/reco3-test-server.service").write_text(SERVER_UNIT)
        pc.must("systemctl", "enable", "--now", "reco3-test-server.service")
        try:
            wait_for(lambda: pc.run("/usr/bin/python3", "-c", ASK).returncode == 0, "the server never answered")
        except AssertionError:
            print(pc.run("journalctl", "--unit=reco3-test-server", "--no-pager").stdout[-3_000:])
            raise
        yield pc


def check_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Nothing is there that was not, and nothing is gone or changed."""
    old, new = before["files"], after["files"]
    differing = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    print(f"{len(old)} files and folders before, {len(new)} after; differing: {sorted(differing)}")
    assert differing <= ACCOUNT_COPIES
    for kind in ("users", "processes", "units"):
        assert after[kind] == before[kind], kind


def test_a_pc_is_installed_crashes_reboots_is_upgraded_and_is_as_before_in_the_end(pc: Pc) -> None:
    before = pc.listing()
    assert pc.run("/usr/bin/python3", "-c", ASK).stdout.startswith('{"agents":[]')

    pc.must(INSTALL, *WORDS)
    print(f"ONLINE {pc.wait_online(after=None):.1f} s after the installer ended")
    installed = pc.listing()
    check_installed(pc, installed, before)

    pid = pc.pid()
    pc.must("systemctl", "kill", "--signal=KILL", "--kill-who=main", UNIT)
    wait_for(lambda: pc.pid() not in {pid, "0"}, "systemd never started it again")
    print(f"ONLINE by a new heartbeat {pc.wait_online(after=pc.last_seen()):.1f} s after systemd had started it again")
    assert pc.must("systemctl", "show", "--property=NRestarts", "--value", UNIT).strip() == "1"

    pc.container.reboot(pc.log)
    wait_for(lambda: pc.run("/usr/bin/python3", "-c", ASK).returncode == 0, "the server never answered again")
    # The server remembers the heartbeats of before.
    print(f"ONLINE by a new heartbeat {pc.wait_online(after=pc.last_seen()):.1f} s after the reboot")

    pc.must("sed", "-i", "s/^  log_files: \\[\\]/  log_files: [] # mine/", CONFIG)
    config, state = pc.must("sha256sum", CONFIG), pc.must("ls", "-i", "/opt/reco3-agent/state/agent.db")
    pid = pc.pid()
    pc.must(INSTALL, *WORDS)
    pc.wait_online(after=pc.last_seen())
    assert (pc.must("sha256sum", CONFIG), pc.must("ls", "-i", "/opt/reco3-agent/state/agent.db")) == (config, state)
    assert pc.pid() not in {pid, "0"}

    pc.must(UNINSTALL)
    check_same(before, pc.listing())


def check_installed(pc: Pc, installed: dict[str, Any], before: dict[str, Any]) -> None:
    assert set(installed["users"]) - set(before["users"]) == {"reco3-agent"}
    assert len(installed["processes"]) == 1
    owner = pc.must("stat", "--format=%U %a", CONFIG, "/opt/reco3-agent/state", "/var/log/reco3-agent/agent.log")
    assert owner.split("\n")[:-1] == ["reco3-agent 600", "reco3-agent 700", "reco3-agent 600"]
    as_the_agent_sees = ("nsenter", f"--target={pc.pid()}", "--mount", "touch")
    for name in (CONFIG, "/etc/passwd", "/usr/bin/x"):
        assert "Read-only file system" in pc.run(*as_the_agent_sees, name).stderr
    pc.must(*as_the_agent_sees, "/opt/reco3-agent/state/x")
    assert "\n  apply_enabled: false" in pc.run("cat", CONFIG).stdout
    assert "devkey" not in pc.run("cat", "/var/log/reco3-agent/agent.log").stdout


def test_an_installer_killed_at_any_time_is_finished_by_the_next_or_removed(pc: Pc) -> None:
    before = pc.listing()
    for seconds in ("0.5", "2", "4", "6", "8", "10"):
        killed = pc.run("timeout", "--signal=KILL", seconds, INSTALL, *WORDS)
        print(f"killed after {seconds} s: {killed.stdout.splitlines()[-1:]}")
        pc.must(UNINSTALL)
        check_same(before, pc.listing())

    for seconds in ("3", "7", "9"):
        pc.run("timeout", "--signal=KILL", seconds, INSTALL, *WORDS)
    pc.must(INSTALL, *WORDS)
    pc.wait_online(after=None)
    pc.must(UNINSTALL)
    check_same(before, pc.listing())


def test_a_program_that_a_command_started_outlives_the_agent_and_is_named_by_the_uninstaller(pc: Pc) -> None:
    drop_in = pc.container.root / f"etc/systemd/system/{UNIT}.d/more.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(
        '[Service]\nExecStartPost=/bin/sh -c "setsid sleep 1234 & echo $! > /opt/reco3-agent/state/pid"\n'
    )
    pc.must(INSTALL, *WORDS)
    pid, program = pc.pid(), pc.must("cat", "/opt/reco3-agent/state/pid").strip()
    assert UNIT in pc.must("cat", f"/proc/{program}/cgroup")

    pc.must("systemctl", "kill", "--signal=KILL", "--kill-who=main", UNIT)
    wait_for(lambda: pc.pid() not in {pid, "0"}, "systemd never started it again")

    assert pc.must("cat", f"/proc/{program}/comm").strip() == "sleep"
    removed = pc.run(UNINSTALL)
    print(removed.stdout)
    assert re.search(rf"go on, because commands had started them: .*\b{program}\b", removed.stdout)
    assert pc.must("cat", f"/proc/{program}/comm").strip() == "sleep"
    # They run as the agent's user, who therefore stays until they have ended.
    assert (removed.returncode, "user_in_use" in removed.stdout) == (1, True)
    pc.must("sh", "-c", "kill $(grep -lsx sleep /proc/[0-9]*/comm | cut -d/ -f3)")
    assert pc.must(UNINSTALL).splitlines()[-1] == "Removed."


def test_an_upgrade_that_does_not_run_leaves_the_old_agent_online(pc: Pc) -> None:
    pc.must(INSTALL, *WORDS)
    pc.wait_online(after=None)
    app = pc.must("stat", "--format=%i", "/opt/reco3-agent/app")
    pc.must("cp", "-a", "/mnt/reco3/agent", "/mnt/reco3/src", "/srv")
    broken = "import sys, pathlib\nif 'config.yaml' in sys.argv[-1]: sys.exit('a broken release')\n"
    cli = pc.container.root / "srv/src/reco3/cli.py"
    cli.write_text(broken + cli.read_text())

    ended = pc.run("/srv/agent/linux/install_systemd.sh", *WORDS)

    print(ended.stdout + ended.stderr)
    assert ended.returncode == 1
    assert "a broken release" in ended.stdout
    assert "Not installed; what this run did was undone." in ended.stdout
    assert pc.must("stat", "--format=%i", "/opt/reco3-agent/app") == app
    pc.wait_online(after=pc.last_seen())


def test_a_refused_token_leaves_nothing(pc: Pc) -> None:
    pc.must("sh", "-c", "echo not-a-token > /srv/token; chmod 600 /srv/token")
    before = pc.listing()

    refused = pc.run(INSTALL, "--token-file", "/srv/token", WORDS[1], "pc-001", *WORDS[3:])

    print(refused.stdout + refused.stderr)
    assert refused.returncode == 1
    assert "not_enrolled" in refused.stdout
    assert "not-a-token" not in refused.stdout.replace("--token-file", "")
    check_same(before, pc.listing())


def test_a_pc_is_enrolled_by_a_token_and_pins_its_approvers(pc: Pc) -> None:
    token = pc.run("/usr/bin/python3", "-c", MAKE_TOKEN).stdout.strip()
    (pc.container.root / "srv/pins").write_text(f"# the team\n{ALICE}\n")
    words = ("--token-file", "-", WORDS[1], "pc-002", *WORDS[3:], "--approver-file", "/srv/pins")

    for _ in range(2):  # The token is good once, and the same again finishes well all the same.
        told = pc.must("sh", "-c", f"echo {token} | exec {INSTALL} {' '.join(words)}").replace(f"echo {token}", "")
        pc.wait_online(after=pc.last_seen())
        assert token not in told

    config = pc.run("cat", CONFIG).stdout
    assert '\nagent_id: "pc-002"' in config or config.startswith('agent_id: "pc-002"')
    assert config.count('owner: "alice", kind: "ed25519", key: "iojj') == 1
    assert token not in config
    owner = pc.must("stat", "--format=%U %a", CONFIG, "/var/log/reco3-agent/agent.log")
    assert owner.split("\n")[:-1] == ["reco3-agent 600", "reco3-agent 600"]


def test_the_root_variant_comes_online(pc: Pc) -> None:
    pc.must(INSTALL, *WORDS, "--user", "root")
    pc.wait_online(after=None)
    assert pc.must("systemctl", "show", "--property=User", "--value", UNIT).strip() == "root"
