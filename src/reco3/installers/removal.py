"""Removes what installers made, however much of it there is.

It refuses to need anything of it: the application may be broken or gone.
"""

from pathlib import PurePath

from reco3.installers.host import Host
from reco3.installers.layouts import Layout
from reco3.installers.payload import discard
from reco3.installers.steps import Step


def removal_steps(host: Host, layout: Layout, *, keeps_config: bool, kept_owner: str | None) -> list[Step]:
    """Remove the application, the log, and unless they are kept config, key and state; then the folder, if it is empty.

    What is kept goes to `kept_owner`, because the service's own user may be removed; None: owners stay as they are.
    """
    steps = [remove_step(host, app) for app in (layout.new_app, layout.old_app, layout.app)]
    steps.append(remove_step(host, layout.log.parent))
    if keeps_config:
        if kept_owner is not None:
            steps += [_keep_step(host, path, kept_owner) for path in (layout.config, layout.state)]
        return steps
    steps += [_remove_config_step(host, layout), remove_step(host, layout.state)]
    return [*steps, _remove_home_step(host, layout)]


def remove_step(host: Host, path: PurePath) -> Step:
    """Remove a file or a folder with all that is in it."""
    return Step(title=f"remove {path}", is_done=lambda: not host.exists(path), do=lambda: discard(host, path))


def config_names(host: Host, layout: Layout) -> list[str]:
    """The config and what a run that was killed left of one beside it: each may hold a key."""
    name = layout.config.name
    endings = ("", ".tmp", ".new", ".enrolling", ".rotating")
    known = {f"{name}{first}{second}{third}" for first in endings for second in endings for third in endings}
    # `reco3 agent trust` writes .config.yaml.RANDOM first.
    return [each for each in host.names(layout.home) if each in known or each.startswith(f".{name}.")]


def _remove_config_step(host: Host, layout: Layout) -> Step:
    def remove() -> None:
        for name in config_names(host, layout):
            host.remove(layout.home / name)

    return Step(title=f"remove {layout.config}", is_done=lambda: not config_names(host, layout), do=remove)


def _keep_step(host: Host, path: PurePath, owner: str) -> Step:
    return Step(
        title=f"keep {path} for {owner}",
        is_done=lambda: not host.exists(path),
        do=lambda: host.give(path, owner),
    )


def _remove_home_step(host: Host, layout: Layout) -> Step:
    def remove() -> None:
        host.remove_if_empty(layout.home)
        if host.exists(layout.home) and not host.is_dry:
            host.say(f"      kept: in it is what the installer did not make: {', '.join(host.names(layout.home))}")

    return Step(title=f"remove {layout.home}", is_done=lambda: not host.exists(layout.home), do=remove)
