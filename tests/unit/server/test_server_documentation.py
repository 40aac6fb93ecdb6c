"""Nothing that a user may meet is undocumented: every setting and every error code has its place in docs/."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SERVER = ROOT / "src" / "reco3" / "server"


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def texts_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def setting_names() -> set[str]:
    """Every variable that settings.py reads: the upper-case words that are whole strings in it."""
    words = texts_in(parsed(SERVER / "settings.py"))
    return {word for word in words if re.fullmatch(r"(RECO3_)?[A-Z]+(_[A-Z]+)*", word)}


def error_codes() -> set[str]:
    """Every code that an answer may carry: `code="…"`, `code = "…"` in a class, and the router's own."""
    return {code for path in sorted(SERVER.rglob("*.py")) for code in codes_in(path)}


def codes_in(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.keyword) and node.arg == "code":
            yield from texts_in(node.value)
        if isinstance(node, ast.ClassDef):
            yield from class_code(node)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "error_answer":
            yield from (text for text in texts_in(node) if re.fullmatch(r"[a-z]+(_[a-z]+)+", text))
    if path.name == "errors.py" and path.parent.name == "web":
        yield from re.findall(r'\d{3}: "(\w+)"', path.read_text(encoding="utf-8"))


def class_code(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "code":
            yield from texts_in(statement.value)


def test_the_search_finds_settings_and_codes_that_are_known_to_exist() -> None:
    assert {"RECO3_TEST_MODE", "API_KEY", "PORT", "RECO3_LOG_RETENTION_DAYS", "SECRET_KEY"} <= setting_names()
    assert {"unauthorized", "unknown_process", "already_approved", "internal_error", "not_found"} <= error_codes()


@pytest.mark.parametrize("name", sorted(setting_names()))
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", sorted(error_codes()))
def test_every_error_code_is_documented(code: str) -> None:
    assert f"`{code}`" in (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
