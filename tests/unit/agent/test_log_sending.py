from collections.abc import Callable

import pytest

from reco3.agent.log_sending import LONGEST_DELAY_S, BatchSize, LogBackoff


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def test_the_delays_double_from_a_second_to_five_minutes() -> None:
    backoff = LogBackoff(middle)

    assert [backoff.next_delay_s() for _ in range(11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_success_starts_the_delays_again() -> None:
    backoff = LogBackoff(middle)
    backoff.next_delay_s()
    backoff.next_delay_s()

    backoff.reset()

    assert backoff.next_delay_s() == 1


@pytest.mark.parametrize(("pick", "expected_s"), [(min, 24.0), (max, 36.0), (middle, 30.0)])
def test_a_delay_that_the_server_asks_for_is_kept_give_or_take_a_fifth(
    pick: Callable[[float, float], float], expected_s: float
) -> None:
    assert LogBackoff(pick).next_delay_s(30) == pytest.approx(expected_s)


def test_a_thousand_failures_do_not_overflow() -> None:
    backoff = LogBackoff(middle)

    assert max(backoff.next_delay_s() for _ in range(2_000)) == LONGEST_DELAY_S


def test_a_batch_is_as_large_as_the_protocol_allows() -> None:
    assert BatchSize().lines(next_seq=1) == 500


def test_a_batch_that_is_too_large_is_halved_and_grows_again_carefully() -> None:
    size = BatchSize()

    size.was_too_large(500)
    size.was_too_large(250)
    halved = size.lines(1)
    size.was_taken()

    assert (halved, size.lines(1)) == (125, 135)


@pytest.mark.parametrize("poison", [1, 2, 249, 250, 251, 499, 500])
def test_the_line_at_fault_is_found_by_halves(poison: int) -> None:
    size, next_seq, sent = BatchSize(), 1, 0

    while True:
        count = min(size.lines(next_seq), 501 - next_seq)
        sent += 1
        if not next_seq <= poison < next_seq + count:
            size.was_taken()
            next_seq += count
        elif count > 1:
            size.was_unacceptable(next_seq, count)
        else:
            break

    size.forget_suspicion()
    assert next_seq == poison
    assert sent <= 10 + 9
    assert size.lines(next_seq + 1) == 500
