from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from fake_pc import FakePc, Killed, small_source

from reco3.installers.layouts import Layout, Source
from reco3.installers.orders import InstallOrder
from reco3.installers.payload import (
    STAMP,
    build_step,
    forget_old_step,
    mend_step,
    posix_launcher,
    python_step,
    swap_step,
)
from reco3.installers.steps import Step, take
from reco3.installers.troubles import InstallError

HOME = PurePosixPath("/opt/reco3-agent")
LAYOUT = Layout(
    home=HOME,
    app=HOME / "app",
    config=HOME / "config.yaml",
    state=HOME / "state",
    log=PurePosixPath("/var/log/reco3-agent/agent.log"),
    platform="linux",
)
ORDER = InstallOrder(base_url="http://127.0.0.1:5001")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return small_source(tmp_path / "source")


@pytest.fixture
def pc(tmp_path: Path) -> FakePc:
    (tmp_path / "pc/opt/reco3-agent").mkdir(parents=True)
    return FakePc(tmp_path / "pc", LAYOUT)


def steps(
    pc: FakePc,
    source: Source,
    *,
    order: InstallOrder = ORDER,
    runs: Callable[[], None] = lambda: None,
    dies_before: int | None = None,
) -> list[Step]:
    host = pc.host(dies_before=dies_before)
    return [
        python_step(host),
        mend_step(host, LAYOUT),
        build_step(host, LAYOUT, source, order, posix_launcher(LAYOUT)),
        swap_step(host, LAYOUT),
        Step(title="run it", do=runs),
        forget_old_step(host, LAYOUT),
    ]


def install(pc: FakePc, source: Source, runs: Callable[[], None] = lambda: None) -> None:
    take(steps(pc, source, runs=runs), say=pc.said.append)


def refuse_to_run() -> None:
    raise InstallError("not_running", "it ends", "look")


def change(source: Source) -> None:
    (source.package / "__init__.py").write_text('__version__ = "2"\n')


def version(pc: FakePc) -> str:
    return (pc.real(LAYOUT.packages(LAYOUT.app)) / "reco3/__init__.py").read_text()


def test_the_application_is_built_beside_and_renamed_into_its_place(pc: FakePc, source: Source) -> None:
    install(pc, source)

    new, pip = "/opt/reco3-agent/app.new", "-m pip --disable-pip-version-check --no-input install"
    calls = [call.split(" -I ", 1)[1] for call in pc.calls]
    assert calls == [
        "-c import ensurepip, venv",
        f"-m venv {new}",
        f"{pip} --quiet --require-hashes --only-binary=:all: -r {source.requirements}",
        f"-m compileall -q -s {new} -p /opt/reco3-agent/app {LAYOUT.packages(LAYOUT.new_app)}/reco3",
        "-c import cryptography, psutil, yaml, reco3.agent.agent",
    ]
    assert sorted(pc.host().names(HOME)) == ["app"]
    assert (pc.real(LAYOUT.packages(LAYOUT.app)) / "reco3/agent/config.example.yaml").exists()
    launcher = pc.real(LAYOUT.app / "bin/reco3")
    assert launcher.read_text() == '#!/bin/sh\nexec "/opt/reco3-agent/app/bin/python" -I -m reco3.cli "$@"\n'
    assert launcher.stat().st_mode & 0o777 == 0o755


def test_without_network_pip_gets_a_folder_of_wheels(pc: FakePc, source: Source, tmp_path: Path) -> None:
    order = InstallOrder(base_url="http://127.0.0.1:5001", wheels=tmp_path)

    take(steps(pc, source, order=order), say=pc.said.append)

    assert any(f"--no-index --find-links {tmp_path} -r " in call for call in pc.calls)


def test_the_same_application_is_not_built_again(pc: FakePc, source: Source) -> None:
    install(pc, source)
    before = pc.files()
    pc.calls.clear()

    install(pc, source)

    assert pc.files() == before
    assert not any("-m venv" in call or "-m pip" in call for call in pc.calls)


def test_one_that_was_damaged_is_built_again(pc: FakePc, source: Source) -> None:
    install(pc, source)
    (pc.real(LAYOUT.packages(LAYOUT.app)) / "psutil.py").unlink()

    install(pc, source)

    assert (pc.real(LAYOUT.packages(LAYOUT.app)) / "psutil.py").exists()


@pytest.mark.parametrize("words", ["-m venv", "-m pip", "-m compileall", "-c import cryptography"])
def test_a_build_that_fails_leaves_nothing_and_the_old_application_in_use(
    pc: FakePc, source: Source, words: str
) -> None:
    install(pc, source)
    before = pc.files()
    change(source)
    pc.fail(words)

    with pytest.raises(InstallError) as caught:
        install(pc, source)

    assert caught.value.code in {"no_venv", "no_packages", "payload_broken"}
    assert "it went wrong" in caught.value.found
    assert pc.files() == before


def test_python_without_venv_is_explained_before_anything_changes(pc: FakePc, source: Source) -> None:
    pc.fail("import ensurepip")

    with pytest.raises(InstallError) as caught:
        install(pc, source)

    assert caught.value.code == "no_venv"
    assert "apt install python3-venv" in caught.value.to_do
    assert pc.files().keys() == {"opt", "opt/reco3-agent"}


def test_a_new_application_that_does_not_run_gives_its_place_back(pc: FakePc, source: Source) -> None:
    install(pc, source)
    before = pc.files()
    change(source)

    with pytest.raises(InstallError):
        install(pc, source, refuse_to_run)

    assert pc.files() == before


def test_a_first_application_that_does_not_run_is_removed(pc: FakePc, source: Source) -> None:
    with pytest.raises(InstallError):
        install(pc, source, refuse_to_run)

    assert pc.files().keys() == {"opt", "opt/reco3-agent"}


def changes_of_an_upgrade(pc: FakePc, source: Source) -> int:
    install(pc, source)
    change(source)
    host = pc.host()
    taken = [
        mend_step(host, LAYOUT),
        build_step(host, LAYOUT, source, ORDER, posix_launcher(LAYOUT)),
        swap_step(host, LAYOUT),
        forget_old_step(host, LAYOUT),
    ]
    take(taken, say=pc.said.append)
    return host.changes


def test_killed_before_any_change_of_an_upgrade_a_second_run_ends_the_same(tmp_path: Path) -> None:
    counted = FakePc(tmp_path / "counted", LAYOUT)
    (counted.root / "opt/reco3-agent").mkdir(parents=True)
    count = changes_of_an_upgrade(counted, small_source(tmp_path / "counted-source"))
    assert count >= 12

    for number in range(1, count + 1):
        pc, source = FakePc(tmp_path / f"pc-{number}", LAYOUT), small_source(tmp_path / f"source-{number}")
        (pc.root / "opt/reco3-agent").mkdir(parents=True)
        install(pc, source)
        change(source)
        with pytest.raises(Killed):
            take(steps(pc, source, dies_before=number), say=pc.said.append)

        install(pc, source)

        assert version(pc) == '__version__ = "2"\n'
        assert pc.host().names(HOME) == ["app"]


def test_killed_anywhere_and_then_not_running_the_old_application_is_back(tmp_path: Path) -> None:
    counted = FakePc(tmp_path / "counted", LAYOUT)
    (counted.root / "opt/reco3-agent").mkdir(parents=True)
    source = small_source(tmp_path / "counted-source")
    count = changes_of_an_upgrade(counted, source)

    for number in range(1, count - 1):  # The last two throw the old one away, when the new one has run.
        pc, source = FakePc(tmp_path / f"pc-{number}", LAYOUT), small_source(tmp_path / f"source-{number}")
        (pc.root / "opt/reco3-agent").mkdir(parents=True)
        install(pc, source)
        change(source)
        with pytest.raises(Killed):
            take(steps(pc, source, dies_before=number), say=pc.said.append)
        with pytest.raises(InstallError):
            install(pc, source, refuse_to_run)

        assert version(pc) == '__version__ = "1"\n', f"killed before change {number}"


def test_an_application_that_is_half_thrown_away_never_counts_as_one(pc: FakePc, source: Source) -> None:
    install(pc, source)
    pc.real(LAYOUT.app).rename(pc.real(LAYOUT.old_app))
    pc.real(LAYOUT.old_app / STAMP).unlink()

    step = mend_step(pc.host(), LAYOUT)

    assert step.is_done()
