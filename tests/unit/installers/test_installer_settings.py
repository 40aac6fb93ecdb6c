from pathlib import Path, PurePath, PurePosixPath

import pytest
from fake_pc import REPOSITORY, FakePc, Killed, small_source

from reco3.agent.config import load_config
from reco3.installers.host import Host
from reco3.installers.layouts import Layout, Source
from reco3.installers.orders import InstallOrder
from reco3.installers.payload import build_step, posix_launcher, swap_step
from reco3.installers.settings import config_step, draft, kept_config_notes, pins_step
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
URL = "https://reco3.example.com"
KEY = 'a-key-with-"quotes"-and-\\'
BY_KEY = InstallOrder(base_url=URL, agent_id="pc-001", api_key=KEY)
BY_TOKEN = InstallOrder(base_url=URL, agent_id="pc-001", token="a-token-for-one-use")
ALICE = "alice:ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="
REFUSED = InstallError("not_running", "it ends", "look")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return small_source(tmp_path / "source")


@pytest.fixture
def pc(tmp_path: Path, source: Source) -> FakePc:
    return made_pc(tmp_path / "pc", source)


def made_pc(root: Path, source: Source) -> FakePc:
    """A PC with the application in its place, and no config."""
    (root / "opt/reco3-agent").mkdir(parents=True)
    (root / "var/log/reco3-agent").mkdir(parents=True)
    pc = FakePc(root, LAYOUT)
    host = pc.host()
    take(
        [build_step(host, LAYOUT, source, BY_KEY, posix_launcher(LAYOUT)), swap_step(host, LAYOUT)], say=pc.said.append
    )
    pc.calls.clear()
    return pc


def steps(
    pc: FakePc, source: Source, order: InstallOrder, *, host: Host | None = None, fails: bool = False
) -> list[Step]:
    used = host or pc.host()
    local = Layout(
        home=HOME,
        app=LAYOUT.app,
        config=LAYOUT.config,
        state=LAYOUT.state,
        log=PurePosixPath(str(pc.real(LAYOUT.log))),
        platform="linux",
    )

    def seal(path: PurePath) -> None:
        used.give(path, "reco3-agent", mode=0o600)

    def run() -> None:
        if fails:
            raise REFUSED

    return [
        config_step(used, local, source, order, seal=seal),
        pins_step(used, local, order, seal=seal),
        Step(title="run it", do=run),
    ]


def set_up(pc: FakePc, source: Source, order: InstallOrder, *, fails: bool = False) -> None:
    take(steps(pc, source, order, fails=fails), say=pc.said.append)


def config_text(pc: FakePc) -> str:
    return pc.real(LAYOUT.config).read_text()


def test_a_config_is_made_of_the_template_and_lets_nothing_act(pc: FakePc, source: Source) -> None:
    set_up(pc, source, BY_KEY)

    config = load_config(pc.real(LAYOUT.config))
    assert (config.base_url.host, config.agent_id, config.api_key) == ("reco3.example.com", "pc-001", KEY)
    assert (config.platform, config.control.apply_enabled) == ("linux", False)
    assert config.logging.file == pc.real(LAYOUT.log)
    assert config.state_dir == pc.real(LAYOUT.state)
    assert pc.files()["opt/reco3-agent/config.yaml"].startswith("0600 reco3-agent ")
    assert pc.calls == [
        "/opt/reco3-agent/app/bin/python -I -m reco3.cli agent --check /opt/reco3-agent/config.yaml.new"
    ]


def test_a_config_that_is_there_is_kept_and_its_differences_are_told_without_a_key(pc: FakePc, source: Source) -> None:
    set_up(pc, source, BY_KEY)
    before = config_text(pc)
    other = InstallOrder(base_url="https://other", agent_id="pc-001", api_key="another-key", approvals_required=2)

    notes = kept_config_notes(pc.host(), LAYOUT, other)
    set_up(pc, source, other)

    assert config_text(pc) == before
    assert [note.split("another ")[1] for note in notes] == [
        "base_url than was given now",
        "api_key than was given now",
        "approvals_required than was given now",
    ]
    assert kept_config_notes(pc.host(), LAYOUT, BY_KEY) == []


def test_a_token_goes_to_the_agent_by_standard_input_alone(pc: FakePc, source: Source) -> None:
    set_up(pc, source, BY_TOKEN)

    config = load_config(pc.real(LAYOUT.config))
    assert (config.agent_id, config.api_key) == ("pc-001", "made-on-this-pc")
    assert pc.calls[0] == (
        "/opt/reco3-agent/app/bin/python -I -m reco3.cli agent enrol /opt/reco3-agent/config.yaml.new "
        f"--server {URL} --agent-id pc-001 --token-file -"
    )
    assert pc.stdins == ["a-token-for-one-use\n"]
    assert not any("a-token-for-one-use" in line for line in (*pc.calls, *pc.said))


def test_without_a_name_the_tokens_counts(pc: FakePc, source: Source) -> None:
    set_up(pc, source, InstallOrder(base_url=URL, token="a-token-for-one-use"))

    assert load_config(pc.real(LAYOUT.config)).agent_id == "pc-of-the-token"


def test_a_refused_token_leaves_no_config_and_is_not_repeated(pc: FakePc, source: Source) -> None:
    pc.fail("agent enrol", output="it printed a-token-for-one-use")
    before = pc.files()

    with pytest.raises(InstallError) as caught:
        set_up(pc, source, BY_TOKEN)

    assert caught.value.code == "not_enrolled"
    assert "it printed ***" in caught.value.found
    assert pc.files() == before


def test_a_key_that_the_server_may_have_taken_is_kept(pc: FakePc, source: Source) -> None:
    pc.fail("agent enrol", output="no answer; it is not known whether the server took the key")
    left = pc.real(LAYOUT.home / "config.yaml.new.enrolling")
    left.write_text("a key")

    with pytest.raises(InstallError):
        set_up(pc, source, BY_TOKEN)

    assert left.read_text() == "a key"
    assert any("may be spent" in line for line in pc.said)


def test_a_key_that_was_enrolled_outlives_a_failure_and_the_same_again_uses_it(pc: FakePc, source: Source) -> None:
    with pytest.raises(InstallError):
        set_up(pc, source, BY_TOKEN, fails=True)
    assert any("its token is or may be spent" in line for line in pc.said)

    set_up(pc, source, BY_TOKEN)

    assert load_config(pc.real(LAYOUT.config)).api_key == "made-on-this-pc"


def test_a_config_with_a_given_key_is_undone(pc: FakePc, source: Source) -> None:
    before = pc.files()

    with pytest.raises(InstallError):
        set_up(pc, source, BY_KEY, fails=True)

    assert pc.files() == before


def test_a_config_that_the_agent_cannot_use_never_gets_its_name(pc: FakePc, source: Source) -> None:
    pc.fail("--check", output="config.yaml.new:3: base_url: expected")

    with pytest.raises(InstallError) as caught:
        set_up(pc, source, BY_KEY)

    assert caught.value.code == "config_refused"
    assert "expected" in caught.value.found
    assert pc.host().names(HOME) == ["app"]


def test_pins_are_added_once_and_what_is_pinned_is_left_alone(pc: FakePc, source: Source) -> None:
    order = InstallOrder(base_url=URL, agent_id="pc-001", api_key=KEY, pins=(ALICE,), approvals_required=1)

    set_up(pc, source, order)
    set_up(pc, source, order)

    config = load_config(pc.real(LAYOUT.config))
    assert [pin.owner for pin in config.control.approvers] == ["alice"]
    assert len([call for call in pc.calls if "trust add" in call]) == 1


def test_pins_that_are_refused_are_undone_on_a_config_that_is_kept(pc: FakePc, source: Source) -> None:
    set_up(pc, source, BY_KEY)
    before = pc.files()
    bad = InstallOrder(base_url=URL, agent_id="pc-001", api_key=KEY, pins=(ALICE, "bob:nothing:AAAA"))

    with pytest.raises(InstallError) as caught:
        set_up(pc, source, bad)

    after = {name: line for name, line in pc.files().items() if not name.endswith("agent.log")}
    assert caught.value.code == "pins_refused"
    assert after == before


@pytest.mark.parametrize("order", [BY_KEY, BY_TOKEN], ids=["key", "token"])
def test_killed_before_any_change_a_second_run_ends_the_same(
    tmp_path: Path, source: Source, order: InstallOrder
) -> None:
    whole = InstallOrder(
        **{name: getattr(order, name) for name in ("base_url", "agent_id", "api_key", "token")}, pins=(ALICE,)
    )
    counted = made_pc(tmp_path / "counted", source)
    host = counted.host()
    take(steps(counted, source, whole, host=host), say=counted.said.append)

    for number in range(1, host.changes + 1):
        pc = made_pc(tmp_path / f"pc-{number}", source)
        with pytest.raises(Killed):
            take(steps(pc, source, whole, host=pc.host(dies_before=number)), say=pc.said.append)

        set_up(pc, source, whole)

        config = load_config(pc.real(LAYOUT.config))
        assert len(config.control.approvers) == 1
        assert config.api_key == (order.api_key or "made-on-this-pc")
        assert pc.host().names(HOME) == ["app", "config.yaml"], f"killed before change {number}"
        assert pc.files()["opt/reco3-agent/config.yaml"].startswith("0600 reco3-agent ")
    assert host.changes >= 5


def test_the_template_has_every_line_that_is_filled_in() -> None:
    template = Source(REPOSITORY).template.read_text()
    order = InstallOrder(
        base_url="http://10.0.0.1", agent_id="pc", api_key="k", approvals_required=3, allow_insecure_http=True
    )

    text = draft(template, order, LAYOUT)

    assert "\nallow_insecure_http: true" in text
    assert "\n  approvals_required: 3 " in text
    assert '\n# version: "1.0"' in text
    assert 'file: "/var/log/reco3-agent/agent.log"' in text


def test_a_template_without_the_lock_is_refused() -> None:
    template = Source(REPOSITORY).template.read_text().replace("apply_enabled: false", "apply_enabled: true")

    with pytest.raises(InstallError) as caught:
        draft(template, BY_KEY, LAYOUT)

    assert caught.value.code == "template_changed"
