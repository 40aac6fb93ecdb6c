"""A PC below a scratch folder, for the tests of installers: real files, programs that are played, a clock of its own.

What a system has of its own (users, services) a test adds: `pc.play("systemctl", systemctl)`, where a player gets a
`Call` and gives a `Ran`. The application's programs are played as far as they need a network, and real otherwise.
"""

import contextlib
import io
import os
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from reco3.agent.agent import main as agent_main
from reco3.agent.config_texts import with_values
from reco3.installers.host import Host
from reco3.installers.layouts import Layout, Source
from reco3.installers.programs import NO_SUCH_PROGRAM, Call, Ran

Player = Callable[[Call], Ran]
REPOSITORY = Path(__file__).parents[3]
HEALTHY = '{"checks": [{"code": "config", "level": "ok", "found": "fine", "to_do": ""}]}'


def small_source(folder: Path) -> Source:
    """A source tree with a small package, and the real template."""
    source = Source(folder)
    (source.package / "agent").mkdir(parents=True)
    (source.package / "__init__.py").write_text('__version__ = "1"\n')
    source.template.parent.mkdir(parents=True)
    source.requirements.write_text("psutil==7 --hash=sha256:00\n")
    source.template.write_text(Source(REPOSITORY).template.read_text())
    return source


class Killed(BaseException):
    """What kill -9 does to an installer: nothing of it goes on, not even an undo."""


@dataclass(slots=True)
class FakeHost(Host):
    """A host that can die, or find the disk full, before its n-th change (1: the first)."""

    before_change: Callable[[], None] = lambda: None
    changes: int = 0
    dies_before: int | None = None
    fails_before: int | None = None

    def _would(self, change: str) -> bool:
        self.changes += 1
        self.before_change()
        if self.changes == self.dies_before:
            raise Killed(change)
        if self.changes == self.fails_before:
            raise OSError(28, "No space left on device")
        return Host._would(self, change)  # `super()` does not know the class that slots made.


@dataclass(slots=True)
class FakePc:
    """The PC. `calls` lists each program call as `shown` words, `stdins` what secrets went in, `said` what was told."""

    root: Path
    layout: Layout
    calls: list[str] = field(default_factory=list)
    stdins: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    owners: dict[int, str] = field(default_factory=dict)
    failing: dict[str, Ran] = field(default_factory=dict)
    used_tokens: set[str] = field(default_factory=set)
    doctor: Ran = field(default_factory=lambda: Ran(0, HEALTHY))
    now_s: float = 0.0
    players: dict[str, Player] = field(default_factory=dict)

    def host(
        self, *, is_dry: bool = False, dies_before: int | None = None, fails_before: int | None = None
    ) -> FakeHost:
        """The PC for one run of an installer."""
        return FakeHost(
            say=self.said.append,
            root=self.root,
            is_dry=is_dry,
            programs=self._run,
            owners=self._give,
            now_s=lambda: self.now_s,
            sleep=self._sleep,
            before_change=self.forget_removed,
            dies_before=dies_before,
            fails_before=fails_before,
        )

    def play(self, program: str, player: Player) -> None:
        """Let a program of the system, or any by its full name, be played."""
        self.players[program] = player

    def fail(self, words: str, *, exit_code: int = 1, output: str = "it went wrong") -> None:
        """Let every call that holds these words fail from now on."""
        self.failing[words] = Ran(exit_code, output)

    def called(self, *programs: str) -> list[str]:
        """The calls of these programs, in their order."""
        return [call for call in self.calls if call.split(" ")[0] in programs]

    def real(self, path: PurePath) -> Path:
        return Host(print, root=self.root).real(path)

    def files(self) -> dict[str, str]:
        """Every file, folder and link, with its kind, mode, owner and content."""
        listing = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            mode = stat.S_IMODE(path.lstat().st_mode)
            content = path.read_text(errors="replace") if path.is_file() else "/"
            listing[name] = f"{mode:04o} {self.owners.get(path.lstat().st_ino, 'root')} {content}"
        return listing

    def forget_removed(self) -> None:
        """A file that is gone takes its owner along: its number may be given to another one."""
        if self.owners:
            there = _file_numbers(str(self.root))
            self.owners = {number: owner for number, owner in self.owners.items() if number in there}

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def _give(self, path: Path, owner: str) -> None:
        assert os.path.lexists(path)
        for each in (path, *path.rglob("*")):
            self.owners[each.lstat().st_ino] = owner

    def _run(self, call: Call) -> Ran:
        words = " ".join(call.argv)
        self.calls.append(words)
        if call.stdin is not None:
            self.stdins.append(call.stdin)
        for part, ran in self.failing.items():
            if part in words:
                return ran
        if call.argv[0] == sys.executable:
            return self._system_python(call)
        player = self.players.get(call.argv[0])
        if player is not None:
            return player(call)
        apps = (self.layout.app, self.layout.new_app, self.layout.old_app)
        if call.argv[0] in {str(self.layout.python(app)) for app in apps}:
            return self._app_python(call)
        return Ran(NO_SUCH_PROGRAM, "no such program")

    def _system_python(self, call: Call) -> Ran:
        if call.argv[1:4] == ("-I", "-m", "venv"):
            python = Path(call.real_argv[4], *PurePath(self.layout.python_in_app).parts)
            python.parent.mkdir(parents=True)
            python.write_text("python")
            Path(call.real_argv[4], *PurePath(self.layout.packages_in_app).parts).mkdir(parents=True)
        return Ran(0)

    def _app_python(self, call: Call) -> Ran:
        python = Path(call.real_argv[0])
        if not python.exists():
            return Ran(NO_SUCH_PROGRAM, "no such program")
        words = list(call.real_argv[2:])
        app = python.parents[len(PurePath(self.layout.python_in_app).parts) - 1]
        packages = app.joinpath(*PurePath(self.layout.packages_in_app).parts)
        if "pip" in words:
            (packages / "psutil.py").write_text("psutil")
        if words[0] == "-c" and not ((packages / "psutil.py").exists() and (packages / "reco3").exists()):
            return Ran(1, "ModuleNotFoundError")
        if words[:2] == ["-m", "reco3.cli"]:
            return self._reco3(words[3:], call)
        return Ran(0)

    def _reco3(self, words: list[str], call: Call) -> Ran:
        if words[0] == "enrol":
            return self._enrol(words, (call.stdin or "").strip())
        if words[0] == "doctor":
            return self.doctor
        if words[0] == "trust":
            return self._trust(words)
        return _really(words)

    def _trust(self, words: list[str]) -> Ran:
        """Its new file has the owner of the one before."""
        config = Path(words[2])
        owner = self.owners.get(config.stat().st_ino, "root")
        ran = _really(words)
        self.owners[config.stat().st_ino] = owner
        return ran

    def _enrol(self, words: list[str], token: str) -> Ran:
        if not token or token in self.used_tokens:
            return Ran(1, "the server does not take this token")
        self.used_tokens.add(token)
        path = Path(words[1])
        name = words[words.index("--agent-id") + 1] if "--agent-id" in words else "pc-of-the-token"
        text = with_values(path.read_text(), {"api_key": "made-on-this-pc", "agent_id": name})
        path.write_text(text)
        return _really(["--check", str(path)])


def _file_numbers(folder: str) -> set[int]:
    numbers = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            numbers.add(entry.inode())
            if entry.is_dir(follow_symlinks=False):
                numbers |= _file_numbers(entry.path)
    return numbers


def _really(words: Sequence[str]) -> Ran:
    """Let the agent's own command line do it."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        exit_code = agent_main(list(words))
    return Ran(exit_code, output.getvalue())
