"""Makes and removes the account that the agent may run as on macOS instead of root: no password, no shell, no home.

It refuses to touch accounts of other names, and ids that somebody has.
"""

from reco3.installers.host import Host
from reco3.installers.steps import Step
from reco3.installers.troubles import InstallError

USER = "_reco3agent"
# Below 500, so that it appears in no login window; Apple gives its own from the lower end.
IDS = range(499, 399, -1)
_TO_DO = "see what `sudo dscl . -list /Users` says, then run the same again"


def user_step(host: Host) -> Step:
    """Make the account and its group, unless they are whole."""
    was_there = _exists(host, "Users")
    return Step(
        title=f"make the account {USER}",
        is_done=lambda: _is_whole(host),
        do=lambda: _make(host),
        undo=lambda: None if was_there else _remove(host),
    )


def remove_user_step(host: Host) -> Step:
    """Remove the account and its group."""
    return Step(
        title=f"remove the account {USER}",
        is_done=lambda: not (_exists(host, "Users") or _exists(host, "Groups")),
        do=lambda: _remove(host),
    )


def _make(host: Host) -> None:
    number = str(_own_id(host) or _free_id(host))
    group, user = f"/Groups/{USER}", f"/Users/{USER}"
    records = [
        (group, "PrimaryGroupID", number),
        (group, "RealName", "RECO3 agent"),
        (group, "Password", "*"),
        (user, "UniqueID", number),
        (user, "PrimaryGroupID", number),
        (user, "RealName", "RECO3 agent"),
        (user, "Password", "*"),
        (user, "IsHidden", "1"),
        (user, "UserShell", "/usr/bin/false"),
        # The last one: an account that has it is whole.
        (user, "NFSHomeDirectory", "/var/empty"),
    ]
    for record, key, value in records:
        host.must(["dscl", ".", "-create", record, key, value], code="no_account", to_do=_TO_DO)


def _remove(host: Host) -> None:
    for kind in ("Users", "Groups"):
        if _exists(host, kind):
            host.must(["dscl", ".", "-delete", f"/{kind}/{USER}"], code="account_left", to_do=_TO_DO)


def _exists(host: Host, kind: str) -> bool:
    return host.ask(["dscl", ".", "-read", f"/{kind}/{USER}", "RecordName"]).is_ok


def _is_whole(host: Host) -> bool:
    return host.ask(["dscl", ".", "-read", f"/Users/{USER}", "NFSHomeDirectory"]).output.strip().endswith("/var/empty")


def _own_id(host: Host) -> int | None:
    """The id that a run which was killed has given the group already."""
    return _ids(host, "Groups", "PrimaryGroupID").get(USER)


def _free_id(host: Host) -> int:
    taken = {*_ids(host, "Users", "UniqueID").values(), *_ids(host, "Groups", "PrimaryGroupID").values()}
    for number in IDS:
        if number not in taken:
            return number
    raise InstallError("no_account", f"no id from {IDS[-1]} to {IDS[0]} is free", "install with --user root")


def _ids(host: Host, kind: str, key: str) -> dict[str, int]:
    pairs = (line.split() for line in host.ask(["dscl", ".", "-list", f"/{kind}", key]).output.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdigit()}  # noqa: PLR2004
