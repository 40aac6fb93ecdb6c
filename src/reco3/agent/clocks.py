"""What this PC's clock shows, beside the highest it ever showed.

It refuses to believe a clock that was set back: a command's time would never be over, and a budget never used up.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

REGRESSION_LIMIT = timedelta(seconds=120)
MINUTES_PER_HOUR = 60
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """One look at the clock: `highest` is what the journal remembers, `local_minute` counts from local midnight."""

    now: datetime
    highest: datetime
    local_minute: int

    @property
    def latest(self) -> datetime:
        """The time to judge by: a small step back does not lengthen anything."""
        return max(self.now, self.highest)

    @property
    def is_regressed(self) -> bool:
        """Whether the clock was set back too far to be believed."""
        return self.highest - self.now > REGRESSION_LIMIT


def read_clock(now: datetime, highest: datetime | None) -> Clock:
    """Take a look; `now` is UTC, and the local time of day is what a clock on this PC's wall shows then."""
    local = now.astimezone()
    return Clock(now, max(now, highest or now), local.hour * MINUTES_PER_HOUR + local.minute)


def as_text(moment: datetime) -> str:
    """RFC 3339 in UTC, always of the same length, so that texts sort as times do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: object) -> datetime | None:
    """Read an RFC 3339 time with its zone; None for anything else, and for what is older than computers' time."""
    if not isinstance(text, str) or len(text) > 40 or "T" not in text.upper():  # noqa: PLR2004 - no such time is longer
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return None
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if moment >= EPOCH else None
