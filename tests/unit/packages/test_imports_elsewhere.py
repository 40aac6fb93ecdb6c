"""What CI runs on Windows can be imported there: nothing that only POSIX systems have is imported while collecting."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "tests"
POSIX_ONLY = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
NOT_RUN_THERE = {"bench", "swarm"}
COLLECTED = sorted(
    path for path in (TESTS / "unit").rglob("*.py") if path.relative_to(TESTS / "unit").parts[0] not in NOT_RUN_THERE
)


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """The modules that importing a file imports: not those inside functions or behind a condition."""
    return tuple(_imports_of(ast.parse(path.read_text(encoding="utf-8"))))


def _imports_of(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        if isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


@functools.cache
def file_of(module: str, beside: Path) -> Path | None:
    """Where one of our own modules is: in the package, among the tests, or beside the one that imports it."""
    name = module.replace(".", "/")
    places = [base / f"{name}{end}" for base in (ROOT / "src", TESTS, beside) for end in (".py", "/__init__.py")]
    return next((place for place in places if place.is_file()), None)


def posix_imports(start: Path) -> list[str]:
    """Every import of a POSIX module that importing this file leads to."""
    found, seen, waiting = [], {start}, [start]
    while waiting:
        path = waiting.pop()
        for module in imported(path):
            if module in POSIX_ONLY:
                found.append(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}: {module}")
            ours = file_of(module, path.parent)
            if ours is not None and ours not in seen:
                seen.add(ours)
                waiting.append(ours)
    return found


@pytest.mark.parametrize("path", [TESTS / "conftest.py", *COLLECTED], ids=lambda path: str(path.relative_to(TESTS)))
def test_a_test_can_be_collected_on_windows(path: Path) -> None:
    assert posix_imports(path) == []


@pytest.mark.parametrize("name", ["cli.py", "__main__.py", "agent/agent.py", "agent/single_file.py"])
def test_the_commands_can_be_imported_on_windows(name: str) -> None:
    assert posix_imports(ROOT / "src" / "reco3" / name) == []


def test_an_import_two_files_away_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text("import second\n", encoding="utf-8")
    (tmp_path / "second.py").write_text("import os, pwd\n", encoding="utf-8")

    assert posix_imports(tmp_path / "first.py") == ["second.py: pwd"]
