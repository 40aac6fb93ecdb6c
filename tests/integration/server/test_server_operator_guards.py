"""The guards around people, each with its negative control: with the guard off, what it stops goes through."""

from dataclasses import replace
from datetime import timedelta

import pytest

from builders import Rig, operator, rig
from fakes import START
from reco3.server.domain.errors import BadInput, Conflict, Forbidden, TooManyRequests, Unauthorized
from reco3.server.domain.keys import Site
from reco3.server.domain.operators import LoginMethod, Operator, Role
from reco3.server.services import accounts as accounts_module
from reco3.server.services import guesses
from reco3.server.services.accounts import AccountChange
from reco3.server.services.challenges import ChallengeBook
from reco3.server.services.tokens import NewToken
from reco3.server.store.database import Database
from reco3.server.web.audiences import Audience, operators
from reco3.server.web.auth import SESSION_COOKIE, Authenticator

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)]

PASSWORD = "correct horse battery"
SITE = Site("http://localhost:5001", "localhost")


@pytest.fixture
async def services(store: Database) -> Rig:
    """Every service over a real store, with one administrator who has a password."""
    services = rig(store)
    await services.operators.set_up(await services.operators.open_set_up() or "", password=PASSWORD)
    return services


async def session_of_admin(services: Rig) -> str:
    return (await services.operators.log_in_with_password("admin", PASSWORD, remote="192.0.2.1")).token


async def knock(services: Rig, audience: Audience, headers: dict[str, str]) -> Operator:
    """What the guard of a route says to a POST with these headers."""
    authenticator = Authenticator(
        services.agent_keys, services.operators, services.denials, implicit_admin=False, clock=services.clock
    )
    sent = {"host": "localhost", "origin": "http://localhost", **headers}
    raw = [(name.encode(), value.encode()) for name, value in sent.items()]
    scope = {"type": "http", "method": "POST", "scheme": "http", "path": "/x", "headers": raw, "client": ("::1", 1)}
    return await authenticator.operator(scope, audience, Role.VIEWER)


async def test_a_route_that_needs_a_proof_refuses_an_old_one_and_without_the_need_lets_it_in(services: Rig) -> None:
    browser = {"cookie": f"{SESSION_COOKIE}={await session_of_admin(services)}"}
    guarded = operators(Role.VIEWER, needs_proof=True)

    assert (await knock(services, guarded, browser)).name == "admin"
    services.clock.advance(timedelta(minutes=5).total_seconds())
    with pytest.raises(Forbidden) as refusal:
        await knock(services, guarded, browser)

    assert refusal.value.code == "proof_needed"
    assert (await knock(services, replace(guarded, needs_proof=False), browser)).name == "admin"


async def test_a_route_that_needs_a_person_refuses_a_token_and_without_the_need_lets_it_in(services: Rig) -> None:
    admin = Operator("admin", Role.ADMIN, LoginMethod.SESSION)
    made = await services.tokens.make(NewToken("ci", Role.ADMIN, timedelta(days=1)), admin)
    guarded = operators(Role.VIEWER, needs_person=True)

    with pytest.raises(Forbidden) as refusal:
        await knock(services, guarded, {"x-api-key": made.text})

    assert refusal.value.code == "person_needed"
    assert (await knock(services, replace(guarded, needs_person=False), {"x-api-key": made.text})).name == "admin"


@pytest.mark.parametrize("is_guarded", [True, False])
async def test_guessing_ends_after_ten(services: Rig, monkeypatch: pytest.MonkeyPatch, *, is_guarded: bool) -> None:
    if not is_guarded:
        monkeypatch.setattr(guesses, "MAX_WRONG", 1_000)
    for number in range(10):
        with pytest.raises(Unauthorized):
            await services.operators.log_in_with_password("admin", f"wrong-{number}", remote="192.0.2.1")

    if is_guarded:
        with pytest.raises(TooManyRequests):
            await session_of_admin(services)
    else:
        assert await session_of_admin(services)


@pytest.mark.parametrize("is_guarded", [True, False])
async def test_the_last_administrator_is_kept(
    services: Rig, monkeypatch: pytest.MonkeyPatch, *, is_guarded: bool
) -> None:
    change = AccountChange(is_disabled=True)
    if is_guarded:
        with pytest.raises(Conflict):
            await services.accounts.change("admin", change, operator())
        assert await session_of_admin(services)
        return
    monkeypatch.setattr(accounts_module, "refuse_last_admin", lambda **_: None)
    await services.accounts.change("admin", change, operator())
    with pytest.raises(Unauthorized):
        await session_of_admin(services)


@pytest.mark.parametrize("is_guarded", [True, False])
async def test_a_role_is_looked_up_for_every_request(
    services: Rig, monkeypatch: pytest.MonkeyPatch, *, is_guarded: bool
) -> None:
    invited = await services.accounts.invite("eve", Role.ADMIN, operator())
    token = (await services.accounts.accept(invited.token, None)).token
    eve = await services.store.read(lambda tx: tx.operators.get("eve"))
    assert eve is not None
    # Straight in the database, so that no service ends the session.
    await services.store.write(lambda tx: tx.operators.put(replace(eve, role=Role.VIEWER)))
    if not is_guarded:
        monkeypatch.setattr(services.operators.directory, "role_of", lambda *_: Role.ADMIN)

    found = await services.operators.by_session(token)

    assert found is not None
    assert found.role is (Role.VIEWER if is_guarded else Role.ADMIN)


async def test_a_challenge_is_taken_out_of_the_book_by_its_first_use(services: Rig) -> None:
    book = ChallengeBook(services.clock)
    challenge = book.fresh(SITE)
    book.put("a", challenge)

    assert book.take("a") == challenge
    with pytest.raises(BadInput):
        book.take("a")
    book.put("a", challenge)
    assert book.take("a") == challenge


async def test_the_book_of_challenges_forgets_the_oldest_of_too_many(
    services: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reco3.server.services.challenges.MAX_OPEN", 3)
    book = ChallengeBook(services.clock)
    for name in ("a", "b", "b", "c", "d"):
        book.put(name, book.fresh(SITE))

    with pytest.raises(BadInput):
        book.take("a")
    assert {book.take(name).expires_at for name in ("b", "c", "d")} == {START + timedelta(minutes=5)}
