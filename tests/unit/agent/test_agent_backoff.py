import pytest

from reco3.agent.contacts import UNAUTHORIZED_DELAY_S, delay_after_s, is_failed_contact
from reco3.agent.control import HOLD_AGAIN_AFTER_S, PullRhythm
from reco3.agent.http_client import (
    Backoff,
    BadAnswerError,
    BaseUrl,
    ContactError,
    RefusedError,
    UnreachableError,
    _acknowledged_seq,
    _poll_after_s,
)


def refused(status: int, retry_after_s: float | None = None) -> RefusedError:
    return RefusedError(status, code="c", message="m", retry_after_s=retry_after_s)


def test_the_delay_doubles_up_to_the_period() -> None:
    backoff = Backoff(10, random=lambda: 1.0)

    assert [backoff.next_delay_s() for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_the_jitter_takes_off_at_most_half() -> None:
    backoff = Backoff(10, random=lambda: 0.0)

    assert [backoff.next_delay_s() for _ in range(5)] == [0.5, 1, 2, 4, 5]


def test_a_success_starts_the_delays_again() -> None:
    backoff = Backoff(10, random=lambda: 1.0)
    backoff.next_delay_s()
    backoff.next_delay_s()

    backoff.reset()

    assert backoff.next_delay_s() == 1


@pytest.mark.parametrize(
    ("asked_s", "jitter", "expected_s"), [(30, 0.0, 30), (30, 1.0, 33), (0, 1.0, 1), (86_400, 0.0, 600)]
)
def test_a_delay_that_the_server_asks_for_is_never_undercut(asked_s: float, jitter: float, expected_s: float) -> None:
    assert Backoff(10, random=lambda: jitter).next_delay_s(asked_s) == pytest.approx(expected_s)


def test_a_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(10, random=lambda: 1.0)

    assert {backoff.next_delay_s() for _ in range(2000)} == {1, 2, 4, 8, 10}


def test_a_wrong_key_is_tried_slowly() -> None:
    backoff = Backoff(10, random=lambda: 0.0)

    assert delay_after_s(refused(401), backoff) == UNAUTHORIZED_DELAY_S
    assert delay_after_s(refused(503), backoff) < 10


@pytest.mark.parametrize(
    ("error", "is_failed"),
    [
        (UnreachableError("x"), True),
        (BadAnswerError("x"), True),
        (refused(401), True),
        (refused(500), True),
        (refused(503), True),
        (refused(302), True),
        (refused(400), False),
        (refused(404), False),
        (refused(429), False),
    ],
    ids=str,
)
def test_which_contacts_count_as_failed(error: ContactError, is_failed: bool) -> None:
    assert is_failed_contact(error) is is_failed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:5001", BaseUrl("127.0.0.1", 5001, is_tls=False)),
        ("http://127.0.0.1:5001/", BaseUrl("127.0.0.1", 5001, is_tls=False)),
        ("https://Reco3.example.com/sub/path/", BaseUrl("reco3.example.com", 443, is_tls=True, path="/sub/path")),
        ("http://[::1]:80", BaseUrl("::1", 80, is_tls=False)),
        ("http://localhost", BaseUrl("localhost", 80, is_tls=False)),
        ("https://x:0", None),
        ("https://x:99999", None),
        ("https://x/?a=b", None),
        ("https://x/#a", None),
        ("https://x/a b", None),
        ("https://x\r\nX-Evil: 1", None),
        ("https://", None),
        ("x", None),
    ],
)
def test_which_addresses_are_understood(text: str, expected: BaseUrl | None) -> None:
    assert BaseUrl.parse(text) == expected


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True), ("127.0.0.1.evil.example", False)],
)
def test_what_counts_as_this_machine(host: str, is_loopback: bool) -> None:
    assert BaseUrl(host, 80, is_tls=False).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"acked_seq": 14, "count": 1}, 14),
        ({"acked_seq": 9}, 9),
        ({"acked_seq": 99}, 99),
        ({"acked_seq": True, "count": 2}, 11),
        ({"count": 5}, 14),
        ({"count": 50}, 14),
        ({"count": 0}, 9),
        ({"count": -3}, 14),
        ({}, 14),
    ],
)
def test_up_to_which_line_the_server_acknowledges(answer: dict[str, object], expected: int) -> None:
    assert _acknowledged_seq(answer, first_seq=10, count_sent=5) == expected


def test_a_server_that_waits_is_asked_again_at_once() -> None:
    rhythm = PullRhythm(10, random=lambda: 1.0)

    pauses = [rhythm.pause_s(0, was_held=True, took_s=25, has_news=False) for _ in range(10)]

    assert pauses == [0] * 10
    assert rhythm.may_hold(0)


def test_a_server_that_ignores_wait_is_polled_from_the_third_empty_answer_on() -> None:
    rhythm = PullRhythm(10, random=lambda: 1.0)

    pauses = [rhythm.pause_s(0, was_held=True, took_s=0.01, has_news=False) for _ in range(3)]

    assert pauses == [0, 0, 10]
    assert not rhythm.may_hold(1)
    assert rhythm.pause_s(10, was_held=False, took_s=0.01, has_news=False) == 10


def test_a_polled_server_is_asked_after_a_minute_whether_it_has_learnt_to_wait() -> None:
    rhythm = PullRhythm(10, random=lambda: 1.0)
    rhythm.stop_holding(0)

    may_hold_later = rhythm.may_hold(HOLD_AGAIN_AFTER_S)
    pause_s = rhythm.pause_s(HOLD_AGAIN_AFTER_S, was_held=True, took_s=0.01, has_news=False)

    assert may_hold_later
    assert pause_s == 10
    assert not rhythm.may_hold(HOLD_AGAIN_AFTER_S + 1)


def test_quick_answers_with_news_are_no_reason_to_poll() -> None:
    rhythm = PullRhythm(10, random=lambda: 1.0)

    pauses = [rhythm.pause_s(0, was_held=True, took_s=0.01, has_news=True) for _ in range(10)]

    assert pauses == [0] * 10


def test_polls_of_a_fleet_are_spread_and_never_later_than_the_period() -> None:
    earliest = PullRhythm(10, random=lambda: 0.0).stop_holding(0)
    latest = PullRhythm(10, random=lambda: 1.0).stop_holding(0)

    assert (earliest, latest) == (9.5, 10)


def test_a_server_that_cannot_hold_is_left_alone_as_long_as_it_says_give_or_take_a_fifth() -> None:
    waits_s = []
    for jitter in (0.0, 0.5, 1.0):
        rhythm = PullRhythm(10, random=lambda jitter=jitter: jitter)
        rhythm.leave_alone(100, 20)
        waits_s.append(rhythm.left_alone_s(100))

    assert waits_s == pytest.approx([16, 20, 24])


def test_being_left_alone_ends_by_itself_and_at_once_when_something_waits() -> None:
    rhythm = PullRhythm(10, random=lambda: 0.5)
    before = rhythm.left_alone_s(0)
    rhythm.leave_alone(0, 20)

    seen = [rhythm.left_alone_s(now) for now in (0, 15, 20, 30)]
    rhythm.hurry()

    assert (before, seen, rhythm.left_alone_s(0)) == (0, [20, 5, 0, 0], 0)
    assert rhythm.may_hold(0)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(7, 7.0), (0.5, 0.5), (86_400, 600.0), (0, None), (-1, None), (True, None), ("7", None), (None, None)],
)
def test_for_how_long_a_server_may_ask_to_be_left_alone(asked: object, expected: float | None) -> None:
    assert _poll_after_s({"poll_after_s": asked}) == expected
