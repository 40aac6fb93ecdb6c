"""The workflows keep to rules that a linter of syntax does not know: pinned, without secrets, closed to strangers."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
# What a stranger may write into: titles, bodies, branch names. It is data, and a script would run it.
UNTRUSTED = re.compile(r"\$\{\{[^}]*(github\.event|github\.head_ref|inputs\.)[^}]*\}\}")
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def steps_of(workflow: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def triggers_of(workflow: Mapping[Any, Any]) -> set[str]:
    """What starts it; YAML 1.1 reads the word `on` as true."""
    found = workflow[True]
    return set(found) if isinstance(found, dict | list) else {found}


def faults_of(text: str) -> list[str]:
    """Everything in a workflow that the rules refuse."""
    workflow = yaml.safe_load(text)
    faults = [f"not pinned: {line.strip()}" for line in text.splitlines() if "uses: " in line and not _is_pinned(line)]
    if "permissions" not in workflow:
        faults.append("no permissions at the top")
    if workflow.get("permissions") in ("write-all", "read-all"):
        faults.append("permissions by the bulk")
    if {"pull_request_target", "workflow_run"} & triggers_of(workflow):
        faults.append("runs a stranger's change with our rights")
    if "secrets." in text:
        faults.append("uses a secret")
    for name, job in workflow["jobs"].items():
        if "timeout-minutes" not in job:
            faults.append(f"{name}: no time limit")
    for step in steps_of(workflow):
        if UNTRUSTED.search(str(step.get("run", ""))):
            faults.append(f"a script of strangers' words: {step['run'][:40]}")
        is_checkout = str(step.get("uses", "")).startswith("actions/checkout@")
        if is_checkout and step.get("with", {}).get("persist-credentials") is not False:
            faults.append("a checkout that leaves its token behind")
    return faults


def _is_pinned(line: str) -> bool:
    return PINNED.search(line) is not None


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_keeps_the_rules(path: Path) -> None:
    assert faults_of(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ((r"@[0-9a-f]{40} # v", "@v5 # v"), "not pinned"),
        ((r"^permissions:\n  contents: read\n", ""), "no permissions"),
        ((r"^permissions:\n  contents: read\n", "permissions: write-all\n"), "permissions by the bulk"),
        ((r"  pull_request:\n", "  pull_request_target:\n"), "stranger's change"),
        ((r"bash \.ci/run", "echo ${{ github.event.pull_request.title }}"), "strangers' words"),
        ((r"bash \.ci/run", "echo ${{ github.head_ref }}"), "strangers' words"),
        ((r"bash \.ci/run", "echo ${{ secrets.KEY }}"), "uses a secret"),
        ((r"persist-credentials: false", "persist-credentials: true"), "leaves its token"),
        ((r"    timeout-minutes: 90\n", ""), "no time limit"),
    ],
)
def test_each_rule_would_be_noticed_when_broken(change: tuple[str, str], fault: str) -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    broken = re.sub(change[0], lambda _found: change[1], text, flags=re.MULTILINE)

    assert broken != text
    assert any(fault in each for each in faults_of(broken))


def test_every_pinned_action_is_pinned_to_one_commit_everywhere() -> None:
    pins = re.findall(r"uses: (\S+)@([0-9a-f]{40})", "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS))

    assert len(pins) >= 8
    assert len(dict(pins)) == len(set(pins))


def test_every_system_and_python_is_covered() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]

    assert jobs["linux"]["strategy"]["matrix"]["python"] == PYTHONS
    assert jobs["elsewhere"]["strategy"]["matrix"] == {"os": ["windows-2022", "macos-14"], "python": PYTHONS}
    assert [step["run"] for step in jobs["linux"]["steps"] if "run" in step] == ["bash .ci/run"]
    assert len(jobs["install"]["strategy"]["matrix"]["os"]) == 3


def test_a_release_is_made_of_tags_alone_and_says_where_it_comes_from() -> None:
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))

    assert release[True] == {"push": {"tags": ["v*"]}}
    assert release["permissions"] == {}
    writers = [name for name, job in release["jobs"].items() if "write" in job["permissions"].values()]
    assert writers == ["draft"]
    assert any("attest-build-provenance" in step.get("uses", "") for step in release["jobs"]["draft"]["steps"])
