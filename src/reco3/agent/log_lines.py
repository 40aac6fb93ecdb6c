"""Reads one log line: whether it is a WARN, ERROR or CRITICAL, when it was written, and its code.

It refuses to take a word for a level: a line that says INFO is no error, whatever else it says.
"""

import contextlib
import functools
import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from reco3.protocol.commands import Severity
from reco3.protocol.limits import MAX_LOG_CODE_CHARS, MAX_LOG_MESSAGE_CHARS
from reco3.protocol.messages import LogEntry

MAX_LINE_BYTES = 16 * 1024

_HEADER_CHARS = 256
_FIELDS_CHARS = 4096

_LEVELS: Mapping[str, Severity] = {
    **dict.fromkeys(("emerg", "emergency", "alert", "crit", "critical", "fatal", "panic", "ftl"), Severity.CRITICAL),
    **dict.fromkeys(("error", "err", "severe"), Severity.ERROR),
    **dict.fromkeys(("warn", "warning", "wrn"), Severity.WARN),
    **dict.fromkeys(("info", "information", "notice", "debug", "trace", "verbose", "inf", "dbg"), Severity.INFO),
}
# Words that name a level only in capitals: in prose they are too common.
_CAPITAL_LEVELS: Mapping[str, Severity] = dict.fromkeys(("LOG", "CONFIG", "FINE", "FINER", "FINEST"), Severity.INFO)

_WORDS = "|".join(sorted(_LEVELS, key=len, reverse=True))
_CAPITALS = "|".join(sorted([*map(str.upper, _LEVELS), *_CAPITAL_LEVELS], key=len, reverse=True))
_LEVEL_PATTERNS = (
    re.compile(rf"(?<![\w./=\\\"'%-])(?P<bare>{_CAPITALS})(?![\w=.\\%-])"),
    re.compile(rf"[\[<(] ?(?:[\w.-]{{1,40}}:)?({_WORDS}) ?[\])>]", re.IGNORECASE),
    re.compile(rf"(?<=\w\.)({_CAPITALS})(?=:)"),
    re.compile(rf"(?:^|(?<=[\s\])]))(?P<bare>{_WORDS}) ?:(?=\s|$)", re.IGNORECASE),
)
# A character that each of them needs: looking for it is cheaper than looking for the pattern.
_NEEDED = (("",), ("[", "<", "("), (".",), (":",))
_LEVEL_FIELD = re.compile(
    rf"(?:^|(?<=[\s,{{(\[]))(?:level|lvl|severity|loglevel|log_level|levelname)=[\"']?({_WORDS})(?!\w)", re.IGNORECASE
)
# What is left of a JSON line that was cut or is not quite JSON.
_QUOTED_LEVEL_FIELD = re.compile(
    rf"[\"'](?:level|lvl|severity|loglevel|log_level|levelname|log\.level)[\"']\s?:\s?[\"']?({_WORDS}|\d{{1,2}})(?!\w)",
    re.IGNORECASE,
)
_KLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d")
_KLOG_LEVELS: Mapping[str, Severity] = {
    "I": Severity.INFO,
    "W": Severity.WARN,
    "E": Severity.ERROR,
    "F": Severity.CRITICAL,
}
_SYSLOG_PRIORITY = re.compile(r"<(\d{1,3})>")
_COUNT_BEFORE = re.compile(r"(?:^|\W)(?:0|no|zero)\s$", re.IGNORECASE)
_COUNT_AFTER = re.compile(r"\s?[:=]\s?(?:0|none|null|nil|false)\s*(?:$|[,;)])", re.IGNORECASE)
_BARE_EXCEPTION = re.compile(r"(?:[\w$]{1,80}\.){0,20}[A-Z]\w{0,80}(?:Error|Exception)(?::|$)")
_IMPLIED_ERRORS = ("Traceback (most recent call last)", "Exception in thread ", "Unhandled exception")
_PANIC = "panic: "

# Cheap substrings without which no line can carry a level that we keep.
_HINTS = (
    *(b"err", b"warn", b"crit", b"fatal", b"panic", b"emerg", b"alert", b"severe", b"exception", b"traceback"),
    *(b"wrn", b"ftl"),
)


def may_matter(line: bytes) -> bool:
    """Whether a line is worth decoding at all; a cheap look that never misses one that is."""
    first = line[:1]
    if first in (b"{", b"<") or (first in (b"E", b"W", b"F") and line[1:5].isdigit()):
        return True
    lowered = line[: MAX_LINE_BYTES + 1].lower()
    for hint in _HINTS:  # noqa: SIM110 - this runs for every line there is, and a generator triples what it costs
        if hint in lowered:
            return True
    return False


_ANSI = re.compile(r"\x1b\[[0-9;?]{0,32}[A-Za-z]")
# Control characters, and those that turn or hide text; the joiners of scripts and emoji stay.
_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def _escape(unsafe: re.Match[str]) -> str:
    code = ord(unsafe[0])
    if code <= 0xFF:  # noqa: PLR2004 - what two hexadecimal digits hold
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - what four hold


def visible(text: str) -> str:
    """The text with control, bidi and invisible characters spelt out."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escape, text)


def decode_line(line: bytes) -> str:
    r"""The line as text; bytes that are no UTF-8 become `\xNN`."""
    return visible(line.decode("utf-8", "backslashreplace"))


def extract_entry(line: bytes, *, now: datetime, meta: dict[str, Any] | None = None) -> LogEntry | None:
    """Make an entry of a line whose level is WARN, ERROR or CRITICAL, or None of any other line.

    `now` stands in where the line tells no time of its own; a time without a zone is the PC's local time.
    """
    text = line.decode("utf-8", "backslashreplace")
    if (usual := _USUAL_START.match(text)) is not None and "\x1b" not in text:
        level = _CAPITAL_WORDS[usual["bare"]]
        if not _is_count(text[:_HEADER_CHARS], usual, "bare"):
            if level is Severity.INFO:
                return None
            ts_text = _usual_ts(usual) or format_ts(now)
            return LogEntry(visible(text)[:MAX_LOG_MESSAGE_CHARS], ts_text, level, _code_of_text(text), meta)
    return _extract_unusual(text, now=now, meta=meta)


def _extract_unusual(text: str, *, now: datetime, meta: dict[str, Any] | None) -> LogEntry | None:
    plain = _ANSI.sub("", text) if "\x1b" in text else text
    fields = _json_fields(plain)
    level = _level_of_fields(fields) if fields is not None else _level_of_text(plain)
    if level is None or level is Severity.INFO:
        return None
    ts = (_ts_of_fields(fields) if fields is not None else None) or _ts_of_text(plain, now) or now
    code = (_code_of_fields(fields) if fields is not None else None) or _code_of_text(plain)
    return LogEntry(visible(text)[:MAX_LOG_MESSAGE_CHARS], format_ts(ts), level, code, meta)


def _level_of_text(text: str) -> Severity | None:
    if (klog := _KLOG.match(text)) is not None:
        return _KLOG_LEVELS[klog[1]]
    if (priority := _SYSLOG_PRIORITY.match(text)) is not None:
        return _syslog_level(int(priority[1]) & 7)
    stated = _first_stated_level(text)
    return stated if stated is not None else _implied_level(text)


def _first_stated_level(text: str) -> Severity | None:
    """Take the level that stands first in the line: what follows is the message and may speak of anything."""
    header = text[:_HEADER_CHARS]
    found = [
        (match.start(1), match[1])
        for pattern, needed in zip(_LEVEL_PATTERNS, _NEEDED, strict=True)
        if any(sign in header for sign in needed) and (match := _first_match(pattern, header)) is not None
    ]
    found += [
        (match.start(1), match[1])
        for pattern in (_LEVEL_FIELD, _QUOTED_LEVEL_FIELD)
        if (match := pattern.search(text, 0, _FIELDS_CHARS)) is not None
    ]
    return _named_level(min(found)[1]) if found else None


def _first_match(pattern: re.Pattern[str], header: str) -> re.Match[str] | None:
    for match in pattern.finditer(header):
        if "bare" not in pattern.groupindex or not _is_count(header, match):
            return match
    return None


def _is_count(header: str, match: re.Match[str], group: str | int = 1) -> bool:
    """Whether the word counts errors rather than naming a level: `0 errors`, `ERROR: 0`."""
    start, end = match.span(group)
    is_counted_before = _COUNT_BEFORE.search(header[max(0, start - 8) : start]) is not None
    return is_counted_before or _COUNT_AFTER.match(header, end) is not None


def _named_level(word: str) -> Severity | None:
    if word.isdecimal():
        return _numeric_level(int(word))
    return _LEVELS.get(word.lower()) or _CAPITAL_LEVELS.get(word)


def _implied_level(text: str) -> Severity | None:
    if text.startswith(_PANIC):
        return Severity.CRITICAL
    if text.startswith(_IMPLIED_ERRORS) or _BARE_EXCEPTION.match(text):
        return Severity.ERROR
    return None


def _syslog_level(number: int) -> Severity:
    levels = (Severity.CRITICAL, Severity.CRITICAL, Severity.CRITICAL, Severity.ERROR, Severity.WARN)
    return levels[number] if number < len(levels) else Severity.INFO


def _numeric_level(number: float) -> Severity:
    """Read pino's and bunyan's numbers (40 warn, 50 error, 60 fatal), and below ten those of syslog."""
    if 0 <= number < 10:  # noqa: PLR2004 - the two scales do not overlap
        return _syslog_level(int(number))
    scale = ((60, Severity.CRITICAL), (50, Severity.ERROR), (40, Severity.WARN))
    return next((level for floor, level in scale if number >= floor), Severity.INFO)


_LEVEL_KEYS = ("level", "severity", "lvl", "loglevel", "log_level", "levelname", "log.level", "@level", "@l")
_TIME_KEYS = ("timestamp", "@timestamp", "time", "ts", "datetime", "date", "@t")
_CODE_KEYS = ("code", "error_code", "errorcode", "errcode", "err_code", "error.code")
_MAX_NESTING = 3


def _json_fields(text: str) -> Mapping[str, Any] | None:
    """Parse a line that is a JSON object; keys lower-cased, a nested `log` object or Docker's `log` text unfolded."""
    if not text.startswith("{"):
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    fields = {str(key).lower(): value for key, value in parsed.items()}
    log = fields.get("log")
    if isinstance(log, dict) and "level" in log:
        fields.setdefault("level", log["level"])
    return fields


def _level_of_fields(fields: Mapping[str, Any]) -> Severity | None:
    for key in _LEVEL_KEYS:
        if key in fields:
            return _level_of_value(fields[key])
    docker_line = fields.get("log")
    return _level_of_text(_ANSI.sub("", docker_line)) if isinstance(docker_line, str) else None


def _level_of_value(value: object) -> Severity | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _numeric_level(value)
    word = value.strip() if isinstance(value, str) else ""
    if word.isascii() and word.isdecimal() and len(word) <= 3:  # noqa: PLR2004 - no scale of levels has four digits
        return _numeric_level(int(word))
    return _LEVELS.get(word.lower())


_CODE_FIELD = re.compile(r"(?<![A-Za-z0-9])(?:error_?|err_?)?code[\"']?\s?[=:]\s?[\"']?([\w.:-]{1,128})", re.IGNORECASE)
_CODE_TOKEN = re.compile(
    r"(?<![\w-])(ERR_[A-Z0-9_]{1,100}|E\d{3,5}|(?!ISO|RFC|SHA|AES|CVE|UTF|IEEE)[A-Z]{2,6}-\d{3,6})(?![\w-])"
)
_EXCEPTION_NAME = re.compile(r"(?<!\w)([A-Z]\w{0,100}?(?:Error|Exception))(?=:|\s|\(|\]|,|$)")


def _code_of_fields(fields: Mapping[str, Any]) -> str | None:
    for key in _CODE_KEYS:
        value = fields.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return visible(str(value).strip())[:MAX_LOG_CODE_CHARS]
    return None


def _code_of_text(text: str) -> str | None:
    searched = _KLOG.sub("", text[:_FIELDS_CHARS], count=1)
    match = _CODE_FIELD.search(searched) if "code" in searched.lower() else None
    match = match or _CODE_TOKEN.search(searched)
    if match is None and ("Error" in searched or "Exception" in searched):
        match = _EXCEPTION_NAME.search(searched)
    return None if match is None else match[1].rstrip(".:-")[:MAX_LOG_CODE_CHARS] or None


_ISO = re.compile(
    r"(?<!\d)(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?"
    r"(Z|[+-]\d\d(?::?\d\d)?(?!\d)| ?(?:UTC|GMT|Z)\b| [+-]\d{4}(?!\d))?"
)
# How most lines begin: nothing that names a level can stand before the level, so no other pattern is needed.
_USUAL_START = re.compile(_ISO.pattern + rf"[ \t]{{1,8}}[\[<(]?(?P<bare>{_CAPITALS})(?![\w=.\\%-])")
_CAPITAL_WORDS: Mapping[str, Severity] = {
    **{word.upper(): level for word, level in _LEVELS.items()},
    **_CAPITAL_LEVELS,
}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SYSLOG_TIME = re.compile(
    rf"(?:^|(?<=[\s\[>]))({'|'.join(_MONTHS)}) {{1,2}}(\d{{1,2}}) (\d\d):(\d\d):(\d\d)(?:\.(\d{{1,9}}))?"
    r"(?: (\d{4})(?!\d))?"
)
_KLOG_TIME = re.compile(r"[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?")
_TIME_CHARS = 200
_SECOND_CHARS = len("2026-11-23T10:00:00")


def _ts_of_text(text: str, now: datetime) -> datetime | None:
    head = text[:_TIME_CHARS]
    try:
        if (iso := _ISO.search(head)) is not None:
            return _ts_of_iso(iso)
        if (klog := _KLOG_TIME.match(head)) is not None:
            month, day, *clock = klog.groups()
            return _ts_without_year(int(month), int(day), clock, now)
        if (syslog := _SYSLOG_TIME.search(head)) is not None:
            name, day, hour, minute, second, fraction, year = syslog.groups()
            month_number = _MONTHS.index(name) + 1
            clock = [hour, minute, second, fraction]
            if year is None:
                return _ts_without_year(month_number, int(day), clock, now)
            return _local(int(year), month_number, int(day), clock)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _usual_ts(usual: re.Match[str]) -> str | None:
    """The time at the start of a line as `format_ts` writes it, or None when there is no such time."""
    fraction, zone = usual[7], usual[8]
    second = _utc_second(usual[0][:_SECOND_CHARS], zone, None if zone else time.tzname)
    return None if second is None else f"{second}.{((fraction or '') + '000')[:3]}Z"


@functools.lru_cache(maxsize=16)
def _utc_second(local_second: str, zone: str | None, _local_zone: tuple[str, str] | None) -> str | None:
    """Many lines share a second, and to convert one costs as much as all the rest."""
    iso = _ISO.match(local_second + (zone or ""))
    try:
        return None if iso is None else format_ts(_ts_of_iso(iso))[:_SECOND_CHARS]
    except (ValueError, OverflowError, OSError):
        return None


def _ts_of_iso(iso: re.Match[str]) -> datetime:
    year, month, day, *clock, zone = iso.groups()
    local = _naive(int(year), int(month), int(day), clock)
    if zone is None:
        return local.astimezone(UTC)
    zone = zone.strip()
    if zone in ("Z", "UTC", "GMT"):
        return local.replace(tzinfo=UTC)
    minutes = int(zone[1:3]) * 60 + int(zone[3:].lstrip(":") or 0)
    return local.replace(tzinfo=UTC) - timedelta(minutes=minutes if zone[0] == "+" else -minutes)


def _ts_without_year(month: int, day: int, clock: Sequence[str | None], now: datetime) -> datetime:
    """Take this year, or last year when that would lie in the future: December's lines are read in January."""
    this_year = _local(now.year, month, day, clock)
    return this_year if this_year <= now + timedelta(days=1) else _local(now.year - 1, month, day, clock)


def _local(year: int, month: int, day: int, clock: Sequence[str | None]) -> datetime:
    return _naive(year, month, day, clock).astimezone(UTC)


def _naive(year: int, month: int, day: int, clock: Sequence[str | None]) -> datetime:
    hour, minute, second, fraction = clock
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    seconds = (int(hour or 0), int(minute or 0), int(second or 0))
    return datetime(year, month, day, *seconds, microsecond)  # noqa: DTZ001 - the PC's local time, or zoned by the caller


def _ts_of_fields(fields: Mapping[str, Any]) -> datetime | None:
    for key in _TIME_KEYS:
        value = fields.get(key)
        if isinstance(value, str) and (iso := _ISO.search(value[:_TIME_CHARS])) is not None:
            with contextlib.suppress(ValueError, OverflowError, OSError):
                return _ts_of_iso(iso)
        if isinstance(value, int | float) and not isinstance(value, bool):
            with contextlib.suppress(ValueError, OverflowError, OSError):
                return _ts_of_epoch(value)
    return None


def _ts_of_epoch(number: float) -> datetime | None:
    """Read seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size."""
    for floor, divisor in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (1e8, 1.0)):
        if number >= floor:
            return datetime.fromtimestamp(number / divisor, UTC)
    return None


def format_ts(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
