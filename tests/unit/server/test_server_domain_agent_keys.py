"""The rules about agents' keys: what the settings bring back, who may use a token, and who is a clone."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import PC, cases
from fakes import START
from reco3.server.domain.agent_keys import AgentKey, KeySource, is_key_hash, retired, rotated, seeded
from reco3.server.domain.clones import MAX_LEFT, Trail, follow
from reco3.server.domain.enrolments import TOKEN_LIFETIME, EnrolmentToken, TokenStatus, opens_for, status_of

LATER = START + timedelta(days=1)


def known_key(case: dict[str, Any] | None) -> AgentKey | None:
    if case is None:
        return None
    return AgentKey(
        PC,
        case["key"],
        START,
        KeySource(case.get("source", "settings")),
        next_key_hash=case.get("next"),
        revoked_at=START if case.get("revoked") else None,
        settings_key_hash=case["settings"],
    )


@pytest.mark.parametrize("case", cases("seeded_keys"), ids=lambda case: case["name"])
def test_a_start_goes_by_the_settings_when_they_changed_and_else_by_what_happened_since(case: dict[str, Any]) -> None:
    key = seeded(known_key(case["known"]), PC, case["seed"], LATER)

    assert (None if key.is_revoked else key.key_hash) == case["opens"]
    assert key.next_key_hash == case.get("next")
    assert key.settings_key_hash == case["seed"]
    found = retired(key)
    assert (found.why if found else None) == case["retired"]


def test_a_key_that_changed_in_the_settings_is_one_of_the_settings_and_of_now() -> None:
    key = seeded(AgentKey(PC, "e", START, KeySource.ENROLLED, clone_suspected_at=START), PC, "a", LATER)

    assert (key.source, key.created_at, key.clone_suspected_at) == (KeySource.SETTINGS, LATER, None)


def test_a_key_that_never_stood_in_the_settings_is_not_missed_there() -> None:
    assert retired(AgentKey(PC, "e", START, KeySource.ENROLLED, revoked_at=START)) is None


def test_after_a_rotation_only_the_next_key_is_left() -> None:
    key = rotated(AgentKey(PC, "a", START, next_key_hash="b", settings_key_hash="a"), LATER)

    assert key == AgentKey(PC, "b", LATER, settings_key_hash="a")


@pytest.mark.parametrize(
    ("text", "is_hash"),
    [("a" * 64, True), ("A" * 64, False), ("a" * 63, False), ("a" * 65, False), ("g" * 64, False), ("", False)],
)
def test_a_key_hash_is_a_sha_256_in_lower_case(text: str, is_hash: bool) -> None:
    assert is_key_hash(text) is is_hash


TOKEN = EnrolmentToken("t-1", "hash", None, may_replace=False, created_by="admin", created_at=START, expires_at=LATER)


def test_a_token_is_open_until_its_time_is_over_or_it_was_used() -> None:
    assert timedelta(minutes=15) == TOKEN_LIFETIME
    assert status_of(TOKEN, LATER - timedelta(milliseconds=1)) is TokenStatus.OPEN
    assert status_of(TOKEN, LATER) is TokenStatus.EXPIRED
    assert status_of(replace(TOKEN, used_at=START), START) is TokenStatus.USED
    assert status_of(replace(TOKEN, used_at=START), LATER) is TokenStatus.USED


@pytest.mark.parametrize(
    ("bound_to", "asks_as", "opens"),
    [(None, "pc-7", True), (None, None, True), ("pc-7", "pc-7", True), ("pc-7", None, True), ("pc-7", "pc-8", False)],
)
def test_a_token_opens_for_the_pc_that_it_names(bound_to: str | None, asks_as: str | None, opens: bool) -> None:
    token = replace(TOKEN, agent_id=bound_to)

    assert opens_for(token, asks_as, START) is opens
    assert not opens_for(token, asks_as, LATER)


@pytest.mark.parametrize("case", cases("clones"), ids=lambda case: case["name"])
def test_a_clone_is_what_comes_back(case: dict[str, Any]) -> None:
    trail, alarms = Trail(case["pulls"][0][1]), []
    for index, (seconds, name) in enumerate(case["pulls"]):
        step = follow(trail, name, START + timedelta(seconds=seconds), returns=case.get("returns", 1))
        trail = step.trail
        if step.is_clone:
            alarms.append(index)

    assert alarms == case["alarms"]


def test_an_endless_row_of_journals_is_not_remembered() -> None:
    trail = Trail("first")
    for number in range(100):
        trail = follow(trail, f"journal-{number}", START + timedelta(seconds=number), returns=1).trail

    assert len(trail.left) == MAX_LEFT
