import pytest

from reco3.installers.steps import Step, take, take_all
from reco3.installers.troubles import InstallError


class Book:
    """Steps that write down what is done and undone."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.said: list[str] = []

    def step(self, name: str, *, done: bool = False, error: Exception | None = None) -> Step:
        def do() -> None:
            self.lines.append(f"do {name}")
            if error is not None:
                raise error

        return Step(title=name, do=do, is_done=lambda: done, undo=lambda: self.lines.append(f"undo {name}"))


REFUSED = InstallError("refused", "it said no", "ask again")


def test_steps_are_taken_in_order_and_what_is_done_is_skipped() -> None:
    book = Book()

    take([book.step("a"), book.step("b", done=True), book.step("c")], say=book.said.append)

    assert book.lines == ["do a", "do c"]
    assert book.said == ["[1/3] a", "[2/3] b: done already", "[3/3] c"]


def test_a_failure_undoes_what_this_run_did_the_failed_step_first() -> None:
    book = Book()

    with pytest.raises(InstallError) as caught:
        take(
            [book.step("a"), book.step("b", done=True), book.step("c", error=REFUSED), book.step("d")],
            say=book.said.append,
        )

    assert caught.value is REFUSED
    assert book.lines == ["do a", "do c", "undo c", "undo a"]


def test_an_error_of_a_file_is_a_failure_with_its_step_and_its_name() -> None:
    book = Book()

    with pytest.raises(InstallError) as caught:
        take([book.step("write it", error=PermissionError(13, "Permission denied", "/etc/x"))], say=book.said.append)

    assert caught.value.code == "file_trouble"
    assert caught.value.found == "write it: Permission denied (/etc/x)"


def test_an_undo_that_fails_is_told_and_the_others_are_undone() -> None:
    book = Book()

    def fail() -> None:
        raise OSError(16, "Device or resource busy")

    stuck = Step(title="b", do=lambda: None, undo=fail)
    with pytest.raises(InstallError):
        take([book.step("a"), stuck, book.step("c", error=REFUSED)], say=book.said.append)

    assert book.lines == ["do a", "do c", "undo c", "undo a"]
    assert any(line.startswith("could not be undone: file_trouble: b: Device or resource busy") for line in book.said)


def test_an_uninstaller_takes_every_step_and_says_which_failed() -> None:
    book = Book()

    failures = take_all(
        [book.step("a", error=REFUSED), book.step("b", done=True), book.step("c")], say=book.said.append
    )

    assert failures == [REFUSED]
    assert book.lines == ["do a", "do c"]


def test_a_programming_error_is_not_taken_for_a_failure() -> None:
    book = Book()

    with pytest.raises(ZeroDivisionError):
        take([book.step("a", error=ZeroDivisionError())], say=book.said.append)
