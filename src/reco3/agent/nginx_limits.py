"""Enforces rate limits by nginx: two files for it to include, tested before they are in place, then a reload.

It refuses to reload an nginx whose configuration does not pass its own test, and to call a limit set before the
workers that know it serve.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reco3.agent import platform
from reco3.agent.config import LimitDriver, NginxConfig
from reco3.agent.digests import sha256_hex
from reco3.agent.rate_limits import Change, RateLimitError, read_text, write
from reco3.agent.runner import Outcome, Run
from reco3.agent.waiting import Stopwatch, wait_for

MAX_DUMP_BYTES = 4 * 1024 * 1024
MAX_ERROR_CHARS = 300
ROOM_FOR_RESTORING_S = 10.0
REJECTED_STATUS = 429
BURSTS_PER_SECOND = 10
_TRIAL_FOLDER = ".reco3-trial"
_ENTRY_KEYS = {"endpoint", "limit_rps", "command_id", "set_at"}
_HEAD = "# Written by the RECO3 agent, which refuses to overwrite it once it was edited by hand. Belongs into"
_LIMIT_LINE = "# limit "
_DUMPED_FILE = re.compile(r"^# configuration file (.+):\r?$", re.MULTILINE)
_TRIAL = """\
error_log stderr;
pid {folder}/pid;
events {{}}
http {{
    include {folder}/http.conf;
    server {{
        listen 127.0.0.1:65535;
        include {folder}/server.conf;
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Worker:
    """A process of nginx that serves; one that is shutting down only ends what it has begun."""

    pid: int
    started: float
    is_leaving: bool


@dataclass(frozen=True, slots=True)
class NginxDriver:
    """The nginx of this PC; `path` is the file that it includes in `http {}`. All within `timeout_s`."""

    path: Path
    nginx: NginxConfig
    run: Callable[[Run], Outcome]
    timeout_s: float
    command_id: str = ""
    watch: Stopwatch = field(default_factory=Stopwatch)
    name: LimitDriver = LimitDriver.NGINX

    def parse(self, text: str | None) -> dict[str, Any]:
        """Read the limits out of the comments, and refuse a text that is not exactly what we would write."""
        if text is None or not text.strip():
            return {"limits": {}}
        try:
            limits = dict(_read_limit(line) for line in text.splitlines() if line.startswith(_LIMIT_LINE))
            is_ours = http_text(limits) == text
        except (ValueError, KeyError, TypeError, RecursionError):
            is_ours = False
        if not is_ours:
            raise RateLimitError(
                "rate_limit_unreadable", f"{self.path} was not written by this agent as it is; move it away or mend it"
            )
        return {"limits": limits}

    def render(self, content: dict[str, Any]) -> str:
        """Write the file for `http {}`."""
        return http_text(content["limits"])

    def rehearse(self, change: Change) -> None:
        """Have nginx test the new files by themselves, before they are where it would find them."""
        self._master()
        if self.path.exists() and self.nginx.server_path.exists():
            self._test_whole(self.timeout_s, "as it is now")
        limits = self.parse(change.after)["limits"]
        with _trial_folder(self.path.parent / _TRIAL_FOLDER) as folder:
            for name, text in (("http.conf", http_text(limits)), ("server.conf", server_text(limits))):
                write(folder / name, text)
            write(folder / "nginx.conf", _TRIAL.format(folder=folder.as_posix()))
            argv = (*self.nginx.argv, "-t", "-q", "-c", str(folder / "nginx.conf"))
            outcome = self._run(argv, self.timeout_s)
        if outcome.exit_code != 0:
            raise RateLimitError("rate_limit_rejected", _why("nginx refuses the new files", outcome))

    def apply(self, change: Change) -> None:
        """Put the files in place, test the whole configuration with them, reload, and wait for the new workers."""
        deadline_s = self.watch.now_s() + self.timeout_s
        limits = self.parse(change.after)["limits"]
        old = (change.before, read_text(self.nginx.server_path))
        old_workers = self._workers()
        has_reloaded = False
        try:
            self._place(http_text(limits), server_text(limits), is_growing=change.limit_rps is not None)
            self._test_whole(self.watch.remaining_s(deadline_s), "with the new files")
            has_reloaded = True
            self._reload(deadline_s)
            self._wait_for_workers(old_workers, deadline_s)
        except RateLimitError as error:
            self._restore(old, change, error, has_reloaded=has_reloaded)
            raise

    def is_loaded(self) -> bool:
        """Whether every worker that serves was born after the file was written, and so knows it."""
        try:
            written_at_ms = self.path.stat().st_mtime_ns // 1_000_000
            serving = [worker for worker in self._workers() if not worker.is_leaving]
        except (OSError, RateLimitError):
            return False
        return bool(serving) and all(platform.created_at_ms(one.started) >= written_at_ms for one in serving)

    def _place(self, for_http: str | None, for_server: str | None, *, is_growing: bool) -> None:
        """At no moment may the one refer to a zone that the other does not define: nginx could be restarted then."""
        both = [(self.path, for_http), (self.nginx.server_path, for_server)]
        for path, text in both if is_growing else reversed(both):
            write(path, text)

    def _test_whole(self, timeout_s: float, which: str) -> None:
        outcome = self._run((*self.nginx.argv, "-T"), timeout_s)
        if outcome.exit_code != 0:
            raise RateLimitError("rate_limit_rejected", _why(f"nginx refuses its configuration {which}", outcome))
        included = {Path(name).resolve() for name in _DUMPED_FILE.findall(outcome.output)}
        places = ((self.path, "http {}"), (self.nginx.server_path, "server {}"))
        for path, place in places:
            if path.resolve() not in included:
                raise RateLimitError(
                    "rate_limit_not_included", f"nginx does not read {path}: put `include {path};` into its {place}"
                )

    def _reload(self, deadline_s: float) -> None:
        outcome = self._run(self.nginx.reload_argv, self.watch.remaining_s(deadline_s))
        if outcome.exit_code != 0:
            raise RateLimitError("rate_limit_not_reloaded", _why("nginx was not reloaded", outcome))

    def _wait_for_workers(self, old: tuple[Worker, ...], deadline_s: float) -> None:
        known = {(worker.pid, worker.started) for worker in old}

        def look() -> bool | None:
            serving = [worker for worker in self._workers() if not worker.is_leaving]
            return True if serving and not any((one.pid, one.started) in known for one in serving) else None

        if wait_for(look, self.watch, deadline_s=deadline_s) is None:
            raise RateLimitError(
                "rate_limit_not_reloaded", "nginx was reloaded, but no new workers serve; see nginx's error log"
            )

    def _restore(
        self, old: tuple[str | None, str | None], change: Change, error: RateLimitError, *, has_reloaded: bool
    ) -> None:
        """Put the former files back. Raises: RateLimitError, when that fails too."""
        try:
            self._place(*old, is_growing=change.limit_rps is None)
            if has_reloaded:
                self._reload(self.watch.now_s() + ROOM_FOR_RESTORING_S)
        except RateLimitError as second:
            raise RateLimitError(
                error.code, f"{error}; and the former limits could not be restored: {second}", is_restored=False
            ) from second

    def _master(self) -> int:
        try:
            pid = int(self.nginx.pid_path.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise RateLimitError(
                "nginx_not_running", f"nginx does not run: {self.nginx.pid_path} cannot be read as its process number"
            ) from error
        if not platform.read_status(pid):
            raise RateLimitError("nginx_not_running", f"nginx does not run: there is no process {pid}")
        return pid

    def _workers(self) -> tuple[Worker, ...]:
        found = []
        for pid, started in platform.list_children(self._master()):
            title = " ".join(platform.read_command_line(pid))
            if "nginx" not in title or "worker process" in title:
                found.append(Worker(pid, started, is_leaving="is shutting down" in title))
        return tuple(found)

    def _run(self, argv: tuple[str, ...], timeout_s: float) -> Outcome:
        return self.run(Run(argv, timeout_s, MAX_DUMP_BYTES, command_id=self.command_id))


def http_text(limits: Mapping[str, Any]) -> str:
    """Write the part for `http {}`: for each endpoint a key that is the same for all clients, and its zone.

    A request counts when the path that it names, or the one that rewriting made of it, is the endpoint or below it.
    """
    lines = [f"{_HEAD} http {{}}."]
    for endpoint, entry in limits.items():
        zone, path = _zone(endpoint), endpoint.replace(".", r"\.")
        below = "" if endpoint.endswith("/") else "(?:/|$)"
        named_below = "" if endpoint.endswith("/") else "(?:[/?]|$)"
        lines += [
            _LIMIT_LINE + json.dumps({"endpoint": endpoint, **entry}),
            f'map $uri ${zone}_uri {{ default ""; "~^{path}{below}" "1"; }}',
            f'map $request_uri ${zone} {{ default ${zone}_uri; "~^{path}{named_below}" "1"; }}',
            f"limit_req_zone ${zone} zone={zone}:1m rate={entry['limit_rps']}r/s;",
        ]
    return "\n".join(lines) + "\n"


def server_text(limits: Mapping[str, Any]) -> str:
    """Write the part for `server {}`.

    A tenth of a second's worth may come at once: without that, nginx would count in whole milliseconds and refuse even
    what comes at the allowed rate, only not evenly.
    """
    lines = [f"{_HEAD} server {{}}."]
    if limits:
        lines.append(f"limit_req_status {REJECTED_STATUS};")
    for endpoint, entry in limits.items():
        burst = max(1, entry["limit_rps"] // BURSTS_PER_SECOND)
        lines.append(f"limit_req zone={_zone(endpoint)} burst={burst} nodelay;")
    return "\n".join(lines) + "\n"


def _zone(endpoint: str) -> str:
    """Name it after the endpoint: nginx keeps a zone over a reload, and refuses one whose key has changed."""
    return f"reco3_{sha256_hex(endpoint.encode())[:16]}"


def _read_limit(line: str) -> tuple[str, dict[str, Any]]:
    entry = json.loads(line.removeprefix(_LIMIT_LINE))
    if set(entry) != _ENTRY_KEYS or type(entry["limit_rps"]) is not int:
        raise ValueError("not an entry of ours")
    return entry.pop("endpoint"), entry


@contextmanager
def _trial_folder(folder: Path) -> Iterator[Path]:
    """A folder beside the real files, so that an nginx that only sees those sees it too."""
    import shutil  # noqa: PLC0415 - most agents never need it, and it costs them half a megabyte

    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise RateLimitError("rate_limit_unwritable", f"{folder} cannot be made: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _why(what: str, outcome: Outcome) -> str:
    if outcome.timed_out:
        return f"{what}: no answer in time"
    lines = [line for line in outcome.output.splitlines() if "[emerg]" in line] or outcome.output.splitlines()[-1:]
    return f"{what}: {' '.join(lines)[:MAX_ERROR_CHARS]}" if lines else f"{what}: exit code {outcome.exit_code}"
