"""Keeps strong commands within what the PC's owner finds bearable: how many, how close together, when, and to whom.

It refuses to take anybody's word for it: it counts what the journal says was begun, so that a restart resets nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reco3.agent.clocks import MINUTES_PER_HOUR, Clock, as_text
from reco3.agent.config import LimitsConfig, QuietHours
from reco3.agent.refusals import Refused

HOUR = timedelta(hours=1)
# What the installers call the agent, on each system.
OWN_NAMES = frozenset({"reco3agent", "reco3-agent", "com.reco3.agent"})
_SUFFIXES = (".service", ".exe")


@dataclass(frozen=True, slots=True)
class Begun:
    """A strong command that was begun on this PC; `ended_at` is None while it is not over."""

    target: str
    began_at: datetime
    ended_at: datetime | None = None


def untouchable(
    limits: LimitsConfig, names: Collection[str], *, config_path: str, is_agent: bool = False
) -> Refused | None:
    """Say whether one of `names` (a process, a service) is never to be touched, or is the agent itself."""
    protected = {_bare(name) for name in limits.never_touch} | OWN_NAMES
    found = next((name for name in names if name and _bare(name) in protected), None)
    if found is None and not is_agent:
        return None
    if is_agent or _bare(found or "") in OWN_NAMES:
        return Refused("never_touch", "this is the RECO3 agent itself, which no command may stop or restart")
    return Refused(
        "never_touch", f"{found} is in control.limits.never_touch in {config_path}: no command may touch it on this PC"
    )


def tripped_breaker(
    limits: LimitsConfig, target: str, *, begun: Sequence[Begun], clock: Clock, config_path: str
) -> Refused | None:
    """Say which limit a strong command on `target` would break if it began now."""
    return (
        _quiet(limits.quiet_hours, clock, config_path)
        or _exhausted(limits.strong_per_hour, begun, clock, config_path)
        or _cooling(limits.cooldown_s, [one for one in begun if one.target == target], clock, config_path)
    )


def is_within(hours: QuietHours, local_minute: int) -> bool:
    """Whether a local time of day falls into the hours; the minute they end in no longer does."""
    if hours.begins < hours.ends:
        return hours.begins <= local_minute < hours.ends
    return local_minute >= hours.begins or local_minute < hours.ends


def _quiet(quiet_hours: Sequence[QuietHours], clock: Clock, config_path: str) -> Refused | None:
    hours = next((hours for hours in quiet_hours if is_within(hours, clock.local_minute)), None)
    if hours is None:
        return None
    return Refused(
        "quiet_hours",
        f"it is {_time_of_day(clock.local_minute)} on this PC, within the quiet hours {_time_of_day(hours.begins)}-"
        f"{_time_of_day(hours.ends)} of control.limits.quiet_hours in {config_path}; request it again afterwards",
    )


def _exhausted(strong_per_hour: int, begun: Sequence[Begun], clock: Clock, config_path: str) -> Refused | None:
    within = sorted(one.began_at for one in begun if one.began_at > clock.latest - HOUR)
    if len(within) < strong_per_hour:
        return None
    where = f"control.limits.strong_per_hour in {config_path} is {strong_per_hour}"
    if not strong_per_hour:
        return Refused("budget_exceeded", f"{where}: this PC begins no strong command at all")
    free_at = as_text(within[-strong_per_hour] + HOUR)
    return Refused(
        "budget_exceeded",
        f"{where}, and {len(within)} strong commands began within the last hour; the next may begin after {free_at}",
    )


def _cooling(cooldown_s: float, begun: Sequence[Begun], clock: Clock, config_path: str) -> Refused | None:
    last = max((one.ended_at or one.began_at for one in begun), default=None)
    if last is None or clock.latest - last >= timedelta(seconds=cooldown_s):
        return None
    return Refused(
        "cooling_down",
        f"the last strong command on the same target ended less than {cooldown_s:g} s ago "
        f"(control.limits.cooldown_s in {config_path}); request it again in a moment",
    )


def _bare(name: str) -> str:
    folded = name.casefold()
    for suffix in _SUFFIXES:
        folded = folded.removesuffix(suffix)
    return folded


def _time_of_day(minute: int) -> str:
    return f"{minute // MINUTES_PER_HOUR:02}:{minute % MINUTES_PER_HOUR:02}"
