"""Columns of whole numbers as few bytes: each value as its difference from the one before, as wide as it needs.

It knows nothing of what the numbers mean, and refuses bytes that it did not write.

A column is one byte for two widths, the first value, then the differences plane by plane (all lowest bytes first).
Both are zigzag numbers, so that small negative ones stay small; a column that never changes has no planes at all.
"""

import struct
from collections.abc import Sequence
from itertools import pairwise

MAX_WIDTH_BYTES = 8
_HIGH_NIBBLE = 4
_LOW_NIBBLE_MASK = 0x0F
_WORD_BYTES = 8
_SIGN = 64


class DamagedColumn(ValueError):
    """These bytes are no column."""


def pack_columns(columns: Sequence[Sequence[int]]) -> bytes:
    """Columns of one length, none empty, as bytes; every value and difference fits 63 bits."""
    return b"".join([_packed(values) for values in columns])


def unpack_columns(packed: bytes, *, columns: int, rows: int) -> list[list[int]]:
    """So many columns of so many rows.

    Raises:
        DamagedColumn: the bytes are too few, too many, or of an impossible width.
    """
    found: list[list[int]] = []
    offset = 0
    for _ in range(columns):
        values, offset = _unpacked(packed, offset, rows)
        found.append(values)
    if offset != len(packed):
        raise DamagedColumn(f"expected {offset} bytes, got {len(packed)}")
    return found


def _packed(values: Sequence[int]) -> bytes:
    if not any(values):
        return b"\0"
    first = values[0]
    first = first << 1 ^ first >> _SIGN
    # Zigzag: 0, -1, 1, -2, … become 0, 1, 2, 3, …
    steps = [(after - before) << 1 ^ (after - before) >> _SIGN for before, after in pairwise(values)]
    first_width, step_width = _width(first), _width(max(steps, default=0))
    head = bytes((first_width << _HIGH_NIBBLE | step_width,)) + first.to_bytes(first_width, "little")
    if step_width == 0:
        return head
    if step_width == 1:
        return head + bytes(steps)
    words = struct.pack(f"<{len(steps)}Q", *steps)
    return head + b"".join([words[plane::_WORD_BYTES] for plane in range(step_width)])


def _unpacked(packed: bytes, offset: int, rows: int) -> tuple[list[int], int]:
    if offset >= len(packed):
        raise DamagedColumn("expected another column, got nothing")
    first_width, step_width = packed[offset] >> _HIGH_NIBBLE, packed[offset] & _LOW_NIBBLE_MASK
    steps_at = offset + 1 + first_width
    steps, end = rows - 1, steps_at + step_width * (rows - 1)
    if max(first_width, step_width) > MAX_WIDTH_BYTES or end > len(packed):
        raise DamagedColumn(f"expected widths that fit, got {first_width} and {step_width}")
    words = bytearray(steps * _WORD_BYTES)
    for plane in range(step_width):
        words[plane::_WORD_BYTES] = packed[steps_at + plane * steps : steps_at + (plane + 1) * steps]
    value = _unzigzag(int.from_bytes(packed[offset + 1 : steps_at], "little"))
    values = [value]
    for step in struct.unpack(f"<{steps}Q", words):
        value += _unzigzag(step)
        values.append(value)
    return values, end


def _width(value: int) -> int:
    return (value.bit_length() + 7) // 8


def _unzigzag(value: int) -> int:
    return -(value >> 1) - 1 if value & 1 else value >> 1
