import itertools
from pathlib import Path

import pytest

from reco3.agent.journal import Journal
from reco3.agent.modes import ContactCounter, Modes, effective_mode
from reco3.protocol.commands import Mode


def counted(contacts: str, *, every_s: float = 10) -> ContactCounter:
    """`-` is a failed contact, `+` a good one."""
    counter = ContactCounter()
    for number, contact in enumerate(contacts):
        counter = counter.after_failure(number * every_s) if contact == "-" else counter.after_success()
    return counter


@pytest.mark.parametrize(
    ("contacts", "is_cut_off"),
    [
        ("", False),
        ("----", False),
        ("-----", True),
        ("----+-", False),
        ("----+----", False),
        ("-----+", True),
        ("-----++", True),
        ("-----+++", False),
        ("-----++-+", True),
        ("-----++-++", True),
        ("-----++-+++", False),
        ("-----+++----", False),
        ("-----+++-----", True),
    ],
)
def test_five_failures_in_a_row_cut_off_and_three_good_ones_bring_back(contacts: str, is_cut_off: bool) -> None:
    assert counted(contacts).is_cut_off is is_cut_off


@pytest.mark.parametrize(
    ("contacts", "every_s", "is_cut_off"),
    [
        ("-----", 0.1, False),
        ("-" * 100, 0.1, False),
        ("-" * 152, 0.1, True),
        ("-----", 3.7, False),
        ("-----", 3.75, True),
        ("-" * 50 + "+" + "-" * 100, 0.1, False),
        ("--", 60, False),
    ],
)
def test_failures_that_span_less_than_fifteen_seconds_are_no_outage(
    contacts: str, every_s: float, *, is_cut_off: bool
) -> None:
    assert counted(contacts, every_s=every_s).is_cut_off is is_cut_off


@pytest.mark.parametrize(
    ("chosen", "is_cut_off", "expected"),
    [
        (Mode.NORMAL, False, Mode.NORMAL),
        (Mode.NORMAL, True, Mode.SAFE),
        (Mode.SAFE, True, Mode.SAFE),
        (Mode.SAFE, False, Mode.SAFE),
        (Mode.LOCKED, True, Mode.LOCKED),
        (Mode.LOCKED, False, Mode.LOCKED),
    ],
)
def test_being_cut_off_never_loosens_what_was_chosen(chosen: Mode, is_cut_off: bool, expected: Mode) -> None:
    assert effective_mode(chosen, is_cut_off=is_cut_off) is expected


def test_an_agent_cut_off_is_safe_and_comes_back_to_normal(tmp_path: Path) -> None:
    seconds = itertools.count(0, 10)
    modes = Modes(Journal(tmp_path / "agent.db"), now_s=lambda: next(seconds))
    seen: list[Mode] = []
    modes.when_changed(lambda: seen.append(modes.current))

    for _ in range(5):
        modes.note_failure()
    for _ in range(3):
        modes.note_success()

    assert seen == [Mode.SAFE, Mode.NORMAL]


def test_an_agent_that_an_operator_set_safe_stays_safe_when_contact_is_back(tmp_path: Path) -> None:
    modes = Modes(Journal(tmp_path / "agent.db"), now_s=itertools.count(0, 10).__next__)
    modes.adopt(Mode.SAFE)

    for _ in range(5):
        modes.note_failure()
    for _ in range(3):
        modes.note_success()

    assert modes.current is Mode.SAFE


def test_an_operators_normal_holds_at_once_while_contact_is_only_just_back(tmp_path: Path) -> None:
    modes = Modes(Journal(tmp_path / "agent.db"), now_s=itertools.count(0, 10).__next__)
    for _ in range(5):
        modes.note_failure()
    modes.note_success()

    modes.adopt(Mode.NORMAL)

    assert modes.current is Mode.NORMAL


def test_a_mode_set_on_the_pc_itself_is_seen_at_the_next_look(tmp_path: Path) -> None:
    modes = Modes(Journal(tmp_path / "agent.db"), now_s=itertools.count(0, 10).__next__)
    Journal(tmp_path / "agent.db").choose_mode(Mode.LOCKED)

    modes.refresh()

    assert modes.current is Mode.LOCKED


def test_without_a_readable_journal_the_mode_is_safe(tmp_path: Path) -> None:
    (tmp_path / "agent.db").write_bytes(b"this is no database, and long enough to be looked at" * 100)

    assert Modes(Journal(tmp_path / "agent.db")).current is Mode.SAFE
