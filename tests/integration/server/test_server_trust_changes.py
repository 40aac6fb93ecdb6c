"""Trust changes over a real store, on both databases: what is kept, audited, relayed and counted."""

import asyncio

import pytest

from approvers import Approver, key_file
from builders import Rig, operator, rig
from reco3.protocol.trust_changes import TRUST_PAYLOAD_TYPE, parse_trust_change
from reco3.server.domain.errors import BadInput, Conflict, NotFound
from reco3.server.domain.operators import Role
from reco3.server.domain.trust_changes import MAX_RELAYED, ProposedSet, TrustProposal
from reco3.server.services import trust_changes
from reco3.server.services.trust_changes import ShownTrustChange
from reco3.server.store.database import Database
from reco3.signing.pins import pin_text, trust_version

pytestmark = pytest.mark.anyio

ALICE, BOB, CAROL = (key_file(owner) for owner in ("alice", "bob", "carol"))
ANN = operator(Role.APPROVER, "ann")
DAY_S = 24 * 3600


@pytest.fixture
def services(store: Database) -> Rig:
    return rig(store)


async def propose(services: Rig, old: Approver = ALICE, new: Approver = BOB, *, days: int = 7) -> ShownTrustChange:
    sets = [ProposedSet((pin_text(one.pin),), 1) for one in (old, new)]
    return await services.trust_changes.propose(TrustProposal(*sets, "a lost laptop", days), operator())


async def sign(services: Rig, shown: ShownTrustChange, *approvers: Approver) -> ShownTrustChange:
    for one in approvers:
        signature = one.sign(shown.change.body, TRUST_PAYLOAD_TYPE)
        shown = await services.trust_changes.sign(shown.change.id, ANN, signature)
    return shown


async def publish(services: Rig, old: Approver = ALICE, new: Approver = BOB, *, days: int = 7) -> ShownTrustChange:
    return await sign(services, await propose(services, old, new, days=days), old, new)


async def relayed_bodies(services: Rig) -> list[bytes]:
    return [one.body for one in (await services.trust_changes.relayed()).changes]


async def test_a_change_is_kept_byte_for_byte_with_its_signatures(services: Rig, store: Database) -> None:
    proposed = await propose(services)

    published = await sign(services, proposed, ALICE, BOB)

    again = await rig(store).trust_changes.get(proposed.change.id)
    assert again.change == published.change.__class__(**{**_fields(published), "version": 2})
    assert again.change.body == proposed.change.body
    assert [one.key_id for one in again.change.signatures] == [one.sign(b"").key_id for one in (ALICE, BOB)]
    fleet = await services.approvals.open_fleet()
    assert parse_trust_change(again.change.body).fleet_id == fleet


def _fields(shown: ShownTrustChange) -> dict[str, object]:
    return {name: getattr(shown.change, name) for name in shown.change.__dataclass_fields__}


async def test_an_id_is_never_taken_for_an_option_of_a_command_line(
    services: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonces = iter([f"-{'A' * 21}", f"-{'B' * 20}A", "C" * 21 + "A"])
    monkeypatch.setattr(trust_changes, "new_nonce", lambda: next(nonces))

    assert (await propose(services)).change.id == "C" * 21 + "A"


async def test_each_step_leaves_its_audit_row_in_the_same_transaction(services: Rig) -> None:
    shown = await publish(services)
    await services.trust_changes.withdraw(shown.change.id, operator(), reason="a mistake")

    events = await services.events()
    assert [(event.event_type, event.actor, event.ref_id) for event in events] == [
        ("trust_change_proposed", "user:admin", shown.change.id),
        ("trust_change_signed", "user:ann", shown.change.id),
        ("trust_change_signed", "user:ann", shown.change.id),
        ("trust_change_published", "user:ann", shown.change.id),
        ("trust_change_withdrawn", "user:admin", shown.change.id),
    ]
    versions = {"from": trust_version([ALICE.pin]), "to": trust_version([BOB.pin])}
    assert all(event.payload.items() >= versions.items() for event in events)
    assert events[2].payload["old_signed"] == ["alice"]
    assert events[4].payload["was_published"] is True
    assert services.announcer.announced == [("trust_changes", "")] * 4


async def test_what_is_refused_leaves_no_trace(services: Rig) -> None:
    shown = await sign(services, await propose(services), ALICE)
    refusals = (
        (CAROL.sign(shown.change.body, TRUST_PAYLOAD_TYPE), BadInput),
        (ALICE.sign(shown.change.body, TRUST_PAYLOAD_TYPE), Conflict),
    )
    for signature, error in refusals:
        with pytest.raises(error):
            await services.trust_changes.sign(shown.change.id, ANN, signature)

    assert len(await services.events("trust_change_signed")) == 1
    assert len((await services.trust_changes.get(shown.change.id)).change.signatures) == 1


async def test_an_unknown_change_is_not_found(services: Rig) -> None:
    signature = ALICE.sign(b"anything", TRUST_PAYLOAD_TYPE)
    for attempt in (
        services.trust_changes.get("no-such-id"),
        services.trust_changes.sign("no-such-id", ANN, signature),
        services.trust_changes.withdraw("no-such-id", operator(), reason="why"),
    ):
        with pytest.raises(NotFound) as refused:
            await attempt
        assert refused.value.code == "trust_change_not_found"


async def test_pcs_are_given_what_is_published_and_neither_withdrawn_nor_expired(services: Rig) -> None:
    await propose(services)
    gone = await publish(services, ALICE, BOB)
    short = await publish(services, BOB, CAROL, days=1)
    services.clock.advance(1)
    long = await publish(services, CAROL, ALICE)

    await services.trust_changes.withdraw(gone.change.id, operator(), reason="a mistake")
    assert await relayed_bodies(services) == [short.change.body, long.change.body]

    services.clock.advance(DAY_S)
    assert await relayed_bodies(services) == [long.change.body]


async def test_pcs_are_given_the_sixteen_published_last_oldest_first(services: Rig) -> None:
    published = []
    for _ in range(MAX_RELAYED + 1):
        published.append((await publish(services)).change.body)
        services.clock.advance(1)

    assert await relayed_bodies(services) == published[1:]


async def test_the_revision_grows_with_each_publication_and_each_withdrawal_of_what_was_published(
    services: Rig, store: Database
) -> None:
    revisions = [services.trust_changes.revision]
    first = await propose(services)
    revisions.append(services.trust_changes.revision)
    first = await sign(services, first, ALICE)
    revisions.append(services.trust_changes.revision)
    await sign(services, first, BOB)
    revisions.append(services.trust_changes.revision)
    open_one = await propose(services)
    await services.trust_changes.withdraw(open_one.change.id, operator(), reason="a mistake")
    revisions.append(services.trust_changes.revision)
    await services.trust_changes.withdraw(first.change.id, operator(), reason="a mistake")
    revisions.append(services.trust_changes.revision)

    assert revisions == [0, 0, 0, 1, 1, 2]
    assert (await services.trust_changes.relayed()).revision == 2
    restarted = rig(store)
    await restarted.trust_changes.load_revision()
    assert restarted.trust_changes.revision == 2


async def test_a_signature_after_the_publication_publishes_nothing_anew(services: Rig) -> None:
    both = ProposedSet((pin_text(BOB.pin), pin_text(CAROL.pin)), 1)
    proposal = TrustProposal(ProposedSet((pin_text(ALICE.pin),), 1), both, "a lost laptop")
    shown = await services.trust_changes.propose(proposal, operator())

    await sign(services, shown, ALICE, BOB, CAROL)

    assert len(await services.events("trust_change_signed")) == 3
    assert len(await services.events("trust_change_published")) == 1
    assert services.trust_changes.revision == 1


async def test_two_signatures_at_the_same_moment_are_both_kept(services: Rig) -> None:
    shown = await propose(services)
    signatures = [one.sign(shown.change.body, TRUST_PAYLOAD_TYPE) for one in (ALICE, BOB)]

    await asyncio.gather(*(services.trust_changes.sign(shown.change.id, ANN, one) for one in signatures))

    after = await services.trust_changes.get(shown.change.id)
    assert len(after.change.signatures) == 2
    assert after.change.published_at is not None
    assert len(await services.events("trust_change_published")) == 1


async def test_a_change_that_somebody_else_changed_meanwhile_is_not_overwritten(services: Rig, store: Database) -> None:
    shown = await propose(services)
    await sign(services, shown, ALICE)

    with pytest.raises(Conflict) as refused:
        await store.write(lambda tx: tx.trust_changes.put(shown.change))

    assert refused.value.code == "changed_meanwhile"


async def test_the_list_goes_on_where_it_was_left(services: Rig) -> None:
    ids = []
    for _ in range(3):
        ids.append((await propose(services)).change.id)
        services.clock.advance(1)

    first = await services.trust_changes.newest(before=None, limit=2)
    last = first[-1].change
    rest = await services.trust_changes.newest(before=(last.created_at, last.id), limit=2)

    assert [shown.change.id for shown in (*first, *rest)] == ids[::-1]
