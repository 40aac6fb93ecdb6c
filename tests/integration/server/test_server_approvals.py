"""Approvals on both databases: bytes built once, signed by people, relayed untouched; denial, comments, races."""

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from approvers import Approver, browser_key, key_file, passkey
from builders import PC, Rig, operator, request, rig, taken_heartbeat
from fakes import START
from reco3.protocol.envelope import decode_base64url, parse_envelope, read_signed_envelope
from reco3.protocol.messages import WatchedProcess
from reco3.server.domain.approvals import Comment, GivenApproval
from reco3.server.domain.commands import Command, CommandStatus, Expectation
from reco3.server.domain.errors import BadInput, Conflict, Forbidden, NotFound, Reco3Error
from reco3.server.domain.keys import OperatorKey
from reco3.server.domain.operators import Account, Role
from reco3.server.domain.policies import Terms
from reco3.server.services.commands import TakenApproval
from reco3.server.store.database import Database
from reco3.server.web.shapes import order_shape
from reco3.signing.pins import key_text

pytestmark = pytest.mark.anyio

NGINX = WatchedProcess(name="nginx", running=True, pid=77, create_time_ms=1_900_000_000_123)
RESTARTED = replace(NGINX, pid=78, create_time_ms=1_900_000_900_000)
ANN, BOB, CY = key_file("ann"), key_file("bob"), key_file("cy")


@pytest.fixture
async def services(store: Database) -> Rig:
    """Every service over a real store; one PC watches nginx, and ann, bob and cy have keys."""
    services = rig(store)
    await beat(services)
    for approver in (ANN, BOB, CY):
        await register(services, approver)
    return services


async def beat(services: Rig, process: WatchedProcess = NGINX, **said: Any) -> None:
    """A heartbeat as the server keeps it, with what the PC says of its approvers."""
    taken = taken_heartbeat(processes=[process], at=services.clock())
    body = json.loads(taken.payload_json)
    body["metrics"] |= {"journal": "j1", **said}
    await services.agents.record_heartbeat(taken._replace(payload_json=json.dumps(body)))


async def pins(services: Rig, *, required: int = 1) -> None:
    await beat(services, approvers_pinned=3, approvals_required=required, trust_version="0123456789abcdef")


async def register(services: Rig, approver: Approver) -> None:
    key = OperatorKey(
        key_id_of(approver),
        approver.owner,
        approver.kind,
        key_text(approver.public_key),
        "laptop",
        START,
        origin=approver.origin,
    )
    await services.store.write(lambda tx: tx.operator_keys.add(key))


def key_id_of(approver: Approver) -> str:
    return hashlib.sha256(approver.public_key).hexdigest()[:32]


async def asked_by(services: Rig, name: str = "rita") -> Command:
    return await services.commands.request(request("RESTART_PROCESS", {"process": "nginx"}), operator(name=name))


async def sign(services: Rig, asked: Command, approver: Approver, **more: Any) -> TakenApproval:
    envelope = (await services.approvals.offer(asked.id)).envelope
    given = GivenApproval(signature=approver.sign(envelope.body), body_sha256=envelope.sha256, **more)
    return await services.commands.approve(asked.id, operator(Role.APPROVER, approver.owner), given)


async def refusal(services: Rig, asked: Command, approver: Approver, given: GivenApproval) -> str:
    with pytest.raises(Reco3Error) as refused:
        await services.commands.approve(asked.id, operator(Role.APPROVER, approver.owner), given)
    return refused.value.code


async def stored(services: Rig, asked: Command) -> Command:
    return (await services.commands.life(asked.id)).command


async def pulled(services: Rig) -> list[dict[str, Any]]:
    found = await services.deliveries.pull(PC, journal="j1", wait_s=0)
    return [order_shape(command) for command in found.commands]


async def body_in_database(services: Rig, asked: Command) -> bytes:
    query = text("SELECT body FROM command_envelopes WHERE command_id = :id")
    return bytes(
        await services.store.read(lambda tx: tx._connection.execute(query, {"id": asked.id}).scalar_one())  # type: ignore[attr-defined]
    )


async def test_the_envelope_is_built_with_the_request_and_says_what_was_asked(services: Rig) -> None:
    asked = await asked_by(services)

    offer = await services.approvals.offer(asked.id)

    says = offer.envelope.says
    assert (says.command_id, says.agent_id, says.type) == (asked.id, PC, "RESTART_PROCESS")
    assert (says.requested_by, says.agent_epoch, dict(says.payload)) == ("rita", "j1", {"process": "nginx"})
    assert says.expect is not None
    assert (says.expect.pid, says.expect.create_time_ms) == (77, 1_900_000_000_123)
    assert says.expires_at - says.created_at == 900
    assert says.fleet_id == await services.approvals.open_fleet()


async def test_every_envelope_names_the_same_fleet_and_its_own_nonce(services: Rig) -> None:
    says = [(await services.approvals.offer((await asked_by(services)).id)).envelope.says for _ in range(3)]

    assert len({one.fleet_id for one in says}) == 1
    assert len({one.nonce for one in says}) == 3


async def test_what_is_not_strong_has_no_envelope(services: Rig) -> None:
    safe = await services.commands.request(request(), operator())

    with pytest.raises(BadInput) as refused:
        await services.approvals.offer(safe.id)
    assert refused.value.code == "approval_not_needed"
    assert "envelope" not in (await pulled(services))[0]
    with pytest.raises(NotFound):
        await services.approvals.offer("no-such-command")


@pytest.mark.parametrize("make", [key_file, passkey, browser_key])
async def test_one_signature_of_any_kind_approves_and_travels_with_the_very_bytes(services: Rig, make: Any) -> None:
    await pins(services)
    dora = make("dora")
    await register(services, dora)
    asked = await asked_by(services)
    body = await body_in_database(services, asked)

    taken = await sign(services, asked, dora, comment="looked at it")
    order = (await pulled(services))[0]

    assert taken.command.is_approved
    assert decode_base64url(order["envelope"]["body"]) == body == await body_in_database(services, asked)
    sent = read_signed_envelope(order["envelope"])
    assert sent.signatures == (taken.approval.signature,)
    kept = (await stored(services, asked)).approvals[0]
    assert (kept.approved_by, kept.comment, kept.signature) == ("dora", "looked at it", taken.approval.signature)


async def test_two_of_three_people_are_needed_and_one_alone_delivers_nothing(services: Rig) -> None:
    await pins(services, required=2)
    asked = await asked_by(services)

    first = await sign(services, asked, ANN)
    assert not first.command.is_approved
    assert await pulled(services) == []
    again = GivenApproval(signature=ANN.sign(await body_in_database(services, asked)))
    assert await refusal(services, asked, ANN, again) == "already_approved"
    assert await pulled(services) == []
    second = await sign(services, asked, BOB)
    assert second.command.is_approved
    third = GivenApproval(signature=CY.sign(await body_in_database(services, asked)))
    assert await refusal(services, asked, CY, third) == "already_approved"

    order = (await pulled(services))[0]
    assert len(order["envelope"]["signatures"]) == 2
    assert order["approval"]["approved_by"] == "bob"


async def test_a_pc_that_pins_approvers_gets_no_unsigned_approval(services: Rig) -> None:
    await pins(services)
    asked = await asked_by(services)

    assert await refusal(services, asked, ANN, GivenApproval()) == "signature_needed"

    assert (await stored(services, asked)).approvals == ()
    assert await pulled(services) == []


async def test_a_pc_that_pins_nobody_takes_the_bare_word_as_before(services: Rig) -> None:
    asked = await asked_by(services)

    await services.commands.approve(asked.id, operator(name="ann"))

    order = (await pulled(services))[0]
    assert (order["approved"], order["envelope"]["signatures"]) == (True, [])
    told = (await services.events("command_approved"))[0].payload
    assert (told["verified_by_pc"], told["note"]) == (False, "approvals not verified by this PC")


async def test_the_audit_says_which_keys_signed_for_a_pc_that_verifies(services: Rig) -> None:
    await pins(services)
    asked = await asked_by(services)

    await sign(services, asked, ANN)

    told = (await services.events("command_approved"))[0].payload
    assert (told["verified_by_pc"], told["key_ids"], told["kind"]) == (True, [key_id_of(ANN)], "ed25519")
    assert "note" not in told


async def test_only_the_approvers_own_registered_key_counts(services: Rig) -> None:
    asked = await asked_by(services)
    body = await body_in_database(services, asked)

    stranger = key_file("ann")
    assert await refusal(services, asked, ANN, GivenApproval(signature=stranger.sign(body))) == "unknown_key"
    assert await refusal(services, asked, ANN, GivenApproval(signature=BOB.sign(body))) == "unknown_key"
    lent = replace(BOB.sign(body), key_id=key_id_of(ANN))
    assert await refusal(services, asked, ANN, GivenApproval(signature=lent)) == "bad_signature"
    await services.store.write(lambda tx: tx.operator_keys.revoke(key_id_of(ANN), START))
    assert await refusal(services, asked, ANN, GivenApproval(signature=ANN.sign(body))) == "unknown_key"

    assert (await stored(services, asked)).approvals == ()


async def test_a_signature_over_another_command_is_refused(services: Rig) -> None:
    asked, other = await asked_by(services), await asked_by(services)
    over_the_other = GivenApproval(signature=ANN.sign(await body_in_database(services, other)))

    assert await refusal(services, asked, ANN, over_the_other) == "bad_signature"


async def test_a_passkeys_counter_is_kept(services: Rig) -> None:
    dora = passkey("dora")
    await register(services, dora)

    await sign(services, await asked_by(services), dora)

    key = await services.store.read(lambda tx: tx.operator_keys.get(key_id_of(dora)))
    assert key.sign_count == 7


async def test_another_process_renews_the_bytes_for_the_next_approver(services: Rig) -> None:
    asked = await asked_by(services)
    old = (await services.approvals.offer(asked.id)).envelope
    await beat(services, RESTARTED)

    signed_old = GivenApproval(signature=ANN.sign(old.body))
    assert await refusal(services, asked, ANN, signed_old) == "changed_since_shown"
    new = (await services.approvals.offer(asked.id)).envelope
    named_old = GivenApproval(signature=ANN.sign(new.body), body_sha256=old.sha256)
    assert await refusal(services, asked, ANN, named_old) == "changed_since_shown"
    await sign(services, asked, ANN)

    assert new.says.nonce != old.says.nonce
    assert new.says.expect is not None
    assert new.says.expect.pid == 78
    assert (await services.approvals.offer(asked.id)).envelope == new
    assert decode_base64url((await pulled(services))[0]["envelope"]["body"]) == new.body
    assert (await stored(services, asked)).expectation == Expectation(78, 1_900_000_900_000)


async def test_the_first_signature_fixes_the_bytes_for_good(services: Rig) -> None:
    await pins(services, required=2)
    asked = await asked_by(services)
    await sign(services, asked, ANN)
    body = await body_in_database(services, asked)
    await beat(services, RESTARTED, approvers_pinned=3, approvals_required=2)

    offered = (await services.approvals.offer(asked.id)).envelope

    assert offered.body == body == await body_in_database(services, asked)
    assert await refusal(services, asked, BOB, GivenApproval(signature=BOB.sign(body))) == "changed_since_shown"


async def test_a_bare_yes_after_a_restart_is_to_the_process_there_is_now(services: Rig) -> None:
    asked = await asked_by(services)
    await beat(services, RESTARTED)

    await services.commands.approve(asked.id, operator(name="ann"))

    order = (await pulled(services))[0]
    says = parse_envelope(decode_base64url(order["envelope"]["body"]))
    assert says.expect is not None
    assert order["expect"] == {"pid": 78, "create_time_ms": 1_900_000_900_000}
    assert (says.expect.pid, says.expect.create_time_ms) == (78, 1_900_000_900_000)


async def test_who_asked_may_not_approve_once_there_are_people(services: Rig) -> None:
    alone = await asked_by(services, "ann")
    await services.commands.approve(alone.id, operator(name="ann"))
    ann = Account("ann", Role.APPROVER, START, password_hash="hash")
    await services.store.write(lambda tx: tx.operators.add(ann))

    asked = await asked_by(services, "ann")

    with pytest.raises(Forbidden) as refused:
        await services.commands.approve(asked.id, operator(name="ann"))
    assert refused.value.code == "self_approval"
    await services.commands.approve(asked.id, operator(name="bob"))
    assert (await stored(services, asked)).is_approved


async def test_a_policy_for_two_people_holds_without_any_pin(services: Rig) -> None:
    await services.policies.put("*", "pc-*", Terms(approvals_required=2, four_eyes=True), operator())
    asked = await asked_by(services)

    await services.commands.approve(asked.id, operator(name="ann"))
    with pytest.raises(Forbidden):
        await services.commands.approve(asked.id, operator(name="rita"))
    assert await pulled(services) == []
    await services.commands.approve(asked.id, operator(name="bob"))

    assert [order["id"] for order in await pulled(services)] == [asked.id]


async def test_a_pc_that_raises_its_number_meanwhile_is_heard(services: Rig) -> None:
    await pins(services)
    asked = await asked_by(services)
    await pins(services, required=2)

    first = await sign(services, asked, ANN)

    assert (first.command.is_approved, first.command.approvals_required) == (False, 2)


async def test_the_test_modes_switch_leaves_a_pc_that_pins_approvers_closed(store: Database) -> None:
    services = rig(store, approval_required=False)
    await beat(services)
    assert (await asked_by(services)).is_approved

    await pins(services)
    asked = await asked_by(services)

    assert not asked.is_approved
    assert [order["id"] for order in await pulled(services)] != [asked.id]


@pytest.mark.parametrize("reason", ["bell \x07", "zero\u200bwidth"])
async def test_what_no_envelope_can_say_is_refused_where_signatures_are_needed(services: Rig, reason: str) -> None:
    wish = replace(request("RESTART_PROCESS", {"process": "nginx"}), reason=reason)
    believed = await services.commands.request(wish, operator())
    await pins(services)

    with pytest.raises(BadInput, match="reason"):
        await services.commands.request(wish, operator())

    assert believed.envelope is None
    with pytest.raises(NotFound) as refused:
        await services.approvals.offer(believed.id)
    assert refused.value.code == "no_envelope"


async def test_a_denied_command_never_runs_and_says_why(services: Rig) -> None:
    asked = await asked_by(services)

    await services.approvals.deny(asked.id, operator(Role.APPROVER, "ann"), reason="not during the sale")

    found = await stored(services, asked)
    assert (found.status, found.rejected_by, found.rejection_reason) == (
        CommandStatus.REJECTED,
        "ann",
        "not during the sale",
    )
    assert await refusal(services, asked, BOB, GivenApproval()) == "not_pending"
    assert await pulled(services) == []
    told = (await services.events("command_rejected"))[0]
    assert (told.actor, told.payload["reason"]) == ("user:ann", "not during the sale")


async def test_an_approved_command_can_be_denied_until_its_pc_has_it(services: Rig) -> None:
    first, second = await asked_by(services), await asked_by(services)
    await services.commands.approve(first.id, operator(name="ann"))
    await services.approvals.deny(first.id, operator(name="bob"), reason="no")
    assert await pulled(services) == []

    await services.commands.approve(second.id, operator(name="ann"))
    await pulled(services)

    with pytest.raises(Conflict) as refused:
        await services.approvals.deny(second.id, operator(name="bob"), reason="too late")
    assert refused.value.code == "not_pending"


async def test_comments_stay_with_their_command_in_order_and_within_bounds(services: Rig) -> None:
    asked = await asked_by(services)

    for number in range(200):
        await services.approvals.comment(asked.id, operator(name="ann"), text=f"thought {number}")
    with pytest.raises(Conflict) as refused:
        await services.approvals.comment(asked.id, operator(name="ann"), text="one more")

    life = await services.commands.life(asked.id)
    assert refused.value.code == "too_many_comments"
    assert [comment.text for comment in life.comments] == [f"thought {number}" for number in range(200)]
    assert isinstance(life.comments[0], Comment)
    with pytest.raises(NotFound):
        await services.approvals.comment("no-such-command", operator(), text="hello")


async def test_of_many_approvers_at_once_exactly_as_many_count_as_are_needed(services: Rig) -> None:
    await pins(services, required=2)
    asked = await asked_by(services)
    people = [key_file(f"p-{number}") for number in range(8)]
    for one in people:
        await register(services, one)

    outcomes = await asyncio.gather(*(sign(services, asked, one) for one in people), return_exceptions=True)

    taken = [one for one in outcomes if isinstance(one, TakenApproval)]
    assert {one.code for one in outcomes if isinstance(one, Conflict)} <= {"already_approved", "changed_meanwhile"}
    assert len(taken) == 2
    assert len((await stored(services, asked)).approvals) == 2


async def test_two_servers_on_one_database_cannot_both_record_the_last_approval(store_url: Any) -> None:
    first, second = Database(store_url), Database(store_url)
    first.open()
    first.start()
    second.start()
    try:
        one, two = rig(first), rig(second)
        await beat(one)
        asked = await asked_by(one)

        outcomes = await asyncio.gather(
            one.commands.approve(asked.id, operator(name="ann")),
            two.commands.approve(asked.id, operator(name="bob")),
            return_exceptions=True,
        )

        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "TakenApproval"]
        assert len((await stored(one, asked)).approvals) == 1
    finally:
        first.close()
        second.close()


async def test_a_signature_that_somebody_spoilt_in_the_database_counts_for_nothing(services: Rig) -> None:
    await pins(services)
    asked = await asked_by(services)
    await sign(services, asked, ANN)

    spoil = text('UPDATE approvals SET signature_json = \'{"kind": "ed25519"}\'')
    await services.store.write(lambda tx: tx._connection.execute(spoil))  # type: ignore[attr-defined]

    assert (await pulled(services))[0]["envelope"]["signatures"] == []


async def test_bytes_that_somebody_spoilt_in_the_database_are_offered_to_nobody(services: Rig) -> None:
    asked = await asked_by(services)
    spoil = text("UPDATE command_envelopes SET body = :body")
    await services.store.write(lambda tx: tx._connection.execute(spoil, {"body": b"{}"}))  # type: ignore[attr-defined]

    with pytest.raises(Conflict) as refused:
        await services.approvals.offer(asked.id)

    assert refused.value.code == "bad_envelope"
