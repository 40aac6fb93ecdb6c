"""The property list: whole for two parsers, every key one that launchd.plist(5) knows, with a type it allows."""

import json
import os
import plistlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_pc import REPOSITORY

from fake_launchd_words import wants_restart
from reco3.installers import macos
from reco3.installers.launchd import LABEL, PLIST
from reco3.installers.layouts import Source

SOURCE = Source(REPOSITORY)
FILE = SOURCE.root / macos.PLIST_SOURCE
DATA = SOURCE.root / "tests/data/launchd_plist_keys.json"
KNOWN = json.loads(DATA.read_text(encoding="utf-8"))
BROKEN = FILE.read_text(encoding="utf-8").replace("</dict>", "</dicf>", 1)


def test_two_parsers_read_it_and_agree(tmp_path: Path) -> None:
    assert plistutil(FILE, tmp_path) == plistlib.loads(FILE.read_bytes())


def test_both_parsers_refuse_one_that_is_broken(tmp_path: Path) -> None:
    broken = tmp_path / "broken.plist"
    broken.write_text(BROKEN)

    with pytest.raises(Exception, match="mismatched tag"):
        plistlib.loads(broken.read_bytes())
    with pytest.raises(AssertionError, match="ERROR"):
        plistutil(broken, tmp_path)


@pytest.mark.parametrize("user", macos.USERS)
def test_every_key_is_one_that_launchd_knows_with_a_type_that_it_allows(user: str) -> None:
    assert faults(plistlib.loads(macos.plist_text(SOURCE, user).encode())) == []


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("KeepAlife", True, "KeepAlife: launchd does not know it"),
        ("RunAtLoad", "true", "RunAtLoad: string is not boolean"),
        ("Umask", "027", "Umask: string is not integer"),
        ("ThrottleInterval", True, "ThrottleInterval: boolean is not integer"),
        ("ProgramArguments", ["/bin/ls", 1], "ProgramArguments: array is not array of strings"),
        ("KeepAlive", {"SuccesfulExit": False}, "KeepAlive.SuccesfulExit: launchd does not know it"),
        ("ProcessType", "background", "ProcessType: background"),
    ],
)
def test_a_wrong_key_or_type_is_found(key: str, value: object, fault: str) -> None:
    plist = plistlib.loads(FILE.read_bytes()) | {key: value}

    assert faults(plist) == [fault]


def test_it_names_what_is_installed_and_nothing_secret() -> None:
    plist = plistlib.loads(FILE.read_bytes())

    assert plist["Label"] == LABEL == PLIST.stem
    python, *words = plist["ProgramArguments"]
    assert python == str(macos.LAYOUT.python(macos.LAYOUT.app))
    assert words == ["-I", "-m", "reco3.cli", "agent", str(macos.LAYOUT.config)]
    assert plist["WorkingDirectory"] == str(macos.LAYOUT.home)
    for key in ("StandardOutPath", "StandardErrorPath"):
        assert Path(plist[key]).parent == Path(macos.LAYOUT.log.parent)
        # The agent renames its own log when it is full, which launchd would go on writing to.
        assert plist[key] != str(macos.LAYOUT.log)
    assert "EnvironmentVariables" not in plist


def test_it_is_kept_alive_after_a_crash_and_stays_stopped_when_told_to_stop() -> None:
    plist = plistlib.loads(FILE.read_bytes())

    assert plist["RunAtLoad"] is True
    assert [wants_restart(plist, code) for code in (-9, -11, 1, 2)] == [True] * 4
    assert not wants_restart(plist, 0)
    # The control: with a plain true, `launchctl stop` would bring it back at once.
    assert wants_restart(plist | {"KeepAlive": True}, 0)


def test_launchd_waits_longer_than_the_agent_takes_to_stop() -> None:
    from reco3.agent.agent import STOP_WITHIN_S  # noqa: PLC0415 - the agent's own promise

    plist = plistlib.loads(FILE.read_bytes())

    assert plist["ExitTimeOut"] >= 2 * STOP_WITHIN_S
    assert plist["AbandonProcessGroup"] is True
    assert plist["Umask"] == 0o027


def test_another_user_is_named_and_nothing_else_changes() -> None:
    as_root = plistlib.loads(macos.plist_text(SOURCE, "root").encode())
    as_other = plistlib.loads(macos.plist_text(SOURCE, "_reco3agent").encode())

    assert as_other == {**as_root, "UserName": "_reco3agent", "GroupName": "_reco3agent"}
    assert "UserName" not in as_root


def plistutil(file: Path, folder: Path) -> dict[str, Any]:
    """What plistutil makes of it; it says ERROR and exits with 0 all the same."""
    if shutil.which("plistutil") is None:
        if os.environ.get("CI"):
            pytest.fail("plistutil is missing: apt-get install libplist-utils")
        pytest.skip("plistutil is missing: apt-get install libplist-utils")
    binary = folder / "binary.plist"
    argv = ["plistutil", "-i", str(file), "-o", str(binary)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "ERROR" not in done.stdout + done.stderr, done
    assert done.returncode == 0, done
    assert binary.read_bytes().startswith(b"bplist00")
    plist: dict[str, Any] = plistlib.loads(binary.read_bytes())
    return plist


def faults(plist: dict[str, Any]) -> list[str]:
    """What launchd would not understand."""
    found = [*_faults(plist, KNOWN["keys"], "")]
    keep = plist.get("KeepAlive")
    if isinstance(keep, dict):
        found += _faults(keep, KNOWN["keep_alive_keys"], "KeepAlive.")
    if plist.get("ProcessType") not in KNOWN["process_types"]:
        found.append(f"ProcessType: {plist.get('ProcessType')}")
    return found


def _faults(plist: dict[str, Any], known: dict[str, list[str]], prefix: str) -> list[str]:
    found = []
    for key, value in plist.items():
        kinds = _kinds(value)
        if key not in known:
            found.append(f"{prefix}{key}: launchd does not know it")
        elif not kinds & set(known[key]):
            found.append(f"{prefix}{key}: {min(kinds, key=len)} is not {' or '.join(known[key])}")
    return found


def _kinds(value: object) -> set[str]:
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer"}
    if isinstance(value, str):
        return {"string"}
    if isinstance(value, list):
        return {"array", *(["array of strings"] if all(isinstance(each, str) for each in value) else [])}
    if isinstance(value, dict):
        is_plain = all(isinstance(each, str) for each in value.values())
        return {"dictionary", *(["dictionary of strings"] if is_plain else [])}
    return {type(value).__name__}
