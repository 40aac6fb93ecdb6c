"""Judges the config: who may read and write it, and settings that contradict each other or keep all from working.

It refuses to judge a value by itself: whether a config can be used at all, `load_config` says.
"""

import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reco3.agent.budget import is_within
from reco3.agent.config import AgentConfig, ControlConfig, LimitsConfig, Permissions, writable_by
from reco3.agent.doctor.findings import Finding, broken, note, ok, warning, word
from reco3.agent.doctor.people import Person
from reco3.agent.kept_trust import in_force
from reco3.agent.local_state import StartError
from reco3.agent.signers import TRUST_CHANGES_FILE

if TYPE_CHECKING:
    from reco3.signing.pins import Pin

MINUTES_PER_DAY = 24 * 60


def check_config(config: AgentConfig) -> list[Finding]:
    """Every check of the config alone."""
    control, trust = judge_trust_changes(config)
    return [
        ok("config", f"{config.path} can be used; this PC is {config.agent_id}"),
        judge_reading(config.path, None if sys.platform == "win32" else config.path.stat().st_mode),
        judge_writing(config.path, writable_by(config.path), is_applied=control.apply_enabled),
        judge_plain_http(config),
        judge_approvers(config.path, control, is_local=config.base_url.is_loopback),
        trust,
        judge_profile(control, is_local=config.base_url.is_loopback),
        judge_limits(control.limits),
        judge_locks(config),
    ]


def check_user(person: Person, owned: str) -> Finding:
    """For whom the rest is judged."""
    if person.is_self and owned:
        return warning(
            "user",
            f"you are {person.name}, and the agent's files belong to another user: {owned}; what is said below about "
            "rights is about you",
            "run it as root (sudo) or as that user",
        )
    return ok("user", f"judged for the user {person.name}" + ("" if person.is_self else f", who owns {owned}"))


def judge_reading(path: Path, mode: int | None) -> Finding:
    """Who may read the key; `mode` is None on Windows."""
    code = "config_private"
    if mode is None:
        return note(
            code,
            f"{path} holds the key, and Windows keeps its rights in an access list that is not judged here",
            f"look at it: icacls {word(path)}",
        )
    cure = f"chmod 600 {word(path)}"
    if mode & stat.S_IROTH:
        return warning(
            code, f"everybody on this PC may read {path}, and with it the key (mode {mode & 0o777:04o})", cure
        )
    if mode & stat.S_IRGRP:
        return note(code, f"the group of {path} may read the key too (mode {mode & 0o777:04o})", cure)
    return ok(code, f"only its owner may read {path}")


def judge_writing(path: Path, writable: Permissions, *, is_applied: bool) -> Finding:
    """Who may change what is allowed; with commands enabled the agent does not start when everybody may."""
    code, cure = "config_writable", f"chmod go-w {word(path)} {word(path.parent)}"
    if writable.by_others:
        found = f"everybody on this PC may write {path} or its folder"
        if is_applied:
            return broken(code, f"{found}, and control.apply_enabled is true: the agent does not start", cure)
        return warning(code, found, cure)
    if writable.by_group:
        return warning(code, f"the group may write {path} or its folder, and so decide what is done to this PC", cure)
    return ok(code, f"nobody but its owner may write {path}")


def judge_plain_http(config: AgentConfig) -> Finding:
    """Whether the key crosses a network in the clear."""
    url = config.base_url
    if url.is_tls or url.is_loopback:
        return ok("plain_http", "the key does not leave this PC unencrypted")
    return warning(
        "plain_http",
        f"base_url is plain http:// to {url.host}: whoever is on the way reads the key and forges orders",
        f"give the server a certificate, then: base_url: https://{url.host}",
    )


def judge_approvers(path: Path, control: ControlConfig, *, is_local: bool) -> Finding:
    """Whether strong commands can be approved at all, and by whom."""
    code, required = "approvers", control.approvals_required
    if not control.approvers:
        if not control.apply_enabled:
            return ok(code, "no key is pinned, and strong commands are off (control.apply_enabled is false)")
        return warning(
            code,
            "control.apply_enabled is true and no approver's key is pinned: whoever controls the server can have "
            "strong commands run on this PC",
            f"pin one: reco3 keys show on the approver's machine, then here: reco3 agent trust add {word(path)} PIN",
        )
    owners = _owners_who_count(control.approvers, is_development=control.is_development and is_local)
    if len(owners) < required:
        return broken(
            code,
            f"control.approvals_required is {required}, and the keys of {len(owners)} different owners count here: no "
            "strong command can ever be approved",
            f"pin more (reco3 agent trust add {word(path)} PIN)"
            + (f", or set control.approvals_required: {len(owners)}" if owners else ""),
        )
    return ok(code, f"strong commands need the signatures of {required} of {len(owners)} pinned owners")


def judge_trust_changes(config: AgentConfig) -> tuple[ControlConfig, Finding]:
    """Whom this PC trusts by now, and whether the config says so too."""
    code = "trust_changes"
    try:
        now = in_force(config)
    except StartError as error:
        path = config.state_dir / TRUST_CHANGES_FILE
        cure = f"if the keys in {word(config.path)} are still the right ones, remove {word(path)}"
        return config.control, broken(code, str(error), cure)
    if now.set_aside:
        found = f"control.approvers was edited after {now.set_aside} signed changes, which count no more"
        return now.config.control, note(code, found)
    if now.followed:
        owners = ", ".join(sorted({pin.owner for pin in now.config.control.approvers}))
        return now.config.control, warning(
            code,
            f"a signed change has replaced the keys in {config.path}: this PC trusts {owners} now, and forgets that "
            "with its state folder",
            f"reco3 agent trust settle {word(config.path)} writes it into the config",
        )
    return now.config.control, ok(code, "no signed change is in force: the config says whom this PC trusts")


def _owners_who_count(pins: "Sequence[Pin]", *, is_development: bool) -> set[str]:
    return {pin.owner.casefold() for pin in pins if is_development or not pin.is_development}


def judge_profile(control: ControlConfig, *, is_local: bool) -> Finding:
    """Whether a profile for development is used where it has no place."""
    if not control.is_development:
        return ok("profile", "control.profile is production")
    if is_local:
        return note("profile", "control.profile is dev: keys of owners named dev-... count on this PC")
    return warning(
        "profile",
        "control.profile is dev, but base_url is another machine: keys of owners named dev-... do not count",
        "set control.profile: production",
    )


def judge_limits(limits: LimitsConfig) -> Finding:
    """Whether any strong command could ever begin."""
    minutes = range(MINUTES_PER_DAY)
    if all(any(is_within(hours, minute) for hours in limits.quiet_hours) for minute in minutes):
        return warning(
            "limits",
            "control.limits.quiet_hours cover the whole day: no strong command ever begins",
            'leave some time: quiet_hours: ["22:00-06:00"]; to refuse all, control.apply_enabled: false says it',
        )
    if not limits.strong_per_hour:
        return warning(
            "limits",
            "control.limits.strong_per_hour is 0: no strong command ever begins",
            "set strong_per_hour: 20; to refuse all, control.apply_enabled: false says it",
        )
    return ok("limits", f"up to {limits.strong_per_hour} strong commands an hour may begin")


def judge_locks(config: AgentConfig) -> Finding:
    """Whether what may be restarted waits for a switch that is off."""
    names = [program.name for program in config.watch.processes if program.allow_restart]
    if not names or config.control.apply_enabled:
        return ok("apply_enabled", f"control.apply_enabled is {str(config.control.apply_enabled).lower()}")
    return note(
        "apply_enabled",
        f"allow_restart is true for {', '.join(names)}, but control.apply_enabled is false: every strong command will "
        "be refused",
        "to allow it: control.apply_enabled: true",
    )
