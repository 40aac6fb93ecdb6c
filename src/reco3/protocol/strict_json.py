"""Reads JSON of which there must be one way to write it, from whoever controls the server.

It refuses numbers that are not whole, keys that are there twice and keys that nobody knows.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_REASON_CHARS = 1_000
MAX_NAME_CHARS = 128
MAX_WHOLE = (1 << 53) - 1
LAST_SECOND = 253_402_300_799
TOKEN_PATTERN = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
_MAX_SHOWN_CHARS = 60

SIXTEEN_BYTES = "base64url of 16 bytes"
SECOND = "a whole number of Unix seconds"
NAME = f"1 to {MAX_NAME_CHARS} printable characters"


class BadEnvelope(ValueError):
    """Bytes or JSON that are not what is signed; `field` is the offending part, the text says what was expected."""

    code = "bad_envelope"

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field}: expected {expected}")
        self.field = field
        self.expected = expected


def load_strictly(body: bytes, max_bytes: int) -> object:
    """Read JSON that says everything once. Raises: BadEnvelope."""
    if not 1 <= len(body) <= max_bytes:
        raise BadEnvelope("body", f"1 to {max_bytes} bytes, got {len(body)}")
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except (ValueError, RecursionError) as error:
        raise BadEnvelope("body", "a JSON object in UTF-8, whole numbers only, each key once") from error


def read_fields(
    body: bytes, max_bytes: int, checks: Mapping[str, tuple[Callable[[object], bool], str]]
) -> dict[str, Any]:
    """The fields of bytes that have exactly those of `checks`, each as its check wants it. Raises: BadEnvelope."""
    fields = object_of("body", load_strictly(body, max_bytes))
    check_keys("body", fields, checks)
    for name, (is_right, expected) in checks.items():
        if not is_right(fields[name]):
            raise BadEnvelope(name, f"{expected}, got {shown(fields[name])}")
    return fields


def write_strictly(fields: Mapping[str, Any]) -> bytes:
    """The one way to write what `load_strictly` reads: keys as they come, no spaces. Raises: BadEnvelope."""
    try:
        return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:
        raise BadEnvelope("body", "JSON in UTF-8 of texts, whole numbers, true, false and null") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is there twice")
    return fields


def _refuse_number(text: str) -> object:
    raise ValueError(f"{text} is no whole number")


def object_of(field: str, raw: object) -> dict[str, Any]:
    """The object that something must be. Raises: BadEnvelope."""
    if not isinstance(raw, dict):
        raise BadEnvelope(field, f"an object, got {shown(raw)}")
    return raw


def check_keys(field: str, fields: Mapping[str, object], known: Mapping[str, object] | tuple[str, ...]) -> None:
    """Demand every known key and no other. Raises: BadEnvelope."""
    for name in fields:
        if name not in known:
            raise BadEnvelope(field, f"only the keys {', '.join(known)}, got {shown(name)}")
    for name in known:
        if name not in fields:
            raise BadEnvelope(name, "it to be there")


def is_whole(value: object) -> bool:
    """Whether every language reads it as the same whole number."""
    return isinstance(value, int) and not isinstance(value, bool) and -MAX_WHOLE <= value <= MAX_WHOLE


def is_second(value: object) -> bool:
    """Whether it is a Unix time in whole seconds."""
    return is_whole(value) and isinstance(value, int) and 0 < value <= LAST_SECOND


def is_name(value: object) -> bool:
    """Whether it can name somebody."""
    return isinstance(value, str) and 1 <= len(value) <= MAX_NAME_CHARS and value.isprintable()


def is_reason(value: object) -> bool:
    """Whether it is a reason, or null for none."""
    return value is None or (
        isinstance(value, str)
        and 1 <= len(value) <= MAX_REASON_CHARS
        and all(character.isprintable() or character in "\n\t" for character in value)
    )


def like(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    """What says whether something is a text of a pattern."""
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def shown(value: object) -> str:
    """Something that was sent, short and harmless enough for an error."""
    text = ascii(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "…"
