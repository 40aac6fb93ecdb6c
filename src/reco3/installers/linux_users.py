"""The user that the service runs as on Linux: made without a home, a shell or a password.

It refuses to remove a user that somebody else made, which its comment tells, or one whose processes still run.
"""

from reco3.installers.host import Host
from reco3.installers.steps import Step
from reco3.installers.troubles import InstallError

OWN_USER = "reco3-agent"
COMMENT = "RECO3 agent"
_COMMENT_FIELD, _MEMBERS_FIELD = 4, 3
_IN_USE = 8


def user_step(host: Host) -> Step:
    """Make the user, and the group of the same name."""
    return Step(
        title=f"make the user {OWN_USER}",
        is_done=lambda: _entry(host, "passwd") is not None,
        do=lambda: _make(host),
        undo=lambda: _remove(host),
    )


def user_gone_step(host: Host) -> Step:
    """Remove the user and the group, if installers made them."""
    return Step(title=f"remove the user {OWN_USER}", is_done=lambda: not _is_ours(host), do=lambda: _remove(host))


def _make(host: Host) -> None:
    group = ["--user-group"] if _entry(host, "group") is None else ["--gid", OWN_USER]
    options = ["--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "--comment", COMMENT]
    host.must(
        ["useradd", "--system", *group, *options, OWN_USER],
        code="no_user",
        to_do="make the user yourself, or let the agent run as root: --user root",
    )


def _remove(host: Host) -> None:
    if _entry(host, "passwd") is not None:
        ran = host.run(["userdel", OWN_USER])
        if ran.exit_code == _IN_USE:
            raise InstallError(
                "user_in_use",
                f"{OWN_USER} cannot be removed: {ran.output.strip()}",
                f"end what runs as it (ps -u {OWN_USER}), then run the same again",
            )
        if not ran.is_ok:
            raise InstallError("user_left", f"userdel {OWN_USER}: {ran.output.strip()}", "run the same again")
    # userdel takes the group along where USERGROUPS_ENAB says so.
    if _entry(host, "group") is not None and not host.is_dry:
        host.must(["groupdel", OWN_USER], code="user_left", to_do="run the same again")


def _is_ours(host: Host) -> bool:
    user, group = _entry(host, "passwd"), _entry(host, "group")
    if user is not None:
        return user[_COMMENT_FIELD] == COMMENT
    # A run that was killed removed the user already.
    return group is not None and not group[_MEMBERS_FIELD]


def _entry(host: Host, database: str) -> list[str] | None:
    ran = host.ask(["getent", database, OWN_USER])
    return ran.output.strip().split(":") if ran.is_ok else None
