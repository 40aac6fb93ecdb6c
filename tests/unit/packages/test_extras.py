"""What a command says when the part of RECO3 that it needs is not installed, and what the package says of itself."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import reco3
from reco3 import cli, extras

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The two that are imported by another name than they are installed by.
IMPORTED_AS = {"argon2-cffi": "argon2"}
# uvicorn does without it, more slowly.
NOT_ASKED_FOR = {"uvloop"}


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9-]+", requirement)
    assert found is not None
    return found[0]


def test_the_agents_part_is_three_libraries() -> None:
    assert sorted(map(name_of, PROJECT["dependencies"])) == ["PyYAML", "cryptography", "psutil"]


def test_every_library_of_the_servers_part_is_asked_for() -> None:
    names = {name_of(each) for each in PROJECT["optional-dependencies"]["server"]} - NOT_ASKED_FOR

    assert {IMPORTED_AS.get(name, name) for name in names} == set(extras.SERVER_MODULES)


@pytest.mark.parametrize("command", ["server", "demo"])
def test_a_command_without_its_part_says_in_one_line_what_to_install(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "SERVER_MODULES", ("reco3_no_such_library",))

    code = cli.main([command])

    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err == (
        f"reco3 {command} needs reco3_no_such_library, which is not installed. "
        'Try: python -m pip install "reco3[server]"\n'
    )


def test_a_missing_library_of_the_agent_names_the_agents_part() -> None:
    assert extras.advice("agent", "psutil.x") == (
        'reco3 agent needs psutil, which is not installed. Try: python -m pip install "reco3"'
    )


def test_a_module_that_this_python_should_have_is_no_matter_of_installing() -> None:
    assert extras.advice("swarm", "resource") == (
        "reco3 swarm does not run on this system: its Python has no module resource."
    )


def test_a_missing_module_of_our_own_stays_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_words: object) -> int:
        raise ModuleNotFoundError("No module named 'reco3.gone'", name="reco3.gone")

    monkeypatch.setattr(cli, "_commands", {"broken": broken})

    with pytest.raises(ModuleNotFoundError):
        cli.main(["broken"])


def test_the_version_stands_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.strip() == reco3.__version__ == metadata.version("reco3")


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "reco3", "version"], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == reco3.__version__


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(reco3.__file__).with_name("py.typed").is_file()
