"""What is in the wheel and in the sdist, and what is not."""

import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from built import ROOT, Packages, build, clean_tree

NEVER = re.compile(r"node_modules|\.venv|__pycache__|\.pyc$|\.db(-wal|-shm)?$|secret_key|instance/|\.sqlite3?$|\.log$")
PAGE = "reco3/server/web"


def tracked(folder: str) -> set[str]:
    argv = ["git", "-C", str(ROOT), "ls-files", "-z", folder]
    return set(subprocess.run(argv, capture_output=True, check=True, text=True).stdout.split("\0")) - {""}


def test_the_wheel_is_the_package_and_the_configs_template(packages: Packages) -> None:
    names = {name for name in packages.wheel_names if ".dist-info/" not in name}

    expected = {name.removeprefix("src/") for name in tracked("src") if (ROOT / name).is_file()}
    assert names == expected | {"reco3/agent/config.example.yaml"}


@pytest.mark.parametrize(
    "name",
    [
        *(f"{PAGE}/static/{name}" for name in ("agent-ui.js", "agent-ui.css", "sw.js", "manifest.webmanifest")),
        *(f"{PAGE}/static/icons/reco3-{size}.png" for size in ("180", "192", "512", "maskable-512")),
        *(f"{PAGE}/static/vendor/{name}" for name in ("preact-htm-signals.js", "LICENSES.txt")),
        *(f"{PAGE}/templates/reco3.html", f"{PAGE}/static/ui/dashboard.js", "reco3/py.typed"),
        *("reco3/server/store/migrations/env.py", "reco3/server/store/migrations/versions/0001_first_tables.py"),
    ],
)
def test_the_wheel_holds_what_the_server_reads_at_its_start(packages: Packages, name: str) -> None:
    assert name in packages.wheel_names


def test_the_wheel_carries_the_licences_of_what_is_in_it(packages: Packages) -> None:
    licences = {name.partition(".dist-info/licenses/")[2] for name in packages.wheel_names}
    metadata = packages.metadata()

    assert {"LICENSE", "src/reco3/server/web/static/vendor/LICENSES.txt"} <= licences
    assert "License-Expression: MIT AND Apache-2.0" in metadata


def test_the_wheel_alone_asks_for_the_agents_libraries_and_the_rest_is_extra(packages: Packages) -> None:
    required = re.findall(r"^Requires-Dist: (.+)$", packages.metadata(), flags=re.MULTILINE)

    alone = sorted(line for line in required if "extra ==" not in line)
    assert [re.split(r"[<>=]", line, maxsplit=1)[0].casefold() for line in alone] == [
        "cryptography",
        "psutil",
        "pyyaml",
    ]
    assert any(line.startswith("sqlalchemy") and "extra == 'server'" in line for line in required)


def test_the_sdist_is_what_git_tracks(packages: Packages) -> None:
    with tarfile.open(packages.sdist) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}

    assert files - {"PKG-INFO"} == {name for name in tracked(".") if (ROOT / name).is_file()}


@pytest.mark.parametrize(
    "name",
    [
        *("Makefile", "pyproject.toml", "requirements/dev.lock", "requirements/server.lock", "scripts/check"),
        *("agent/common/config.example.yaml", "agent/common/reco_agent.py", "agent/common/requirements-agent.txt"),
        *("agent/linux/build_binary.sh", "packaging/reco3-agent.spec", "tests/conftest.py", "Dockerfile", "LICENSE"),
    ],
)
def test_the_sdist_holds_what_builds_tests_and_installs(packages: Packages, name: str) -> None:
    assert name in packages.sdist_names


def test_no_package_holds_what_lies_about_in_a_working_copy(tmp_path: Path) -> None:
    """The tree is littered first, so that it is the configuration that keeps it out, and not a tidy tree."""
    tree = clean_tree(tmp_path / "tree")
    litter = ["node_modules/x/index.js", ".venv/bin/python", "instance/reco3.db", "reco3.db", "secrets/api_key"]
    litter += ["src/reco3/__pycache__/cli.cpython-311.pyc", "dist/old.whl", "build/venv/x", "notes.txt"]
    for name in litter:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("litter", encoding="utf-8")

    built = build(tree, tmp_path / "out")

    assert built.sdist_names.isdisjoint(litter)
    assert [name for name in built.sdist_names | built.wheel_names if NEVER.search(name)] == []


def test_building_twice_gives_the_same_bytes(packages: Packages, tmp_path: Path) -> None:
    again = build(clean_tree(tmp_path / "elsewhere"), tmp_path / "out")

    assert again.wheel.read_bytes() == packages.wheel.read_bytes()
    assert again.sdist.read_bytes() == packages.sdist.read_bytes()


def test_a_changed_file_changes_the_bytes(packages: Packages, tmp_path: Path) -> None:
    """The negative control of the test above."""
    tree = clean_tree(tmp_path / "tree")
    with (tree / "LICENSE").open("a", encoding="utf-8") as file:
        file.write("\n")

    changed = build(tree, tmp_path / "out")

    assert changed.wheel.read_bytes() != packages.wheel.read_bytes()
    assert changed.sdist.read_bytes() != packages.sdist.read_bytes()


def test_what_the_container_copies_builds_the_same_wheel(packages: Packages, tmp_path: Path) -> None:
    tree, kept = clean_tree(tmp_path / "tree"), tmp_path / "kept"
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    for name in " ".join(copied).split():
        target = kept / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (tree / name).rename(target)

    in_the_container = build(kept, tmp_path / "out")

    assert in_the_container.wheel.read_bytes() == packages.wheel.read_bytes()


def test_the_sdist_builds_the_same_wheel(packages: Packages, tmp_path: Path) -> None:
    with tarfile.open(packages.sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")

    from_sdist = build(next((tmp_path / "unpacked").iterdir()), tmp_path / "out")

    assert from_sdist.wheel.read_bytes() == packages.wheel.read_bytes()
