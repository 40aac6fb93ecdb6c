"""What a Linux PC has for installers: systemd with one unit, users and groups; played after their manual pages."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fake_pc import FakePc

from reco3.installers.linux import LAYOUT
from reco3.installers.programs import Call, Ran
from reco3.installers.systemd import BOOTED, UNIT, UNIT_FILE, WANTED_LINK

NOT_LOADED = 5
_USER_EXISTS, _GROUP_EXISTS, _NO_SUCH_USER, _IN_USE = 9, 9, 6, 8


@dataclass(slots=True)
class FakeSystemd:
    """One unit. An application with `broken` in its `__init__.py` ends soon after each start."""

    pc: FakePc
    loaded: str | None = None
    active: str = "inactive"
    pid: int = 0
    starts: int = 0
    broken: str | None = None

    def __call__(self, call: Call) -> Ran:
        verb, unit = call.argv[1], call.argv[-1]
        if verb == "--version":
            return Ran(0, "systemd 252")
        assert verb == "daemon-reload" or unit == UNIT, call
        return getattr(self, f"_{verb.replace('-', '_')}")()

    def has_trace(self) -> bool:
        """Whether systemd still knows anything of the unit."""
        return self.loaded is not None or self.active != "inactive" or self.pid != 0

    def _text(self) -> str | None:
        file = self.pc.real(UNIT_FILE)
        return file.read_text() if file.exists() else None

    def _crashes(self) -> bool:
        code = self.pc.real(LAYOUT.packages(LAYOUT.app)) / "reco3/__init__.py"
        return self.broken is not None and code.exists() and self.broken in code.read_text()

    def _load(self) -> bool:
        self.loaded = self.loaded if self.loaded is not None else self._text()
        return self.loaded is not None

    def _daemon_reload(self) -> Ran:
        self.loaded = self._text()
        return Ran(0)

    def _enable(self) -> Ran:
        link = self.pc.real(WANTED_LINK)
        if self._text() is None:
            return Ran(1, f"Failed to enable unit: Unit file {UNIT} does not exist.")
        if not link.is_symlink():
            link.symlink_to(UNIT_FILE)
        return Ran(0)

    def _disable(self) -> Ran:
        if self._text() is None:
            return Ran(1, f"Failed to disable unit: Unit file {UNIT} does not exist.")
        self.pc.real(WANTED_LINK).unlink(missing_ok=True)
        return Ran(0)

    def _start(self) -> Ran:
        if not self._load():
            return Ran(NOT_LOADED, f"Failed to start {UNIT}: Unit {UNIT} not found.")
        if self.active == "active":
            return Ran(0)
        if not self.pc.real(LAYOUT.python(LAYOUT.app)).exists():
            self.active = "failed"
            return Ran(1, "status=203/EXEC")
        self.active, self.starts, self.pid = "active", self.starts + 1, 100 + self.starts
        if not self._crashes():
            user = next(line[5:] for line in (self.loaded or "").splitlines() if line.startswith("User="))
            for file in (self.pc.real(LAYOUT.log), self.pc.real(LAYOUT.state) / "agent.db"):
                file.write_text("the agent was here")
                self.pc.owners[file.stat().st_ino] = user
        return Ran(0)

    def _stop(self) -> Ran:
        if not self._load():
            return Ran(NOT_LOADED, f"Failed to stop {UNIT}: Unit {UNIT} not loaded.")
        self.active, self.pid = "inactive", 0
        return Ran(0)

    def _reset_failed(self) -> Ran:
        if self.loaded is None and self.active != "failed":
            return Ran(1, f"Failed to reset failed state of unit {UNIT}: Unit {UNIT} not loaded.")
        self.active = "inactive" if self.active == "failed" else self.active
        return Ran(0)

    def _show(self) -> Ran:
        load = "loaded" if self._load() else "not-found"
        if self._crashes() and self.active == "active":
            self.pid += 1
        sub = {"active": "running", "inactive": "dead", "failed": "failed"}[self.active]
        return Ran(0, f"LoadState={load}\nActiveState={self.active}\nSubState={sub}\nMainPID={self.pid}\n")


@dataclass(slots=True)
class FakeUsers:
    """Users and groups by their names: the comment of each user, the members of each group."""

    users: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)

    def getent(self, call: Call) -> Ran:
        database, name = call.argv[1:]
        if database == "passwd" and name in self.users:
            return Ran(0, f"{name}:x:998:998:{self.users[name]}:/nonexistent:/usr/sbin/nologin\n")
        if database == "group" and name in self.groups:
            return Ran(0, f"{name}:x:998:{self.groups[name]}\n")
        return Ran(2)

    def useradd(self, call: Call) -> Ran:
        name, words = call.argv[-1], call.argv
        if name in self.users:
            return Ran(_USER_EXISTS, "user exists")
        if "--user-group" in words and name in self.groups:
            return Ran(_GROUP_EXISTS, "group exists")
        self.users[name] = words[words.index("--comment") + 1]
        self.groups.setdefault(name, "")
        return Ran(0)

    def userdel(self, call: Call) -> Ran:
        name = call.argv[-1]
        if name not in self.users:
            return Ran(_NO_SUCH_USER, "no such user")
        if name in self.busy:
            return Ran(_IN_USE, f"userdel: user {name} is currently used by process 4711")
        del self.users[name]
        return Ran(0)

    def groupdel(self, call: Call) -> Ran:
        return Ran(0) if self.groups.pop(call.argv[-1], None) is not None else Ran(6, "no such group")


@dataclass(slots=True)
class LinuxPc:
    """A PC that systemd runs."""

    pc: FakePc
    systemd: FakeSystemd
    users: FakeUsers

    def facts(self) -> tuple[dict[str, str], dict[str, str], dict[str, str], str, str | None]:
        """All that an installer may change, without the number of the process."""
        return self.pc.files(), self.users.users, self.users.groups, self.systemd.active, self.systemd.loaded


def linux_pc(root: Path) -> LinuxPc:
    """A PC on which nothing was installed."""
    for folder in (BOOTED, WANTED_LINK.parent, PurePosixPath("/var/log"), PurePosixPath("/opt")):
        (root / str(folder)[1:]).mkdir(parents=True)
    pc = FakePc(root, LAYOUT)
    systemd, users = FakeSystemd(pc), FakeUsers()
    pc.play("systemctl", systemd)
    pc.play("journalctl", lambda _call: Ran(0, "what it said on standard error"))
    for name in ("getent", "useradd", "userdel", "groupdel"):
        pc.play(name, getattr(users, name))
    return LinuxPc(pc, systemd, users)
