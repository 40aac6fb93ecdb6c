"""Installs the tools that RECO3 is measured beside, from the distribution and from PyPI, and starts them on loopback.

Python tools live in throw-away environments under `.bench/`. What cannot be installed is a `PeerMissing` with its
reason, never a made-up figure. Every peer runs as it is delivered but for ports, paths and what `TUNED` names.
"""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from processes import BIN, ROOT, answers, free_port, listens, shown, started, wait_until

INSTALL_LIMIT_S = 420.0
DEBIAN_PEERS = ("prometheus-node-exporter", "prometheus-pushgateway", "zabbix-agent2")
SALT_REQUIREMENT = "salt>=3008,<3009"
GLANCES_REQUIREMENT = "glances[web]>=4.5,<5"
SALT_TUNED = "multiprocessing: False"
_BINARY_FOLDERS = ("/usr/bin", "/usr/sbin")
_VERSION = re.compile(r"\d+(?:\.\d+)+")


class PeerMissing(Exception):
    """A peer cannot be measured here; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Running:
    """A peer that runs: its root process, where it answers, and the commands that a reader can repeat."""

    pid: int
    port: int
    commands: tuple[str, ...]
    folder: Path


def binary_of(name: str) -> Path:
    """Return where a distribution's program lies.

    Raises:
        PeerMissing: it is not installed.
    """
    for folder in _BINARY_FOLDERS:
        if (path := Path(folder) / name).exists():
            return path
    raise PeerMissing(f"{name} is not installed")


def install_debian(packages: Sequence[str]) -> tuple[str, ...]:
    """Install what is missing from the distribution; returns the reasons of those that could not be."""
    missing = [name for name in packages if not _is_installed(name)]
    if not missing:
        return ()
    if shutil.which("apt-get") is None:
        return tuple(f"{name}: no apt-get here" for name in missing)
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    _quietly([*as_root, "apt-get", "update", "-qq"])
    reasons = []
    for name in missing:
        error = _quietly([*as_root, "env", *_NO_SERVICES, "apt-get", "install", "-y", "-qq", name])
        if error:
            reasons.append(f"{name}: {error}")
    return tuple(reasons)


# Debian starts a service with its package; where an init system runs, systemd's own switch keeps it from doing so.
_NO_SERVICES = ("DEBIAN_FRONTEND=noninteractive", "SYSTEMD_OFFLINE=1", "RUNLEVEL=1")


def install_pypi(bench_folder: Path, name: str, requirement: str) -> Path:
    """Make the throw-away environment of a Python peer, once; returns its `bin` folder.

    Raises:
        PeerMissing: pip could not install it.
    """
    folder = bench_folder / name
    ready = folder / ".ready"
    if ready.exists() and ready.read_text() == requirement:
        return folder / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", "--compile", requirement]
    error = _quietly([sys.executable, "-m", "venv", "--copies", str(folder)]) or _quietly(pip)
    if error:
        raise PeerMissing(f"pip install {requirement!r} failed: {error}")
    ready.write_text(requirement)
    return folder / "bin"


def own_interpreter(bench_folder: Path, name: str) -> Path:
    """Make an interpreter with our packages for one program alone, so that it shares no pages with any other."""
    path = bench_folder / f"{name}-python"
    environment = own_library(bench_folder / f"{name}-lib")
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    path.write_text(f'#!/bin/sh\nexec env {words} {shlex.quote(str(BIN / "python"))} "$@"\n')
    path.chmod(0o755)
    return path


def own_library(folder: Path) -> dict[str, str]:
    """Copy the interpreter's shared library, if it has one; returns the environment that makes a program use it."""
    name, place = sysconfig.get_config_var("INSTSONAME") or "", sysconfig.get_config_var("LIBDIR") or ""
    library = Path(place) / name
    if not sysconfig.get_config_var("Py_ENABLE_SHARED") or not library.is_file():
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(library, folder / name)
    return {"LD_PRELOAD": str(folder / name)}


def version_of(argv: Sequence[str]) -> str:
    """Return the first version number that a program prints about itself."""
    try:
        done = subprocess.run(list(argv), capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = _VERSION.search(done.stdout + done.stderr)
    return found.group() if found else "unknown"


def peer_versions(bench_folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the versions of all peers that are there."""
    found = []
    for name, program in zip(
        DEBIAN_PEERS, ("prometheus-node-exporter", "prometheus-pushgateway", "zabbix_agent2"), strict=True
    ):
        with contextlib.suppress(PeerMissing):
            found.append((name, version_of([str(binary_of(program)), "--version"])))
    for name, program in (("salt", "salt-master"), ("glances", "glances")):
        path = bench_folder / name / "bin" / program
        if path.exists():
            found.append((name, version_of([str(path), "--version"])))
    return tuple(found)


@contextlib.contextmanager
def pushgateway(folder: Path, *, is_checked: bool) -> Iterator[Running]:
    """Run a pushgateway that reads and leaves its groups in a file; without its check it skips its costliest work.

    It may use every core: unlike our server it is not pinned.
    """
    port = free_port()
    argv = [str(binary_of("prometheus-pushgateway")), f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    argv += [f"--persistence.file={folder}/pushgateway.data", "--persistence.interval=1h"]
    argv += [] if is_checked else ["--push.disable-consistency-check"]
    with started(argv, folder / "pushgateway.log") as process:
        wait_until(answers(f"http://127.0.0.1:{port}/-/ready"), process, "pushgateway")
        yield Running(process.pid, port, (shown(argv),), folder)


@contextlib.contextmanager
def zabbix_agent2(folder: Path) -> Iterator[Running]:
    """Run zabbix-agent2 for passive checks from loopback."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "zabbix_agent2.conf"
    lines = [f"ListenPort={port}", "ListenIP=127.0.0.1", "Server=127.0.0.1", "LogType=console", "Hostname=pc-001"]
    lines += [f"ControlSocket={folder}/agent.sock", f"PidFile={folder}/agent.pid"]
    config.write_text("\n".join(lines) + "\n")
    argv = [str(binary_of("zabbix_agent2")), "-f", "-c", str(config)]
    with started(argv, folder / "zabbix_agent2.log") as process:
        wait_until(listens(port), process, "zabbix-agent2")
        yield Running(process.pid, port, (*_file_text(config, lines), shown(argv)), folder)


@contextlib.contextmanager
def glances_web(bench_folder: Path, folder: Path) -> Iterator[Running]:
    """Run glances' web server; it samples when it is asked, at most every ten seconds."""
    binaries = install_pypi(bench_folder, "glances", GLANCES_REQUIREMENT)
    port = free_port()
    argv = [str(binaries / "glances"), "-w", "-B", "127.0.0.1", "-p", str(port), "-t", "10", "--disable-check-update"]
    environment = own_library(bench_folder / "glances/own-lib")
    with started(argv, folder / "glances.log", environment=environment) as process:
        wait_until(answers(f"http://127.0.0.1:{port}/api/4/status"), process, "glances")
        yield Running(process.pid, port, (shown(argv),), folder)


@dataclass(frozen=True, slots=True)
class SaltPair:
    """A salt master with one minion on loopback."""

    master_pid: int
    minion_pid: int
    python: Path
    master_config: Path
    commands: tuple[str, ...]


@contextlib.contextmanager
def salt_pair(bench_folder: Path, folder: Path, *, tuned: bool = False) -> Iterator[SaltPair]:
    """Run one salt master and one minion, all defaults but ports and paths; `tuned` lets the minion use threads.

    Raises:
        PeerMissing: salt cannot be installed here.
    """
    binaries = install_pypi(bench_folder, "salt", SALT_REQUIREMENT)
    publish_port, return_port = free_port(), free_port()
    master_lines = ["interface: 127.0.0.1", f"publish_port: {publish_port}", f"ret_port: {return_port}"]
    master_lines += ["auto_accept: True", "user: root", *_salt_paths(folder / "master")]
    minion_lines = ["master: 127.0.0.1", f"publish_port: {publish_port}", f"master_port: {return_port}"]
    minion_lines += ["id: pc-001", "user: root", *([SALT_TUNED] if tuned else []), *_salt_paths(folder / "minion")]
    configs = {}
    for name, lines in (("master", master_lines), ("minion", minion_lines)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        configs[name] = folder / name / name
        configs[name].write_text("\n".join(lines) + "\n")
    argvs = {name: [str(binaries / f"salt-{name}"), "-c", str(folder / name)] for name in configs}
    commands = [shown([str(binaries / "pip"), "install", SALT_REQUIREMENT])]
    for name, lines in (("master", master_lines), ("minion", minion_lines)):
        commands += [*_file_text(configs[name], lines), shown(argvs[name])]
    libraries = {name: own_library(bench_folder / f"salt/own-lib-{name}") for name in configs}
    with contextlib.ExitStack() as running:
        master = running.enter_context(started(argvs["master"], folder / "master.log", environment=libraries["master"]))
        wait_until(listens(return_port), master, "salt-master")
        minion = running.enter_context(started(argvs["minion"], folder / "minion.log", environment=libraries["minion"]))
        python = binaries / "python"
        yield SaltPair(master.pid, minion.pid, python, configs["master"], tuple(commands))


def _salt_paths(folder: Path) -> list[str]:
    # Salt's sockets lie below root_dir, and the name of a socket may have 107 characters: /tmp is short.
    names = {"root_dir": "", "pki_dir": "/pki", "cachedir": "/cache", "log_file": "/log", "pidfile": "/pid"}
    return [f"{name}: {folder}{path}" for name, path in names.items()] + [f"sock_dir: {folder}/run"]


def _file_text(path: Path, lines: Sequence[str]) -> tuple[str, ...]:
    place = shown([str(path)])
    texts = [line.replace(str(ROOT), "$PWD") for line in lines]
    return (f"mkdir -p {Path(place).parent}", f"cat > {place} <<END", *texts, "END")


def _is_installed(package: str) -> bool:
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", package], capture_output=True, text=True, check=False)  # noqa: S607 - dpkg of this system
    return done.stdout.endswith("install ok installed")


def _quietly(argv: Sequence[str]) -> str:
    """Run an installer; returns "" or the last thing it said."""
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        done = subprocess.run(
            list(argv), env=environment, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        return f"{type(err).__name__}: {err}"
    if done.returncode == 0:
        return ""
    said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return said[-1][:300] if said else f"exit code {done.returncode}"
