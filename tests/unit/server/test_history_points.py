"""Points: what goes in comes out, in the row's text and in the packs, and damage stays where it is."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import PC
from fakes import START
from reco3.server.domain.columns import DamagedColumn, pack_columns, unpack_columns
from reco3.server.domain.metrics import Sample
from reco3.server.domain.points import (
    MISSING,
    POINT_CHARS,
    Points,
    Row,
    pack_points,
    point_text,
    points_of,
    read_points,
    sample_of_row,
    text_of,
    unpack_points,
)

SAMPLE = Sample(PC, START + timedelta(milliseconds=7), 12.34, 0.0, 100.0, 10_000_000_000, 2**62)
ROW: Row = (1_900_000_000_000, 0, 1_234, 0, 10_000, 10_000_000_000, 7)

shares = st.just(MISSING) | st.integers(0, 2**15 - 1)
totals = st.just(MISSING) | st.integers(0, 2**62)
rows = st.tuples(st.integers(0, 2**42 - 1), st.integers(0, 1), shares, shares, shares, totals, totals)


def later(row: Row, milliseconds: int) -> Row:
    return (row[0] + milliseconds, *row[1:])


def pack(written: list[Row]) -> bytes:
    return pack_points(points_of(written), 0, len(written))


def test_a_sample_survives_as_text() -> None:
    text = point_text(SAMPLE, is_restart=True)

    points = read_points(text)

    assert len(text) == POINT_CHARS
    assert [sample_of_row(PC, row) for row in points.rows()] == [SAMPLE]
    assert points.restarts == (1,)


def test_what_is_missing_stays_missing() -> None:
    nothing = Sample(PC, START, None, None, None, None, None)

    points = read_points(point_text(nothing, is_restart=False))

    assert [sample_of_row(PC, row) for row in points.rows()] == [nothing]


def test_a_share_beyond_the_scale_is_cut_and_a_total_beyond_it_is_missing() -> None:
    wild = Sample(PC, START, 1e9, 327.68, 327.66, 2**63 - 1, 2**62 + 1)

    (row,) = read_points(point_text(wild, is_restart=False)).rows()

    cut = replace(wild, cpu_percent=327.67, mem_percent=327.67, net_bytes_sent=None, net_bytes_recv=None)
    assert sample_of_row(PC, row) == cut


@given(st.lists(rows))
def test_every_point_survives_as_text(written: list[Row]) -> None:
    assert read_points(text_of(written)) == points_of(written)


@given(st.lists(rows))
def test_every_point_survives_in_a_pack(written: list[Row]) -> None:
    assert unpack_points(pack(written)) == points_of(written).rows()


def test_packs_may_be_joined_and_long_ones_are_split() -> None:
    many = [later(ROW, number) for number in range(2_500)]

    assert unpack_points(pack(many[:5]) + pack(many[5:])) == many


@given(st.text(max_size=200), st.text(max_size=200))
def test_points_around_a_damage_are_read(before: str, after: str) -> None:
    good = text_of([ROW])

    assert ROW in read_points(f"{before}{good}.{after}").rows()


@pytest.mark.parametrize(
    "damage", ["", ".", "." * 50, "x" * 500, ".é" + "A" * 39, "." + "=" * 40, "." + "A" * 39, "\0" * 41]
)
def test_a_text_of_nonsense_has_no_points(damage: str) -> None:
    assert read_points(damage) == Points()


@given(st.binary(max_size=200))
def test_a_pack_of_nonsense_is_read_without_an_error(damage: bytes) -> None:
    unpack_points(damage)
    assert unpack_points(pack([ROW]) + damage)[0] == ROW


def test_a_pack_that_was_cut_keeps_its_whole_segments() -> None:
    assert unpack_points((pack([ROW]) + pack([ROW]))[:-1]) == [ROW]


def test_a_carried_point_is_a_predecessor_and_does_not_count() -> None:
    ghost = (ROW[0] - 10_000, 1, *ROW[2:])

    points = read_points(text_of([ROW], carried=ghost))

    assert points.rows() == [ROW]
    assert points.at_ms == (ghost[0], ROW[0])
    assert points.restarts == (0, 0)


def test_a_carried_point_that_a_clock_set_back_left_in_the_future_is_dropped() -> None:
    assert read_points(text_of([ROW], carried=later(ROW, 5))) == points_of([ROW])


@given(st.lists(st.lists(st.integers(-(2**61), 2**61), min_size=4, max_size=4), min_size=1, max_size=5))
def test_columns_come_out_as_they_went_in(columns: list[list[int]]) -> None:
    assert unpack_columns(pack_columns(columns), columns=len(columns), rows=4) == columns


def test_a_column_that_never_changes_costs_its_first_value_only() -> None:
    assert len(pack_columns([[70_000] * 30])) == 4


@pytest.mark.parametrize("damage", [b"", b"\xff", b"\x11\x02", b"\x00\x00", b"\x90" + bytes(9)])
def test_bytes_that_are_no_column_are_refused(damage: bytes) -> None:
    with pytest.raises(DamagedColumn):
        unpack_columns(damage, columns=1, rows=3)
