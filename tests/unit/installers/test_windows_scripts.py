"""The PowerShell scripts, read by a real grammar; no PowerShell was at hand to run them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from powershell import FOLDER, SCRIPTS, complaints, functions, nodes, parsed, text_of
from reco3.installers import orders, windows

INSTALL = (FOLDER / "install_service.ps1").read_text(encoding="utf-8")
README = (FOLDER / "README_windows.md").read_text(encoding="utf-8")
FINDER = (FOLDER / "python_finder.ps1").read_text(encoding="utf-8")


def script_complaints(script: Path) -> list[str]:
    """What is wrong with a script, which may call what the finder defines."""
    shared = functions(FINDER)
    text = script.read_text(encoding="utf-8")
    return [said for said in complaints(text) if not any(f" {name} is no cmdlet" in said for name in shared)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_can_be_parsed_and_keeps_the_rules(script: Path) -> None:
    assert script_complaints(script) == []


def test_all_the_scripts_are_looked_at() -> None:
    assert [script.name for script in SCRIPTS] == [
        "build_exe.ps1",
        "install_service.ps1",
        "python_finder.ps1",
        "uninstall_service.ps1",
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("    exit $LASTEXITCODE\n}", "    exit $LASTEXITCODE\n", "cannot be parsed"),
        ("exit 2\n    }", "exit 2\n    )", "cannot be parsed"),
        ("else {\n        & $program @arguments", "else {\n        & $program -I $installer", "no splatted array"),
        ("$arguments += $BaseUrl", '$arguments += "--url=$BaseUrl"', "splices a variable"),
        ("$arguments += $BaseUrl", "$arguments += '--url=' + $BaseUrl", "puts a string together"),
        ("$arguments += $BaseUrl", "$arguments += '--url={0}' -f $BaseUrl", "puts a string together"),
        ("$arguments += $BaseUrl", "$arguments = $arguments -join ' '", "puts a string together"),
        (
            "& $program @arguments\n    }\n    exit",
            "Invoke-Expression $program\n    }\n    exit",
            "Invoke-Expression is no",
        ),
        ("Write-PythonMissing\n", "Write-PythonMising\n", "Write-PythonMising is no cmdlet"),
        ("Split-Path -Path", "Splitt-Path -Path", "Splitt-Path is no cmdlet"),
        ("& $program @arguments\n    }\n    exit", "& $program --% -I x\n    }\n    exit", ""),
    ],
)
def test_the_rules_find_what_breaks_them(right: str, wrong: str, complaint: str) -> None:
    assert right in INSTALL

    found = complaints(INSTALL.replace(right, wrong, 1))

    assert any(complaint in said for said in set(found) - set(complaints(INSTALL)))


def test_the_typed_key_is_no_argument_of_any_program() -> None:
    uses = [node for node in nodes(parsed(INSTALL), "variable") if text_of(node) == "$ApiKey"]
    assert len(uses) > 3

    assert not [use for use in uses if _is_within(use, left="$arguments")]


def test_a_key_among_the_arguments_would_be_found() -> None:
    leaky = INSTALL.replace("@('--key-file', '-')", "@('--key', $ApiKey)")

    uses = [node for node in nodes(parsed(leaky), "variable") if text_of(node) == "$ApiKey"]

    assert [use for use in uses if _is_within(use, left="$arguments")]


def test_every_parameter_is_explained() -> None:
    hidden = {"PipedLine"}
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        if script.name == "python_finder.ps1":
            continue  # It is no script to call.
        block = next(nodes(parsed(text), "param_block"), None)
        names = {text_of(node)[1:] for node in nodes(block, "variable")} - hidden if block is not None else set()
        names -= {"null", "true", "false"}
        assert names == set(re.findall(r"^\.PARAMETER (\w+)$", text, re.MULTILINE))
        assert names <= set(re.findall(r"`?-(\w+)\b", README))


def test_the_options_that_are_handed_over_are_those_of_the_installer() -> None:
    handed_over = set(re.findall(r"'(--[a-z-]+)'", INSTALL))
    parser = orders._install_parser("install_service.ps1", windows.USERS)

    assert handed_over == {word for action in parser._actions for word in action.option_strings} - {"-h", "--help"}


def test_what_is_handed_over_is_understood(tmp_path: Path) -> None:
    for name in ("key", "pins"):
        (tmp_path / name).write_text("alice:ed25519:AAAA\r\n" if name == "pins" else "the-key\r\n", encoding="utf-8")
    files = ["--key-file", "-", "--approver-file", str(tmp_path / "pins"), "--wheels", str(tmp_path)]
    words = [*files, "--approvals-required", "1", "--allow-insecure-http", "--dry-run", "--no-start"]

    order = orders.read_install(
        [*words, "http://127.0.0.1:5001", "pc-001"],
        program="install_service.ps1",
        users=windows.USERS,
        # As PowerShell pipes a text to a program.
        read_stdin=lambda: "the-key\r\n",
    )

    assert (order.api_key, order.agent_id, order.base_url) == ("the-key", "pc-001", "http://127.0.0.1:5001")
    assert order.pins == ("alice:ed25519:AAAA",)


def test_non_administrators_are_refused_before_anything_is_looked_for() -> None:
    for name in ("install_service.ps1", "uninstall_service.ps1"):
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert text.index("if (-not $DryRun -and -not (Test-Administrator))") < text.index("$python = @(Find-Python)")
        assert "This must be run as administrator: it" in text


def test_the_oldest_python_is_the_same_everywhere() -> None:
    assert "sys.version_info >= (3, 11)" in FINDER
    assert "$OldestPython = '3.11'" in FINDER
    assert 'requires-python = ">=3.11"' in (FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf-8")


def test_the_question_to_a_python_is_one_that_it_understands() -> None:
    block = FINDER.split("$question = @(")[1].split(") -join '; '")[0]
    question = "; ".join(
        text_of(node)[1:-1].replace("''", "'") for node in nodes(parsed(f"@({block})"), "string_literal")
    )

    for executable, answer in (("C:/Python/python.exe", "usable"), ("C:/x/WindowsApps/python.exe", "no")):
        code = f"import sys; sys.executable = {executable!r}; {question}"
        done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == answer


def test_scripts_are_plain_ascii_which_windows_powershell_reads_alike_everywhere() -> None:
    for script in SCRIPTS:
        assert script.read_bytes().isascii()


def _is_within(node: object, *, left: str) -> bool:
    above = node
    while above is not None:
        if above.type == "assignment_expression":  # type: ignore[attr-defined]
            return text_of(above.children[0]) == left  # type: ignore[attr-defined]
        above = above.parent  # type: ignore[attr-defined]
    return False
