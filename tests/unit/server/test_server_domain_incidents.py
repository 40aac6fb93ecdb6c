"""Incidents: which line opens one, what counts as the same trouble, and how it grows."""

from datetime import timedelta

import pytest

from builders import PC, entry
from fakes import START
from reco3.server.domain.incidents import IncidentStatus, Sighting, bumped, merged, opened, sighting_of
from reco3.server.domain.logs import line_of

LATER = START + timedelta(minutes=1)


def code_of(message: str, **changes: object) -> str:
    sighting = sighting_of(line_of(PC, entry(message, **changes), START))
    assert sighting is not None
    return sighting.code


@pytest.mark.parametrize(("level", "opens"), [("CRITICAL", True), ("ERROR", True), ("WARN", False), ("INFO", False)])
def test_only_errors_open_incidents(level: str, opens: bool) -> None:
    sighting = sighting_of(line_of(PC, entry(level=level), START))

    assert (sighting is not None) is opens


def test_a_line_with_a_code_is_known_by_it() -> None:
    assert code_of("whatever", code="DISK_FULL") == "DISK_FULL"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("timeout after 30 s", "timeout after 31 s"),
        ("request 7f3a9c01bd failed", "request 00ffee11aa22 failed"),
        ("bad pointer 0x7ffe01", "bad pointer 0x12"),
        ('user "ann" is unknown', 'user "bob" is unknown'),
        ("file '/a/b' is gone", "file '/c' is gone"),
    ],
)
def test_numbers_ids_and_quoted_values_do_not_make_another_trouble(first: str, second: str) -> None:
    assert code_of(first) == code_of(second)


def test_another_text_is_another_trouble() -> None:
    assert code_of("disk failure") != code_of("network failure")


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    assert code_of("disk failure on /dev/sda1") == "LOG-73058842"


def test_a_first_sighting_opens_an_incident_that_names_the_pc() -> None:
    incident = opened(Sighting(PC, "DISK", "ERROR", "x" * 9_000, START), "incident-1")

    assert incident.title == f"Agent {PC}: ERROR DISK"
    assert (incident.status, incident.count, incident.ts_open) == (IncidentStatus.OPEN, 1, START)
    assert len(incident.summary) == 500


def test_another_sighting_is_counted_and_shown() -> None:
    first = opened(Sighting(PC, "DISK", "ERROR", "first", START), "incident-1")

    again = bumped(first, Sighting(PC, "DISK", "ERROR", "second", LATER))

    assert (again.id, again.count, again.summary) == ("incident-1", 2, "second")
    assert (again.ts_open, again.last_seen_at) == (START, LATER)


@pytest.mark.parametrize(
    ("before", "seen", "after"),
    [("ERROR", "CRITICAL", "CRITICAL"), ("CRITICAL", "ERROR", "CRITICAL"), ("INFO", "WARN", "WARN")],
)
def test_an_incident_is_as_severe_as_its_worst_sighting(before: str, seen: str, after: str) -> None:
    first = opened(Sighting(PC, "DISK", before, "", START), "incident-1")

    again = bumped(first, Sighting(PC, "DISK", seen, "", LATER))

    assert again.severity == after
    assert again.title == f"Agent {PC}: {after} DISK"


def test_sightings_of_one_trouble_on_one_pc_count_as_one_as_severe_as_the_worst() -> None:
    seen = [
        Sighting(PC, "DISK", "ERROR", "first", START),
        Sighting(PC, "NET", "ERROR", "cable", START),
        Sighting(PC, "DISK", "CRITICAL", "second", START),
        Sighting("pc-002", "DISK", "ERROR", "elsewhere", START),
        Sighting(PC, "DISK", "ERROR", "last", LATER),
    ]

    assert merged(seen) == [
        Sighting(PC, "DISK", "CRITICAL", "last", LATER, count=3),
        Sighting(PC, "NET", "ERROR", "cable", START),
        Sighting("pc-002", "DISK", "ERROR", "elsewhere", START),
    ]


def test_merged_sightings_make_the_incident_that_they_make_one_by_one() -> None:
    seen = [
        Sighting(PC, "DISK", severity, f"{n}", START + timedelta(seconds=n))
        for n, severity in enumerate(["ERROR", "CRITICAL", "ERROR"])
    ]
    one_by_one = opened(seen[0], "incident-1")
    for sighting in seen[1:]:
        one_by_one = bumped(one_by_one, sighting)

    (together,) = merged(seen)
    incident = opened(together, "incident-1")

    assert (incident.count, incident.severity, incident.summary, incident.title, incident.last_seen_at) == (
        one_by_one.count,
        one_by_one.severity,
        one_by_one.summary,
        one_by_one.title,
        together.at,
    )
