"""What a run measured becomes markdown; what it did not measure says so and has no figure."""

import pytest

from results import Headline, Report, Section, Table, faster, percentile, spread, times


def test_the_summary_gathers_the_headlines_of_all_sections() -> None:
    first = Section("a", "A", headlines=(Headline("heartbeats", "9,000/s", "echo", "18,000/s", "0.50x"),))
    second = Section("b", "B", headlines=(Headline("approve", "20 ms", "salt", "90 ms", "4.5x faster"),))

    text = Report((("cores", "2"),), (first, second)).markdown()

    assert "| heartbeats | 9,000/s | echo | 18,000/s | 0.50x |" in text
    assert "| approve | 20 ms | salt | 90 ms | 4.5x faster |" in text
    assert text.index("Summary") < text.index("Machine and versions") < text.index("## A") < text.index("## B")


def test_a_peer_that_is_not_there_is_named_with_its_reason_and_no_figure() -> None:
    section = Section("approve", "Approve", missing=("salt: pip install failed",))

    text = Report((), (section,)).markdown()

    assert "- Approve: salt: pip install failed" in text
    assert "Not measured: salt: pip install failed" in text


def test_a_warning_stands_above_the_summary() -> None:
    text = Report((), (), ("The machine was busy.",)).markdown()

    assert text.index("**The machine was busy.**") < text.index("Summary")


def test_a_whole_run_says_nothing_of_missing_parts() -> None:
    text = Report((), (Section("a", "A"),)).markdown()

    assert "Not measured" not in text


def test_a_section_shows_the_commands_that_repeat_it() -> None:
    text = Section("a", "A", commands=("taskset -c 0 echo 1", "echo 2"), seconds=12.4).markdown()

    assert "```sh\ntaskset -c 0 echo 1\necho 2\n```" in text
    assert "This section took 12 s." in text


def test_a_bar_or_a_line_break_in_a_cell_does_not_break_the_table() -> None:
    text = Table("T", ("a", "b"), (("x|y", "one\ntwo"),)).markdown()

    assert text.splitlines()[-1] == "| x\\|y | one two |"


@pytest.mark.parametrize(
    ("ours_ms", "theirs_ms", "said"),
    [(20, 90, "4.5x faster"), (90, 20, "4.5x slower"), (20, 20, "1.0x faster"), (0, 90, "-"), (20, 0, "-")],
)
def test_a_ratio_says_who_is_faster(ours_ms: float, theirs_ms: float, said: str) -> None:
    assert faster(ours_ms, theirs_ms) == said


def test_a_ratio_to_nothing_is_a_dash() -> None:
    assert (times(3, 2), times(3, 0)) == ("1.50x", "-")


@pytest.mark.parametrize(("fraction", "value"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_the_nearest_rank(fraction: float, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), fraction) == value


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_repeats_show_their_median_and_range() -> None:
    assert spread([9000.0, 8000.0, 10000.0]) == "9,000 (8,000 to 10,000)"
    assert spread([1.25], digits=1) == "1.2"
