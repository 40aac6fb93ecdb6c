"""A launchd for tests, as launchctl(1) and launchd.plist(5) describe it: what is loaded, running, leaving, disabled.

It refuses nothing that the real one takes, and takes nothing that the real one refuses: owners and rights of the
property list, a label that has not left yet, verbs that its version does not have. It was built from the
documentation and from what people report of macOS 10.9 to 26, and was never compared with a real launchd.
"""

import json
import plistlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fake_launchd_words import CALL_TEXTS, Answer, Job, Traits, description, failed, missing, wants_restart

OLD_VERBS = ("load", "unload", "start", "stop", "list", "remove", "bootstrap")


class FakeLaunchd:
    """Keeps its state in memory; `fake_launchctl` keeps it in a file between calls."""

    def __init__(self, root: Path, traits: Traits | None = None) -> None:
        self.root = root
        self.traits = traits or Traits()
        self.jobs: dict[str, Job] = {}
        self.disabled: dict[str, bool] = {}
        self.calls: list[list[str]] = []
        # The owners that a `chown` of a test without root's rights only recorded.
        self.owner_of: Callable[[Path], int] = lambda path: path.stat().st_uid
        # What happens to processes; these are played, those of `fake_launchctl` are real.
        self.start: Callable[[str, Job], int] = lambda _label, job: 1000 + job.runs
        # SIGTERM; the agent takes it as an order to stop, and ends with 0.
        self.stop: Callable[[str, Job], int] = lambda _label, _job: 0
        self.signal: Callable[[str, Job], None] = lambda _label, _job: None
        self.refresh: Callable[[str, Job], None] = lambda _label, _job: None

    def call(self, words: Sequence[str]) -> Answer:
        """Do what `launchctl WORDS` does; returns its exit code and what it prints."""
        self.calls.append(list(words))
        verb, rest = words[0], list(words[1:])
        if not self.traits.has_new_verbs and verb not in OLD_VERBS:
            return 1, f'launchctl: unknown subcommand "{verb}"'
        if (codes := self.traits.failing.get(verb)) and codes[1] > 0:
            codes[1] -= 1
            return failed(verb, codes[0])
        for label in list(self.jobs):
            self._look(label)
        method = getattr(self, f"_do_{verb}", None)
        if method is None:
            return 64, f"Unrecognized subcommand: {verb}"
        answer: Answer = method(rest)
        return answer

    def kill(self, label: str) -> None:
        """End the job as a crash would, with SIGKILL."""
        self.ended(label, exit_code=-9)

    def boot(self) -> None:
        """Start the Mac again: nothing is loaded but what lies in /Library/LaunchDaemons and is not disabled."""
        self.jobs.clear()
        for path in sorted((self.root / "Library/LaunchDaemons").glob("*.plist")):
            label = self._read(f"/Library/LaunchDaemons/{path.name}")["Label"]
            if not self.disabled.get(label):
                self._load(label, f"/Library/LaunchDaemons/{path.name}")

    def state(self) -> dict[str, Any]:
        """Everything as JSON knows it."""
        jobs = {label: asdict(job) for label, job in self.jobs.items()}
        return {"traits": asdict(self.traits), "jobs": jobs, "disabled": self.disabled, "calls": self.calls}

    def restore(self, state: dict[str, Any]) -> None:
        """Take `state` over."""
        self.traits = Traits(**state["traits"])
        self.jobs = {label: Job(**job) for label, job in state["jobs"].items()}
        self.disabled, self.calls = state["disabled"], state["calls"]

    # --- verbs of launchd 2 (10.10 and newer) ---

    def _do_print(self, rest: list[str]) -> Answer:
        label = rest[0].removeprefix("system/")
        if label in ("system", ""):
            return 0, "system = {\n}"
        job = self.jobs.get(label)
        return missing(label) if job is None else (0, description(label, job))

    def _do_bootstrap(self, rest: list[str]) -> Answer:
        if not self.traits.has_new_verbs:
            raise AssertionError("the bootstrap of launchd 1 starts the whole system: nobody may call it")
        if not self.traits.is_root:
            return failed("bootstrap", 1)
        domain, path = rest
        assert domain == "system", f"a daemon belongs to the system domain, not to {domain}"
        if code := self._fault(path):
            return failed("bootstrap", code)
        label = self._read(path)["Label"]
        if self.disabled.get(label):
            return failed("bootstrap", 119)
        if label in self.jobs:
            return failed("bootstrap", self.traits.taken_code)
        self._load(label, path)
        return 0, ""

    def _do_bootout(self, rest: list[str]) -> Answer:
        label = rest[0].removeprefix("system/")
        if not self.traits.is_root:
            return failed("bootout", 1)
        if label not in self.jobs:
            return failed("bootout", 3)
        return self._unload(label)

    def _do_enable(self, rest: list[str]) -> Answer:
        self.disabled[rest[0].removeprefix("system/")] = False
        return 0, ""

    def _do_disable(self, rest: list[str]) -> Answer:
        self.disabled[rest[0].removeprefix("system/")] = True
        return 0, ""

    def _do_kickstart(self, rest: list[str]) -> Answer:
        label = rest[-1].removeprefix("system/")
        job = self.jobs.get(label)
        if job is None:
            return missing(label)
        if "-k" in rest and job.pid:
            self.stop(label, job)
            job.pid = 0
        self._run(label, job)
        return 0, ""

    # --- verbs that every version has ---

    def _do_load(self, rest: list[str]) -> Answer:
        path = rest[-1]
        # The old ones say what went wrong, and exit with 0 all the same.
        if code := self._fault(path):
            return 0, f"{path}: {CALL_TEXTS[code]}"
        label = self._read(path)["Label"]
        if "-w" in rest:
            self.disabled[label] = False
        if label in self.jobs:
            return 0, f"{label}: Already loaded"
        if not self.disabled.get(label):
            self._load(label, path)
        return 0, ""

    def _do_unload(self, rest: list[str]) -> Answer:
        path = rest[-1]
        if self._fault(path) == 5:
            return 0, f'launchctl: Couldn\'t stat("{path}"): No such file or directory\nnothing found to unload'
        label = self._read(path)["Label"]
        if "-w" in rest:
            self.disabled[label] = True
        if label not in self.jobs:
            return 0, f"launchctl: Error unloading: {label}"
        self._unload(label)
        return 0, ""

    def _do_remove(self, rest: list[str]) -> Answer:
        if rest[0] not in self.jobs:
            return 3, "launchctl remove error: No such process"
        self._unload(rest[0])
        return 0, ""

    def _do_list(self, rest: list[str]) -> Answer:
        if rest:
            job = self.jobs.get(rest[0])
            if job is None:
                old = (1, "launchctl list returned unknown response")
                return missing(rest[0]) if self.traits.has_new_verbs else old
            pid = f'\t"PID" = {job.pid};\n' if job.pid else ""
            return 0, f'{{\n\t"Label" = "{rest[0]}";\n\t"LastExitStatus" = {job.exit_code or 0};\n{pid}}};'
        rows = [f"{job.pid or '-'}\t{job.exit_code or 0}\t{label}" for label, job in sorted(self.jobs.items())]
        return 0, "\n".join(["PID\tStatus\tLabel", "14\t0\tcom.apple.fseventsd", *rows])

    def _do_start(self, rest: list[str]) -> Answer:
        job = self.jobs.get(rest[0])
        if job is None:
            return 3, ""
        self._run(rest[0], job)
        return 0, ""

    def _do_stop(self, rest: list[str]) -> Answer:
        job = self.jobs.get(rest[0])
        if job is None:
            return 3, ""
        if job.pid:
            self.ended(rest[0], exit_code=self.stop(rest[0], job))
        return 0, ""

    # --- what launchd itself does ---

    def _read(self, path: str) -> dict[str, Any]:
        plist: dict[str, Any] = plistlib.loads((self.root / path.lstrip("/")).read_bytes())
        return plist

    def plist_of(self, label: str) -> dict[str, Any]:
        """The property list of a job that is loaded."""
        return self._read(self.jobs[label].plist)

    def _fault(self, path: str) -> int:
        """What is wrong with a property list, as a code; 0: nothing."""
        file = self.root / path.lstrip("/")
        if not file.is_file():
            return 5
        if file.is_symlink() or file.stat().st_mode & 0o022 or self.owner_of(file) != 0:
            return 122
        try:
            plist = self._read(path)
        except plistlib.InvalidFileException:
            return 109
        except Exception:  # noqa: BLE001 - the parser of XML has errors of its own
            return 109
        is_whole = isinstance(plist, dict) and plist.get("Label") and plist.get("ProgramArguments")
        return 0 if is_whole else 109

    def _load(self, label: str, path: str) -> None:
        job = self.jobs[label] = Job(path, loaded_at=len(self.calls))
        if self._starts_at_load(self._read(path)):
            self._run(label, job)

    @staticmethod
    def _starts_at_load(plist: dict[str, Any]) -> bool:
        keep = plist.get("KeepAlive", False)
        return bool(plist.get("RunAtLoad") or keep is True or (isinstance(keep, dict) and "SuccessfulExit" in keep))

    def _run(self, label: str, job: Job) -> None:
        if job.pid:
            return
        job.runs += 1
        job.pid = self.start(label, job)
        if self.traits.exits_with is not None:
            # It would start again and again, each time after ThrottleInterval: between two starts it does not run.
            job.pid, job.exit_code = 0, self.traits.exits_with

    def ended(self, label: str, exit_code: int) -> None:
        """Take note of the end of a job's process; KeepAlive says whether it starts again."""
        job = self.jobs[label]
        job.pid, job.exit_code = 0, exit_code
        if wants_restart(self._read(job.plist), exit_code):
            self._run(label, job)

    def _unload(self, label: str) -> Answer:
        job = self.jobs[label]
        if not job.pid:
            del self.jobs[label]
            return 0, ""
        if job.looks_left is None:
            self.signal(label, job)
            job.looks_left = self.traits.leaves_after_looks
        code = self.traits.leaving_code
        return (0, "") if code == 0 else failed("bootout", code)

    def _look(self, label: str) -> None:
        job = self.jobs[label]
        self.refresh(label, job)
        if job.looks_left is None:
            return
        if job.looks_left == 0:
            del self.jobs[label]
        else:
            job.looks_left -= 1


def words_said(calls: list[list[str]], *verbs: str) -> list[str]:
    """The calls as lines, without those that only look."""
    wanted = verbs or ("bootstrap", "bootout", "enable", "disable", "kickstart", "load", "unload", "start", "stop")
    return [" ".join(call) for call in calls if call[0] in wanted]


def load(path: Path, root: Path) -> FakeLaunchd:
    """The launchd whose state is in a file."""
    launchd = FakeLaunchd(root)
    if path.exists():
        launchd.restore(json.loads(path.read_text()))
    return launchd
