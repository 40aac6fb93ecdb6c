"""Passwords are hashed with Argon2id, beside the event loop, and as slowly for nobody as for somebody."""

import asyncio
import threading

import pytest
from argon2 import extract_parameters

from reco3.server.domain.errors import Busy
from reco3.server.services.passwords import AT_ONCE, MAX_WAITING, Cost, Passwords

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse battery"


async def test_a_password_is_known_again_and_another_is_not() -> None:
    passwords = Passwords()
    stored = await passwords.hash(PASSWORD)

    assert stored.startswith("$argon2id$v=19$")
    assert PASSWORD not in stored
    assert await passwords.is_right(PASSWORD, stored)
    assert not await passwords.is_right(PASSWORD + " ", stored)


async def test_a_password_is_the_same_however_a_keyboard_composes_it() -> None:
    passwords = Passwords()

    assert await passwords.is_right(
        "scho\u0308ne Gru\u0308\u00dfe Anna", await passwords.hash("sch\u00f6ne Gr\u00fc\u00dfe Anna")
    )


async def test_nobodys_password_costs_what_everybodys_costs_and_is_never_right() -> None:
    costs = extract_parameters(Cost().nobodys_hash)

    assert (costs.time_cost, costs.memory_cost, costs.parallelism) == (3, 65_536, 1)
    assert costs == extract_parameters(await Passwords().hash(PASSWORD))
    assert not await Passwords().is_right(PASSWORD, None)


async def test_a_stored_hash_that_is_none_lets_nobody_in() -> None:
    assert not await Passwords().is_right(PASSWORD, "$argon2id$v=19$m=65536,t=3,p=1$AAAA$AAAA")


async def test_a_flood_of_log_ins_is_told_to_come_later() -> None:
    passwords = Passwords()
    held = threading.Event()
    passwords._is_same = lambda *_: not held.wait(10)  # type: ignore[method-assign]

    jobs = [asyncio.create_task(passwords.is_right(PASSWORD, None)) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await passwords.is_right(PASSWORD, None)
    held.set()

    assert await asyncio.gather(*jobs) == [False] * MAX_WAITING
    assert AT_ONCE < MAX_WAITING
