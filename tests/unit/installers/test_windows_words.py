"""Words that become one command line and are words again: ours, the standard library's, and one within the other."""

import subprocess

import pytest

from builders import cases
from reco3.installers.windows_words import command_line
from windows_words import words_of

PATHS = cases("windows_paths")
NAMES = [case["name"] for case in PATHS]
# What Microsoft's page on CommandLineToArgvW and C arguments gives as examples.
MICROSOFTS = [
    ('x "abc" d e', ["x", "abc", "d", "e"]),
    (r"x a\\b d" + '"' + "e f" + '"' + "g h", ["x", r"a\\b", "de fg", "h"]),
    (r"x a\\\"b c d", ["x", r"a\"b", "c", "d"]),
    (r'x a\\\\"b c" d e', ["x", r"a\\b c", "d", "e"]),
    ('x a"b"" c d', ["x", 'ab" c d']),
]


@pytest.mark.parametrize(("line", "words"), MICROSOFTS, ids=range(len(MICROSOFTS)))
def test_the_parser_of_these_tests_does_as_microsoft_says(line: str, words: list[str]) -> None:
    assert words_of(line) == words


@pytest.mark.parametrize("case", PATHS, ids=NAMES)
def test_words_survive_our_own_command_line(case: dict[str, list[str]]) -> None:
    assert words_of(command_line(case["words"])) == case["words"]


@pytest.mark.parametrize("case", PATHS, ids=NAMES)
def test_words_survive_the_standard_librarys_command_line(case: dict[str, list[str]]) -> None:
    assert words_of(subprocess.list2cmdline(case["words"])) == case["words"]


@pytest.mark.parametrize("case", PATHS, ids=NAMES)
def test_a_command_line_survives_being_an_argument_of_sc(case: dict[str, list[str]]) -> None:
    line = command_line(case["words"])

    words = words_of(subprocess.list2cmdline(["sc.exe", "create", "RECO3Agent", "binPath=", line]))

    assert words[3:] == ["binPath=", line]
    assert words_of(words[4]) == case["words"]


def test_words_that_are_only_put_side_by_side_do_not_survive() -> None:
    lost = [case["name"] for case in PATHS if words_of(" ".join(case["words"])) != case["words"]]

    assert len(lost) > len(PATHS) / 2
