"""Runs of the Windows installer on a fake PC, for the tests of it."""

from pathlib import Path

from fake_windows import PYTHON, SC, FakeWindows

from reco3.installers import windows
from reco3.installers.orders import InstallOrder, UninstallOrder
from reco3.installers.programs import Call, Ran
from reco3.installers.steps import take, take_all
from reco3.installers.troubles import InstallError

KEY = "the-key-of-this-pc"
ORDER = InstallOrder(base_url="http://127.0.0.1:5001", agent_id="pc-001", api_key=KEY)


def install(pc: FakeWindows, order: InstallOrder = ORDER, **how: int | bool | None) -> None:
    host = pc.host(is_dry=order.is_dry, **how)
    take(windows.install_steps(order, host, pc.source, layout=pc.layout, python=PYTHON), say=pc.pc.said.append)


def uninstall(pc: FakeWindows, *, keeps_config: bool = False, **how: int | bool | None) -> list[InstallError]:
    host = pc.host(**how)
    order = UninstallOrder(keeps_config=keeps_config)
    return take_all(windows.uninstall_steps(order, host, layout=pc.layout), say=pc.pc.said.append)


def change(pc: FakeWindows) -> None:
    """A newer source tree."""
    (pc.source.package / "__init__.py").write_text('__version__ = "2"\n')


def version(pc: FakeWindows) -> str:
    return (pc.pc.real(pc.layout.packages(pc.layout.app)) / "reco3/__init__.py").read_text()


def installed(pc: FakeWindows) -> dict[str, object]:
    install(pc)
    pc.calls()
    return pc.state()


def fail_once(pc: FakeWindows, verb: str) -> None:
    """Let the next call of a verb fail; undoing takes the same verbs and must work."""
    left = [verb]
    real = pc.manager.sc

    def sc(call: Call) -> Ran:
        if left and call.argv[1] == left[0]:
            left.clear()
            return Ran(5, "Access is denied.")
        return real(call)

    pc.pc.play(SC, sc)


def answer_after_doing(pc: FakeWindows, verb: str, answer: int) -> None:
    """Let a verb be done, and yet be answered as one that came too late."""
    real = pc.manager.sc

    def sc(call: Call) -> Ran:
        ran = real(call)
        return Ran(answer, "too late") if call.argv[1] == verb and ran.is_ok else ran

    pc.pc.play(SC, sc)


def wait_until_it_runs(pc: FakeWindows) -> None:
    for _ in range(10):
        if windows.service.process_id(pc.host()) is not None:
            return
    raise AssertionError("the old agent was not started again")


def count_changes(tmp_path: Path, *, upgrade: bool) -> int:
    pc = FakeWindows(tmp_path / "counted")
    if upgrade:
        installed(pc)
        change(pc)
    host = pc.host()
    take(windows.install_steps(ORDER, host, pc.source, layout=pc.layout, python=PYTHON), say=pc.pc.said.append)
    return host.changes


def same(pc: FakeWindows, other: FakeWindows) -> bool:
    """Whether two PCs are alike, but for where the source tree of each is."""
    mine, theirs = pc.state(), other.state()
    stamp = "reco3-app"
    for state in (mine, theirs):
        files = state["files"]
        assert isinstance(files, dict)
        for name in [name for name in files if name.endswith(stamp)]:
            files[name] = "stamped"
    return mine == theirs
