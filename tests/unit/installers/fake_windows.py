"""sc.exe, icacls.exe and reg.exe as their documentation says they behave, with what they remember; a PC that has them.

Source: the pages of sc.exe's verbs, icacls and reg at learn.microsoft.com/windows-server/administration; exit codes of
sc.exe are the system's error numbers. No Windows was at hand.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from fake_pc import FakeHost, FakePc, small_source

from reco3.installers.layouts import Layout, Source
from reco3.installers.programs import NO_SUCH_PROGRAM, Call, Ran
from reco3.installers.windows import SCRIPT, layout_below
from windows_words import words_of

SYSTEM32 = "C:\\Windows\\System32\\"
SC, ICACLS, REG = (f"{SYSTEM32}{name}.exe" for name in ("sc", "icacls", "reg"))
HOME = PureWindowsPath(r"C:\Program Files\R&D 'tools' (x86)\agent")
PYTHON = PureWindowsPath(r"C:\Program Files\Python 3.13\python.exe")
SYSTEM, ADMINISTRATORS, USERS = "S-1-5-18", "S-1-5-32-544", "S-1-5-32-545"
SERVICES = r"HKLM\SYSTEM\CurrentControlSet\Services"
NUMBERS = {"STOPPED": 1, "START_PENDING": 2, "STOP_PENDING": 3, "RUNNING": 4}
EVENT_SOURCE = rf"{SERVICES}\EventLog\Application\RECO3Agent"
_VERBS = ("queryex", "create", "config", "description", "failure", "failureflag", "start", "stop", "delete")
_CONFIG_WORDS = {"type=", "start=", "error=", "binPath=", "obj=", "DisplayName=", "reset=", "actions="}


@dataclass(slots=True)
class Service:
    """One service; it takes `looks` questions about it until a pending state is over."""

    settings: dict[str, str]
    state: str = "STOPPED"
    pid: int = 0
    looks: int = 0
    is_marked: bool = False


@dataclass(slots=True)
class ServiceManager:
    """The services of the PC; `windows_open` hold a service that is to be deleted."""

    find_file: Callable[[str], bool]
    services: dict[str, Service] = field(default_factory=dict)
    registry: set[str] = field(default_factory=set)
    pends_for: int = 2
    windows_open: int = 0
    runs_for_looks: int | None = None
    ignores_stop: bool = False
    is_administrator: bool = True
    next_pid: int = 1000

    def sc(self, call: Call) -> Ran:
        verb, *words = call.argv[1:]
        assert verb in _VERBS, verb
        if not self.is_administrator and verb != "queryex":
            return Ran(5, "[SC] OpenSCManager FAILED 5:\r\n\r\nAccess is denied.\r\n")
        name, *words = words
        service = self.services.get(name)
        if verb == "create":
            return self._create(name, words)
        if service is None:
            return _failed(verb, 1060, "The specified service does not exist as an installed service.")
        if service.is_marked and verb not in {"queryex", "stop"}:
            return _failed(verb, 1072, "The specified service has been marked for deletion.")
        return getattr(self, f"_{verb}")(name, service, words)  # type: ignore[no-any-return]

    def reg(self, call: Call) -> Ran:
        verb, key, *options = call.argv[1:]
        if verb == "delete":
            assert options == ["/f"]
            there = key in self.registry
            self.registry.discard(key)
            return Ran(0) if there else Ran(1, "ERROR: The system was unable to find the specified registry key.")
        assert verb == "query"
        if not options:
            return Ran(0) if key in self.registry else Ran(1, "ERROR: The system was unable to find the key.")
        service = self.services.get(key.rpartition("\\")[2])
        if service is None or options != ["/v", "ImagePath"]:
            return Ran(1, "ERROR: The system was unable to find the specified registry key or value.")
        return Ran(0, f"\r\n{key}\r\n    ImagePath    REG_EXPAND_SZ    {service.settings['binPath']}\r\n\r\n")

    def _create(self, name: str, words: list[str]) -> Ran:
        service = self.services.get(name)
        if service is not None:
            return _failed("create", 1072 if service.is_marked else 1073, "The specified service already exists.")
        settings = _settings(words)
        if settings is None or "binPath" not in settings:
            return Ran(1639, "DESCRIPTION: Creates a service entry in the registry")
        self.services[name] = Service(settings)
        return Ran(0, "[SC] CreateService SUCCESS\r\n")

    def _config(self, _name: str, service: Service, words: list[str]) -> Ran:
        settings = _settings(words)
        if settings is None:
            return Ran(1639, "DESCRIPTION: Modifies a service entry in the registry")
        service.settings |= settings
        return Ran(0, "[SC] ChangeServiceConfig SUCCESS\r\n")

    def _description(self, _name: str, service: Service, words: list[str]) -> Ran:
        (service.settings["description"],) = words
        return Ran(0)

    def _failure(self, _name: str, service: Service, words: list[str]) -> Ran:
        settings = _settings(words)
        if settings is None or settings.keys() != {"reset", "actions"}:
            return Ran(1639, "DESCRIPTION: Changes the actions upon failure")
        actions = settings["actions"].split("/")
        assert set(actions[::2]) <= {"restart", "run", "reboot", ""}
        assert all(milliseconds.isdecimal() for milliseconds in (*actions[1::2], settings["reset"]))
        service.settings |= settings
        return Ran(0)

    def _failureflag(self, _name: str, service: Service, words: list[str]) -> Ran:
        (service.settings["failureflag"],) = words
        assert service.settings["failureflag"] in {"0", "1"}
        return Ran(0)

    def _start(self, name: str, service: Service, _words: list[str]) -> Ran:
        if service.state != "STOPPED":
            return _failed("start", 1056, "An instance of the service is already running.")
        python, *options, script, config = words_of(service.settings["binPath"])
        assert (python, options) == (str(PYTHON), ["-I", "-S"])
        if not (self.find_file(script) and self.find_file(config)):
            return _failed("start", 1053, "The service did not respond to the start or control request in time.")
        service.state, service.looks = "START_PENDING", self.pends_for
        self.next_pid += 1
        service.pid = self.next_pid
        # The service tells the event log where its texts are, as soon as it has something to say.
        self.registry.add(EVENT_SOURCE)
        return Ran(0, f"\r\nSERVICE_NAME: {name}\r\n        STATE              : 2  START_PENDING \r\n")

    def _stop(self, name: str, service: Service, _words: list[str]) -> Ran:
        if service.state == "STOPPED":
            return _failed("stop", 1062, "The service has not been started.")
        if service.state != "RUNNING":
            return _failed("stop", 1061, "The service cannot accept control messages at this time.")
        service.state, service.looks = "STOP_PENDING", self.pends_for
        return Ran(0, f"\r\nSERVICE_NAME: {name}\r\n        STATE              : 3  STOP_PENDING \r\n")

    def _delete(self, name: str, service: Service, _words: list[str]) -> Ran:
        service.is_marked = True
        self._forget_if_free(name, service)
        return Ran(0, "[SC] DeleteService SUCCESS\r\n")

    def _queryex(self, name: str, service: Service, _words: list[str]) -> Ran:
        self._let_time_pass(service)
        self._forget_if_free(name, service)
        if name not in self.services:
            return self.sc(Call((SC, "queryex", name), ()))
        lines = [
            f"SERVICE_NAME: {name} ",
            "        TYPE               : 10  WIN32_OWN_PROCESS  ",
            f"        STATUS             : {NUMBERS[service.state]}  {service.state} ",
            "        WIN32_EXIT_CODE    : 0  (0x0)",
            f"        PID                : {service.pid}",
            "        FLAGS              : ",
        ]
        return Ran(0, "\r\n" + "\r\n".join(lines) + "\r\n")

    def _let_time_pass(self, service: Service) -> None:
        if service.looks > 0:
            service.looks -= 1
        elif service.state == "START_PENDING":
            service.state, service.looks = "RUNNING", self.runs_for_looks or 0
        elif self._ends_now(service.state):
            service.state, service.pid = "STOPPED", 0

    def _ends_now(self, state: str) -> bool:
        return (state == "RUNNING" and self.runs_for_looks is not None) or (
            state == "STOP_PENDING" and not self.ignores_stop
        )

    def _forget_if_free(self, name: str, service: Service) -> None:
        if service.is_marked and service.state == "STOPPED":
            if self.windows_open:
                self.windows_open -= 1
            else:
                del self.services[name]


def _settings(words: list[str]) -> dict[str, str] | None:
    """Pairs of `name=` and a value, each a word of its own, as sc.exe insists."""
    if len(words) % 2 or not set(words[::2]) <= _CONFIG_WORDS:
        return None
    return {name.removesuffix("="): value for name, value in zip(words[::2], words[1::2], strict=True)}


def _failed(verb: str, number: int, text: str) -> Ran:
    return Ran(number, f"[SC] {verb} FAILED {number}:\r\n\r\n{text}\r\n")


@dataclass(slots=True)
class AccessLists:
    """Who may do what with which file; a list goes along when its file is renamed, as on NTFS."""

    root: Path
    lists: dict[int, dict[str, str]] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)

    def icacls(self, call: Call) -> Ran:
        path, words = Path(call.real_argv[1]), list(call.argv[2:])
        if not path.exists():
            return Ran(2, f"{call.argv[1]}: The system cannot find the file specified.")
        assert words.pop() == "/q"
        if words[0] == "/setowner":
            self.owners[path.stat().st_ino] = words[1].removeprefix("*")
            return Ran(0)
        assert words[:2] == ["/inheritance:r", "/grant:r"]
        granted = dict(word.removeprefix("*").split(":", 1) for word in words[2:])
        is_inheritable = all(right.startswith("(OI)(CI)") for right in granted.values())
        if is_inheritable != path.is_dir():
            return Ran(87, "Invalid parameter: inheritance is for folders")
        self.lists[path.stat().st_ino] = granted
        return Ran(0)

    def who_may_read(self, path: Path) -> set[str]:
        """By the file's own list, or that of the nearest folder with one; everybody where nothing was closed."""
        while path != self.root:
            if path.stat().st_ino in self.lists:
                return set(self.lists[path.stat().st_ino])
            path = path.parent
        return {SYSTEM, ADMINISTRATORS, USERS}

    def forget_all_but(self, there: set[int]) -> None:
        """A number may be given to another file once its file is gone."""
        for known in (self.lists, self.owners):
            for number in known.keys() - there:
                del known[number]


class FakeWindows:
    """A PC with Windows: its files, services, registry and access lists."""

    def __init__(self, folder: Path, *, home: PureWindowsPath = HOME) -> None:
        self.layout: Layout = layout_below(home)
        self.source: Source = small_source(folder / "source")
        windows = self.source.root / "agent" / "windows"
        windows.mkdir(parents=True)
        (windows / SCRIPT).write_text("service\n")
        (windows / "requirements-windows.txt").write_text("pywin32==1 --hash=sha256:00\n")
        self.pc = FakePc(folder / "pc", self.layout)
        self.pc.real(home).mkdir(parents=True)
        (self.pc.real(home) / "README").write_text("what was unpacked here\n")
        self.access = AccessLists(self.pc.root)
        self.manager = ServiceManager(lambda path: self.pc.real(PureWindowsPath(path)).is_file())
        self.pc.play(SC, self.manager.sc)
        self.pc.play(REG, self.manager.reg)
        self.pc.play(ICACLS, self.access.icacls)
        self.pc.play(str(PYTHON), self._python)
        for app in (self.layout.app, self.layout.new_app):
            self.pc.play(str(self.layout.python(app)), self._app_python)
        self.leaks: list[str] = []
        self.secret = "the-key-of-this-pc"

    def host(self, **how: int | bool | None) -> FakeHost:
        host = self.pc.host(**how)  # type: ignore[arg-type]
        host.before_change = self.look
        return host

    def look(self) -> None:
        """Before every change: may anybody read a key who should not?"""
        there = set()
        for folder, names, files in os.walk(self.pc.root):
            there |= {Path(folder, name).stat().st_ino for name in (*names, *files)}
            for path in (Path(folder, name) for name in files):
                if self.secret.encode() in path.read_bytes():
                    others = self.access.who_may_read(path) - {SYSTEM, ADMINISTRATORS}
                    self.leaks += [f"{path.name}: {who}" for who in others]
        self.access.forget_all_but(there)

    def state(self) -> dict[str, object]:
        """Everything that an installation leaves on the PC, but for process numbers."""
        services = {name: (dict(each.settings), each.state) for name, each in self.manager.services.items()}
        files = self.pc.files()
        closed = {name: sorted(self.access.who_may_read(self.pc.root / name)) for name in files}
        return {"files": files, "services": services, "registry": set(self.manager.registry), "closed": closed}

    def calls(self) -> list[str]:
        """The calls since the last time, without what differs from one run of the tests to the next.

        What is asked again and again is told once.
        """
        told = [self._plain(call) for call in self.pc.calls]
        self.pc.calls.clear()
        return [call for call, before in zip(told, ["", *told], strict=False) if call != before]

    def _plain(self, call: str) -> str:
        plain = call.replace(str(self.source.root), "SOURCE").replace(sys.executable, "PYTHON")
        return plain.replace(str(PYTHON), "PYTHON").replace(str(self.layout.home), "AGENT").replace(SYSTEM32, "")

    def _app_python(self, call: Call) -> Ran:
        # `reco3 agent trust` replaces the config by ReplaceFileW, which keeps the old file's list and owner.
        config = self.pc.real(self.layout.config)
        before = config.stat().st_ino if config.exists() else None
        ran = self.pc._app_python(call)
        if before is not None and config.stat().st_ino != before:
            for known in (self.access.lists, self.access.owners):
                known[config.stat().st_ino] = known[before]  # type: ignore[assignment]
        return ran

    def _python(self, call: Call) -> Ran:
        assert call.argv[1:3] == ("-I", "-S")
        assert call.argv[4] == "--check"
        is_there = Path(call.real_argv[3]).is_file()
        packages = Path(call.real_argv[3]).parent / "Lib" / "site-packages" / "psutil.py"
        return Ran(0) if is_there and packages.is_file() else Ran(NO_SUCH_PROGRAM, "can't open file")
