"""A Mac below a scratch folder: launchd and the accounts are played, what is theirs is real files elsewhere."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fake_pc import REPOSITORY, FakePc, small_source

from fake_launchd import FakeLaunchd
from fake_launchd_words import Traits
from reco3.installers import macos
from reco3.installers.orders import InstallOrder, UninstallOrder
from reco3.installers.programs import Call, Ran
from reco3.installers.verbs import install, uninstall

ORDER = InstallOrder(base_url="http://127.0.0.1:5001", agent_id="pc-001", api_key="devkey")
PLIST = "Library/LaunchDaemons/com.reco3.agent.plist"


EndState = tuple[dict[str, str], dict[str, bool], list[str]]
AS_OTHER = replace(ORDER, user="_reco3agent")
EVERY_MACOS = {
    "26": Traits(),
    "12": Traits(taken_code=37),
    "10.15": Traits(taken_code=37, leaving_code=36, leaves_after_looks=6),
    "10.11": Traits(taken_code=17),
    "10.9": Traits(has_new_verbs=False),
}


class FakeMac:
    """The PC, its launchd, its directory of accounts, and the installers run on it."""

    def __init__(self, root: Path, traits: Traits | None = None) -> None:
        self.root = root / "mac"
        for folder in ("Library/LaunchDaemons", "var/log"):
            (self.root / folder).mkdir(parents=True)
        self.source = small_source(root / "source")
        (self.source.root / "agent/macos").mkdir()
        shutil.copy(REPOSITORY / macos.PLIST_SOURCE, self.source.root / macos.PLIST_SOURCE)
        self.pc = FakePc(self.root, macos.LAYOUT)
        self.launchd = FakeLaunchd(self.root, traits)
        self.launchd.owner_of = self._owner_id
        self.accounts: dict[str, dict[str, str]] = {"/Users/root": {"UniqueID": "0"}, "/Users/ada": {"UniqueID": "501"}}
        self.groups_of: dict[str, str] = {}
        self.last_host = self.pc.host()
        self.pc.play("launchctl", self._launchctl)
        self.pc.play("dscl", self._dscl)
        self.pc.play("chgrp", self._chgrp)

    def install(self, order: InstallOrder = ORDER, **death: int) -> int:
        """Install; returns the exit code."""
        self.last_host = self.pc.host(is_dry=order.is_dry, **death)
        return install(macos, order, self.source, self.last_host)

    def uninstall(self, order: UninstallOrder | None = None, **death: int) -> int:
        """Uninstall; returns the exit code."""
        order = order or UninstallOrder()
        self.last_host = self.pc.host(is_dry=order.is_dry, **death)
        return uninstall(macos, order, self.last_host)

    def end_state(self) -> EndState:
        """All that a later run could tell: files with owners and modes, what is loaded and runs, accounts."""
        loaded = {label: bool(job.pid) and job.looks_left is None for label, job in self.launchd.jobs.items()}
        return self.pc.files(), loaded, sorted(self.accounts)

    def said(self) -> str:
        """All that was said."""
        return "\n".join(self.pc.said)

    def _owner_id(self, path: Path) -> int:
        # Nobody but an explicit owner counts: a property list that was not given to root is refused.
        return 0 if self.pc.owners.get(path.lstat().st_ino) == "root" else 501

    def _launchctl(self, call: Call) -> Ran:
        return Ran(*self.launchd.call(call.argv[1:]))

    def _chgrp(self, call: Call) -> Ran:
        assert call.argv[1:3] == ("-R", "admin"), call
        assert Path(call.real_argv[3]).is_dir(), call
        self.groups_of[call.argv[3]] = "admin"
        return Ran(0)

    def _dscl(self, call: Call) -> Ran:
        """As dscl(1) does on the local node: records with keys."""
        place, verb, record, *rest = call.argv[1:]
        assert place == ".", call
        known = self.accounts.get(record)
        if verb == "-list":
            rows = [(name, keys.get(rest[0])) for name, keys in self.accounts.items() if name.startswith(f"{record}/")]
            return Ran(0, "\n".join(f"{name.rpartition('/')[2]:30} {value}" for name, value in rows if value))
        if verb == "-create":
            self.accounts.setdefault(record, {})[rest[0]] = rest[1]
            return Ran(0)
        if known is None:
            return Ran(56, "<dscl_cmd> DS Error: -14136 (eDSRecordNotFound)")
        if verb == "-delete":
            del self.accounts[record]
            return Ran(0)
        assert verb == "-read", call
        if rest[0] == "RecordName":
            return Ran(0, f"RecordName: {record.rpartition('/')[2]}")
        return Ran(0, f"{rest[0]}: {known[rest[0]]}" if rest[0] in known else f"No such key: {rest[0]}")


def changes_of(tmp_path: Path, run: Callable[..., int]) -> int:
    """How many changes such a run makes; each is a place where it can be cut short."""
    mac = FakeMac(tmp_path / "count")
    assert run(mac) == 0, mac.said()
    total = mac.last_host.changes
    assert total > 5
    return total


def without_empty_opt(state: EndState, mac: FakeMac) -> EndState:
    """The state with the folder `/opt`, which the installer made and leaves, as a Mac has it anyway."""
    files = dict(state[0])
    if (mac.root / "opt").is_dir():
        files["opt"] = mac.pc.files()["opt"]
    return files, state[1], state[2]
