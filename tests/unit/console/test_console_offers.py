"""What a server may offer for signing, and what it may not."""

from typing import Any

import pytest

from builders import cases
from offered_envelopes import envelope, offer
from reco3.console.offers import Offer, read_offer
from reco3.console.output import NotSigned
from reco3.protocol.envelope import EnvelopePolicy, build_envelope, parse_envelope

ASKED_S = 1_000_000
NOW_S = ASKED_S + 10
CASES = cases("console_offers")


def answer_of(case: dict[str, Any]) -> dict[str, Any]:
    changes = dict(case.get("envelope", {}))
    if "policy" in changes:
        changes["policy"] = EnvelopePolicy(changes["policy"])
    honest = offer(build_envelope(envelope(now_s=ASKED_S, **changes)))
    return honest | {"fields": honest["fields"] | case.get("fields", {})} | case.get("answer", {})


def read(answer: dict[str, Any]) -> Offer:
    return read_offer(answer, command_id="c-1", now_s=NOW_S)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_an_offer_is_taken_only_when_its_bytes_may_be_signed(case: dict[str, Any]) -> None:
    answer = answer_of(case)

    if case["says"] is None:
        assert read(answer).envelope.agent_id == "pc-001"
        return
    with pytest.raises(NotSigned) as refused:
        read(answer)
    assert case["says"] in str(refused.value)


def test_what_is_signed_is_the_encoding_of_the_very_bytes_that_were_read() -> None:
    body = build_envelope(envelope(now_s=ASKED_S))

    taken = read(offer(body))

    assert taken.signed.body == body
    assert parse_envelope(taken.signed.body) == taken.envelope
    assert taken.message.endswith(b" %d " % len(body) + body)


def test_every_field_of_the_bytes_is_compared() -> None:
    honest = offer(build_envelope(envelope(now_s=ASKED_S)))
    unseen = []

    for name in honest["fields"]:
        if name == "v":
            continue
        try:
            read(honest | {"fields": honest["fields"] | {name: "something else"}})
        except NotSigned:
            continue
        unseen.append(name)

    assert unseen == []


@pytest.mark.parametrize("required", [None, "2", True, 0, -1, 10**9, 1.5])
def test_a_number_of_approvals_that_is_none_is_not_shown(required: object) -> None:
    answer = offer(build_envelope(envelope(now_s=ASKED_S))) | {"approvals_required": required, "signatures": [1, {}]}

    assert (read(answer).approvals_required, read(answer).signers) == (None, ())
