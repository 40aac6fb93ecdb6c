"""Bad usage of `reco3 swarm` is one clear line and exit code 2; keys are those that every part of RECO3 derives."""

import hashlib
from typing import Any

import pytest

from builders import cases
from reco3.swarm.arguments import parse_arguments
from reco3.swarm.plans import shares
from reco3.swarm.targets import parse_target, source_addresses
from reco3.swarm.verbs import main
from reco3.swarm.workers import workers_for


@pytest.mark.parametrize("case", cases("swarm_bad_usage"), ids=lambda case: case["name"])
def test_bad_usage_of_the_swarm_says_what_was_expected(
    case: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(case["argv"])

    printed = capsys.readouterr()
    assert code == 2
    assert case["says"] in printed.err
    assert printed.err.startswith("reco3 swarm: ")
    assert "sekrit" not in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_a_good_command_line_is_taken_with_its_defaults() -> None:
    options = parse_arguments(["run", "--base-url", "http://127.0.0.1:5001/base/", "--pcs", "7", "--seconds", "60"])

    assert (options.target.base_path, options.start_spread_s, options.pull_wait) == ("/base", 10.0, 25)
    assert options.connections is None
    assert options.held_pulls >= 7


def test_an_operators_key_is_not_sent_to_another_machine_in_clear_text(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("sekrit")
    argv = ["run", "--pcs", "1", "--seconds", "60", "--operator-key-file", str(key_file)]

    code = main([*argv, "--base-url", "http://192.0.2.1:9"])

    printed = capsys.readouterr()
    assert code == 2
    assert "is not sent over plain http to another machine" in printed.err
    assert "sekrit" not in printed.err


def test_a_pcs_key_follows_from_seed_and_id(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["keys", "--pcs", "2500", "--seed", "abc"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert len(lines) == len(set(lines)) == 2500
    assert lines[1234] == "sim-001234=" + hashlib.sha256(b"abc:sim-001234").hexdigest()[:32]


@pytest.mark.parametrize(("count", "workers"), [(10, 3), (7, 7), (3, 5), (100_000, 12)])
def test_workers_share_all_pcs_without_gap_or_overlap(count: int, workers: int) -> None:
    parts = shares(count, workers)

    assert [number for part in parts for number in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_no_worker_needs_more_descriptors_than_it_may_have() -> None:
    assert workers_for(100, 20_000) == 1
    assert workers_for(200_000, 20_000) == 12
    assert workers_for(18_001, 1_000_000) == 2
    assert workers_for(1_000, 1_024) == 2


def test_connections_to_loopback_come_from_many_addresses_and_others_from_none_of_ours() -> None:
    here, elsewhere = parse_target("http://127.0.0.1:5001"), parse_target("http://192.0.2.1:5001")

    assert len(set(source_addresses(here, 0)) | set(source_addresses(here, 1))) == 32
    assert all(address.startswith("127.") for address in source_addresses(here, 0))
    assert source_addresses(elsewhere, 0) == ()
