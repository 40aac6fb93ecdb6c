"""What a transaction tells the other processes: ids alone, never too long, heartbeats not too often."""

import pytest

from reco3.server.services.neighbours import News
from reco3.server.store.hints import MOST_IDS, MOST_TOLD, WITHIN_S, Hints, Telling

LONGEST_ID = "p" * 60
LIMIT_BYTES = 8_000


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def heard(*agent_ids: str) -> Hints:
    hints = Hints()
    hints.hear(agent_ids)
    return hints


def test_a_transaction_without_news_tells_nothing() -> None:
    assert Telling().payloads(Hints()) == []


def test_what_was_told_is_read_by_another_process_and_known_as_ones_own() -> None:
    hints = Hints()
    hints.orders.add("pc-1")
    hints.show("commands", ["pc-1"])
    teller, reader = Telling(), Telling()

    news = [reader.read(payload) for payload in teller.payloads(hints)]

    assert news == [News(topics=("commands",), agent_ids=("pc-1",)), News(orders=("pc-1",))]
    assert [teller.read(payload).is_own for payload in teller.payloads(hints)] == [True, True]


def test_a_thousand_of_everything_is_told_whole_in_notifications_that_postgresql_takes() -> None:
    hints = Hints()
    names = {f"{LONGEST_ID}{number:04}" for number in range(1_000)}
    hints.orders |= names
    hints.keys |= names
    hints.dismissed |= {"🙂" * 60 + f"{number:04}" for number in range(100)}
    hints.show("commands", sorted(names))
    hints.has_trust_changes = True
    telling = Telling()

    payloads = telling.payloads(hints)
    news = [Telling().read(payload) for payload in payloads]

    assert max(len(payload.encode()) for payload in payloads) < LIMIT_BYTES
    assert {name for one in news for name in one.orders} == names
    assert {name for one in news for name in one.keys} == names
    assert len({name for one in news for name in one.dismissed}) == 100
    assert sum(one.has_trust_changes for one in news) == 1
    assert max(len(one.agent_ids) for one in news) == MOST_IDS


def test_heartbeats_are_told_at_once_until_they_are_many_and_then_together() -> None:
    clock = Clock()
    telling = Telling(clock)

    told = [telling.payloads(heard(f"pc-{number}")) for number in range(MOST_TOLD + 3)]
    clock.now += WITHIN_S
    (later,) = telling.payloads(heard("pc-x"))

    assert [len(payloads) for payloads in told] == [1] * MOST_TOLD + [0] * 3
    late = [f"pc-{MOST_TOLD + number}" for number in range(3)]
    assert Telling().read(later) == News(topics=("agents",), agent_ids=(*late, "pc-x"))


@pytest.mark.parametrize("payload", ["", "{", "[]", '{"process":1}', '{"orders":["pc-1"]}', '{"process":"x","keys":3}'])
def test_what_somebody_else_notified_says_nothing(payload: str) -> None:
    assert Telling().read(payload) == News()
