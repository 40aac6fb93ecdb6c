"""A process tree's cost is read from /proc as it is written there, for the root and all that descend from it."""

from pathlib import Path

import pytest

from footprints import TreeDied, TreeSample, footprint_of, footprint_table, sample_tree, tree_pids, watch


def write_process(
    proc: Path, pid: int, parent: int, *, pss_kb: int = 1000, ticks: int = 10, name: str = "agent"
) -> None:
    """A process as the kernel shows it: utime carries the ticks."""
    folder = proc / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    fields = ["S", str(parent), *["0"] * 9, str(ticks), "0", "0", "0", *["0"] * 10]
    (folder / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
    (folder / "smaps_rollup").write_text(
        f"55d0-7ffd ---p 00000000 00:00 0    [rollup]\nRss:   {pss_kb * 2} kB\nPss:   {pss_kb} kB\nPss_Dirty:  7 kB\n"
    )
    for thread in range(3):
        (folder / f"task/{pid + thread}").mkdir(parents=True, exist_ok=True)
        (folder / f"task/{pid + thread}/status").write_text(
            f"Name:\tagent\nThreads:\t3\nvoluntary_ctxt_switches:\t{thread * 20}\nnonvoluntary_ctxt_switches:\t2\n"
        )


def test_a_tree_is_the_root_and_all_its_descendants(tmp_path: Path) -> None:
    write_process(tmp_path, 10, 1)
    write_process(tmp_path, 11, 10)
    write_process(tmp_path, 12, 11)
    write_process(tmp_path, 99, 1)

    assert tree_pids(10, proc=tmp_path) == (10, 11, 12)


def test_memory_ticks_and_threads_of_a_tree_add_up(tmp_path: Path) -> None:
    write_process(tmp_path, 10, 1, pss_kb=1000, ticks=10)
    write_process(tmp_path, 11, 10, pss_kb=500, ticks=5)

    sample = sample_tree(10, proc=tmp_path)

    assert (sample.pss_kb, sample.rss_kb, sample.cpu_ticks) == (1500, 3000, 15)
    assert (sample.processes, sample.threads) == (2, 6)


def test_the_switches_of_all_threads_count_and_not_only_the_first_ones(tmp_path: Path) -> None:
    write_process(tmp_path, 10, 1)

    sample = sample_tree(10, proc=tmp_path)

    assert (sample.voluntary_switches, sample.involuntary_switches) == (0 + 20 + 40, 3 * 2)


def test_a_name_with_spaces_and_brackets_does_not_shift_the_fields(tmp_path: Path) -> None:
    write_process(tmp_path, 10, 1, ticks=7, name="a) b (c")

    assert sample_tree(10, proc=tmp_path).cpu_ticks == 7


def test_a_tree_that_died_is_an_error_and_no_zero(tmp_path: Path) -> None:
    with pytest.raises(TreeDied, match="10"):
        sample_tree(10, proc=tmp_path)


def test_a_window_gives_medians_of_memory_and_the_rate_of_ticks() -> None:
    def sample(pss_kb: int, ticks: int) -> TreeSample:
        return TreeSample(1, 2, pss_kb, pss_kb * 2, ticks, ticks, 0)

    footprint = footprint_of([sample(1024, 0), sample(9216, 60), sample(2048, 120)], window_s=60)

    assert (footprint.pss_mb, footprint.rss_mb, footprint.pss_max_mb) == (2.0, 4.0, 9.0)
    assert footprint.cpu_pct == pytest.approx(2.0)
    assert footprint.switches_per_min == 120


def test_all_trees_are_watched_through_one_window(tmp_path: Path) -> None:
    write_process(tmp_path, 10, 1, ticks=0)
    write_process(tmp_path, 20, 1, ticks=0)
    now_s = 0.0

    def wait(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        write_process(tmp_path, 10, 1, ticks=round(now_s))

    footprints = watch({"a": 10, "b": 20}, 12, every_s=5, proc=tmp_path, wait=wait, clock=lambda: now_s)

    assert footprints["a"].window_s == footprints["b"].window_s == 12
    assert footprints["a"].cpu_pct == pytest.approx(1.0)
    assert footprints["b"].cpu_pct == 0


def test_the_table_has_ratios_to_its_baseline_and_a_dash_where_there_is_nothing_to_divide_by() -> None:
    ours = footprint_of([TreeSample(1, 1, 2048, 2048, 0, 0, 0), TreeSample(1, 1, 2048, 2048, 10, 0, 0)], window_s=10)
    theirs = footprint_of([TreeSample(1, 1, 1024, 1024, 0, 0, 0)], window_s=10)

    table = footprint_table({"ours": ours, "theirs": theirs}, baseline="theirs")

    assert "| 2.00x | 1.000 | - |" in table
