import os
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from reco3.installers.host import Host, set_owner
from reco3.installers.programs import Call, Ran, shown
from reco3.installers.troubles import InstallError


class Programs:
    """Records calls; each prints what it got on standard input and fails."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> Ran:
        self.calls.append(call)
        return Ran(3, f"said: {call.stdin}")


def host(root: Path | None, *, is_dry: bool = False) -> tuple[Host, Programs, list[str]]:
    said: list[str] = []
    programs = Programs()
    return Host(said.append, root=root, is_dry=is_dry, programs=programs), programs, said


def test_files_of_the_pc_are_below_the_root_whatever_system_it_is_of(tmp_path: Path) -> None:
    pc, _, _ = host(tmp_path)

    assert pc.real(PurePosixPath("/opt/reco3-agent/app")) == tmp_path / "opt/reco3-agent/app"
    assert pc.real(PureWindowsPath(r"C:\Program Files\RECO3\agent")) == tmp_path / "Program Files/RECO3/agent"
    assert pc.real(tmp_path / "source") == tmp_path / "source"
    assert host(None)[0].real(PurePosixPath("/opt/x")) == Path("/opt/x")


def test_a_call_names_files_as_the_pc_does_and_runs_with_those_below_the_root(tmp_path: Path) -> None:
    pc, programs, _ = host(tmp_path)

    pc.run([PurePosixPath("/opt/python"), "-I", tmp_path / "source.txt"])

    assert programs.calls[0].argv == ("/opt/python", "-I", f"{tmp_path}/source.txt")
    assert programs.calls[0].real_argv == (f"{tmp_path}/opt/python", "-I", f"{tmp_path}/source.txt")


def test_a_program_that_must_work_tells_its_words_and_never_its_secret(tmp_path: Path) -> None:
    pc, _, _ = host(tmp_path)

    with pytest.raises(InstallError) as caught:
        pc.must(["enrol", "my file"], code="not_enrolled", to_do="ask", stdin="s3cret\n")

    assert caught.value.found.startswith('enrol "my file" < (standard input) ended with 3:\nsaid: ***')
    assert "s3cret" not in repr(Call(("a",), ("a",), "s3cret")) + shown(Call(("a",), ("a",), "s3cret"))


def test_a_real_program_runs_without_a_shell_and_one_that_is_missing_is_told() -> None:
    pc = Host(print)

    ran = pc.run([sys.executable, "-c", "import sys; print(sys.argv[1:], input())", "$HOME; *"], stdin="in\n")
    missing = pc.run(["no-such-program-of-reco3"])

    assert (ran.exit_code, ran.output) == (0, "['$HOME; *'] in\n")
    assert missing == Ran(127, "no-such-program-of-reco3: there is no such program")


def test_a_file_that_is_written_is_private_before_it_has_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc, _, _ = host(tmp_path)
    seen: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda number: seen.append(os.fstat(number).st_mode & 0o777))
    (tmp_path / "config.tmp").write_text("a run that was killed left it")

    pc.write(PurePosixPath("/config"), "key", 0o640)

    assert seen == [0o600]
    assert ((tmp_path / "config").read_text(), (tmp_path / "config").stat().st_mode & 0o777) == ("key", 0o640)
    assert os.listdir(tmp_path) == ["config"]  # noqa: PTH208 - names are what counts


def test_removing_a_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    pc, _, _ = host(tmp_path)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("x")
    (tmp_path / "link").symlink_to("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to("../precious")

    pc.remove(PurePosixPath("/link"))
    pc.remove(PurePosixPath("/folder"))
    pc.remove(PurePosixPath("/never-there"))

    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["precious", "precious/file"]


def test_a_dry_run_says_every_change_and_makes_none(tmp_path: Path) -> None:
    pc, programs, said = host(tmp_path, is_dry=True)
    (tmp_path / "old").write_text("x")

    pc.make_folder(PurePosixPath("/new"), 0o700)
    pc.write(PurePosixPath("/file"), "s3cret", 0o600)
    pc.rename(PurePosixPath("/old"), PurePosixPath("/other"))
    pc.remove(PurePosixPath("/old"))
    pc.give(PurePosixPath("/old"), "nobody")
    pc.run(["systemctl", "start"])
    asked = pc.ask(["systemctl", "show"])

    assert said == [
        "      would make the folder /new (mode 0700)",
        "      would write /file (mode 0600)",
        "      would rename /old to /other",
        "      would remove /old",
        "      would give /old to nobody",
        "      would run systemctl start",
    ]
    assert os.listdir(tmp_path) == ["old"]  # noqa: PTH208 - names are what counts
    assert [call.argv for call in programs.calls] == [("systemctl", "show")]
    assert asked.exit_code == 3


def test_a_user_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InstallError) as caught:
        set_owner(tmp_path, "no-such-user-of-reco3")

    assert caught.value.code == "no_such_user"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="root gives files away")
def test_another_name_of_somebody_elses_file_is_not_given(tmp_path: Path) -> None:
    folder, theirs = tmp_path / "state", tmp_path / "theirs"
    folder.mkdir()
    theirs.write_text("x")
    (folder / "mine").hardlink_to(theirs)

    with pytest.raises(InstallError) as caught:
        set_owner(folder, "daemon")

    assert caught.value.code == "several_names"
    assert theirs.stat().st_uid == 0


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="root gives files away")
def test_all_in_a_folder_is_given_but_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    folder, outside = tmp_path / "state", tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    outside.mkdir()
    for path in (folder / "a", folder / "deep/b", outside / "c"):
        path.write_text("x")
    (folder / "link").symlink_to(outside)

    set_owner(folder, "daemon")

    owners = {path.name: path.lstat().st_uid for path in sorted(tmp_path.rglob("*"))}
    number = owners["state"]
    assert number != 0
    assert owners == {"state": number, "deep": number, "a": number, "b": number, "link": number, "outside": 0, "c": 0}
