"""Takes the steps of an installation in order, and undoes what it did when one fails.

It refuses to remember anything between runs: what is done is read from the PC itself, so a run that was killed is
finished by the next one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from reco3.installers.troubles import InstallError

Say = Callable[[str], None]


def _never() -> bool:
    return False


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do, with what tells whether it is done, and what takes it back.

    `do` may find its work half done, by a run that was killed within it. `undo` too, or not
    begun.
    """

    title: str
    do: Callable[[], None]
    is_done: Callable[[], bool] = _never
    undo: Callable[[], None] = _nothing


def take(steps: Sequence[Step], *, say: Say) -> None:
    """Take the steps that are not done; when one fails, undo those that this run took, the last one first.

    Raises: InstallError, which is that of the step that failed.
    """
    taken: list[Step] = []
    for number, step in enumerate(steps, start=1):
        try:
            with _as_install_error(step):
                if step.is_done():
                    say(f"[{number}/{len(steps)}] {step.title}: done already")
                    continue
                say(f"[{number}/{len(steps)}] {step.title}")
                taken.append(step)
                step.do()
        except InstallError as error:
            say(f"FAILED {error}")
            _undo(taken, say)
            raise


def take_all(steps: Sequence[Step], *, say: Say) -> list[InstallError]:
    """Take the steps that are not done, also when one before them failed; returns what failed, and undoes nothing.

    So an uninstaller removes all that it can.
    """
    failures: list[InstallError] = []
    for number, step in enumerate(steps, start=1):
        try:
            with _as_install_error(step):
                if step.is_done():
                    continue
                say(f"[{number}/{len(steps)}] {step.title}")
                step.do()
        except InstallError as error:
            say(f"FAILED {error}")
            failures.append(error)
    return failures


def _undo(taken: Sequence[Step], say: Say) -> None:
    for step in reversed(taken):
        say(f"undoing: {step.title}")
        try:
            with _as_install_error(step):
                step.undo()
        except InstallError as error:
            say(f"could not be undone: {error}")


@contextmanager
def _as_install_error(step: Step) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise InstallError(
            "file_trouble",
            f"{step.title}: {error.strerror or error}{name}",
            "make that possible, then run the same again",
        ) from error
