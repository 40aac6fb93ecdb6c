"""What installers ask of other programs, and what comes back.

It refuses to say what a program got on its standard input, which may be a key.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

Word = str | PurePath


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `argv` names files as they are on the PC, `real_argv` as they are for us, below a scratch root."""

    argv: tuple[str, ...]
    real_argv: tuple[str, ...] = field(repr=False)
    stdin: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended, and what it printed, errors too; 127: there is no such program, 124: it took too long."""

    exit_code: int
    output: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it says that it worked."""
        return self.exit_code == 0


NO_SUCH_PROGRAM = 127
TOOK_TOO_LONG = 124
Programs = Callable[[Call], Ran]


def shown(call: Call) -> str:
    """A call as a person reads it; never for a shell."""
    words = [word if word and " " not in word and '"' not in word else f'"{word}"' for word in call.argv]
    return " ".join(words) + (" < (standard input)" if call.stdin is not None else "")


def is_of_the_pc(word: Word) -> bool:
    """Whether a word names a file of the PC to be installed, which a scratch root may stand in for.

    A pure path does; a real `Path` is a file of the source tree, and is used as it is.
    """
    return isinstance(word, PurePath) and not isinstance(word, Path)
