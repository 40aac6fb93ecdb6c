"""Times as a person reads them, from the server's RFC 3339 texts.

It refuses to read a clock: the server's `now` comes with its answers.
"""

from datetime import datetime, timedelta

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400


def parse_time(text: object) -> datetime | None:
    """The moment, or None when the text is none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def clock_text(text: object) -> str:
    """The moment in this machine's time zone, with its date; `-` when there is none."""
    moment = parse_time(text)
    try:
        return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else "-"
    except (OverflowError, OSError, ValueError):
        return "-"


def epoch_text(time_ms: float) -> str:
    """Milliseconds since 1970 as a clock time; a number that is no time stays a number."""
    try:
        return datetime.fromtimestamp(time_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return str(time_ms)


def between(start: object, end: object) -> float | None:
    """Seconds from one moment to another, None when either is missing."""
    first, last = parse_time(start), parse_time(end)
    return (last - first) / timedelta(seconds=1) if first and last else None


def duration_text(duration_s: float) -> str:
    """A length of time with the precision that matters at its size."""
    if duration_s < 1:
        return f"{max(0, round(duration_s * 1000))} ms"
    if duration_s < MINUTE_S:
        return f"{duration_s:.2f} s"
    seconds = round(duration_s)
    if seconds < HOUR_S:
        return f"{seconds // MINUTE_S} min {seconds % MINUTE_S:02} s"
    if seconds < 2 * DAY_S:
        return f"{seconds // HOUR_S} h {seconds % HOUR_S // MINUTE_S:02} min"
    return f"{seconds // DAY_S} days"
