"""Operators' keys and passkeys: registered only with a proof, used only by their owner, and never fooled."""

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from builders import Rig, operator, rig
from reco3.protocol.envelope import (
    PAYLOAD_TYPE,
    KeyKind,
    decode_base64url,
    encode_base64url,
    pre_authentication_encoding,
)
from reco3.server.domain.errors import BadInput, Conflict, Forbidden, NotFound, Reco3Error, Unauthorized
from reco3.server.domain.keys import Assertion, Attestation, OperatorKey, Site
from reco3.server.domain.operators import LoginMethod, Operator, Role
from reco3.server.services.accounts import AccountChange
from reco3.server.services.keys import MAX_KEYS, HeldKey
from reco3.server.store.database import Database
from reco3.signing.pins import key_id, pin_text
from reco3.signing.proofs import key_proof_bytes
from soft_authenticator import EDDSA, ES256, ORIGIN, PERSON, USER_PRESENT, SoftAuthenticator, new_key, spki

pytestmark = pytest.mark.anyio

SITE = Site(ORIGIN, "localhost")
IP_SITE = Site("http://127.0.0.1:5001", "127.0.0.1")
ALICE = Operator("alice", Role.APPROVER, LoginMethod.SESSION)
BOB = Operator("bob", Role.APPROVER, LoginMethod.SESSION)


@pytest.fixture
async def services(store: Database) -> Rig:
    """Every service over a real store, with two people."""
    services = rig(store, api_key="an-operator-key")
    for name in ("alice", "bob"):
        invited = await services.accounts.invite(name, Role.APPROVER, operator())
        await services.accounts.accept(invited.token, None)
    return services


def attestation_of(answer: dict[str, Any]) -> Attestation:
    response = answer["response"]
    parts = (answer["rawId"], response["clientDataJSON"], response["attestationObject"])
    return Attestation(*map(decode_base64url, parts))


def assertion_of(answer: dict[str, Any]) -> Assertion:
    response = answer["response"]
    parts = (response["clientDataJSON"], response["authenticatorData"], response["signature"])
    return Assertion(*map(decode_base64url, (answer["rawId"], *parts)))


async def registered(services: Rig, passkey: SoftAuthenticator, who: Operator = ALICE) -> OperatorKey:
    options = json.loads(await services.operator_keys.passkey_options(who, SITE))
    answer = passkey.create(options["challenge"])
    return await services.operator_keys.register_passkey(attestation_of(answer), "phone", who)


async def refused_registration(services: Rig, make: Callable[[str], dict[str, Any]]) -> Reco3Error:
    challenge = json.loads(await services.operator_keys.passkey_options(ALICE, SITE))["challenge"]
    with pytest.raises(Reco3Error) as refusal:
        await services.operator_keys.register_passkey(attestation_of(make(challenge)), "phone", ALICE)
    assert await services.operator_keys.of("alice") == []
    return refusal.value


def held(kind: KeyKind, private_key: Any, message: bytes, *, label: str = "file") -> HeldKey:
    """A key of one of the other kinds, with its signature over a message."""
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        raw = private_key.public_key().public_bytes_raw()
        public_key = base64.b64encode(raw).decode() if kind is KeyKind.ED25519 else spki(private_key)
        return HeldKey(kind, public_key, private_key.sign(message), label)
    r, s = decode_dss_signature(private_key.sign(message, ec.ECDSA(SHA256())))
    return HeldKey(kind, spki(private_key), r.to_bytes(32, "big") + s.to_bytes(32, "big"), label)


@pytest.mark.parametrize("algorithm", [ES256, EDDSA])
async def test_a_passkey_is_registered_with_the_line_that_pcs_pin(services: Rig, algorithm: int) -> None:
    passkey = SoftAuthenticator(algorithm)

    key = await registered(services, passkey)

    assert pin_text(key.pin) == f"alice:webauthn:{passkey.public_key} {ORIGIN}"
    assert key.key_id == key_id(base64.b64decode(passkey.public_key))
    assert (key.rp_id, key.credential_id) == ("localhost", encode_base64url(passkey.credential_id))
    assert await services.operator_keys.of("alice") == [key]
    assert [event.ref_id for event in await services.events("operator_key_added")] == [key.key_id]


async def test_the_options_ask_for_a_verified_person_and_our_two_algorithms(services: Rig) -> None:
    known = await registered(services, SoftAuthenticator())

    options = json.loads(await services.operator_keys.passkey_options(ALICE, SITE))

    assert options["rp"] == {"name": "RECO3", "id": "localhost"}
    assert [one["alg"] for one in options["pubKeyCredParams"]] == [-7, -8]
    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert options["authenticatorSelection"]["residentKey"] == "preferred"
    assert options["attestation"] == "none"
    assert [one["id"] for one in options["excludeCredentials"]] == [known.credential_id]
    assert options["user"]["name"] == "alice"
    assert b"alice" not in decode_base64url(options["user"]["id"])


@pytest.mark.parametrize(
    "flaw",
    [
        {"flags": USER_PRESENT},
        {"flags": 0},
        {"origin": "http://localhost:5002"},
        {"origin": "https://localhost:5001"},
        {"origin": "http://evil.example"},
        {"rp_id": "evil.example"},
        {"client_type": "webauthn.get"},
        {"crossOrigin": True},
        {"crossOrigin": "false"},
        {"topOrigin": "http://evil.example"},
        {"challenge": encode_base64url(bytes(32))},
    ],
    ids=str,
)
async def test_a_registration_with_a_flaw_is_refused(services: Rig, flaw: dict[str, Any]) -> None:
    refusal = await refused_registration(
        services, lambda challenge: SoftAuthenticator().create(**{"challenge": challenge, **flaw})
    )

    assert refusal.code == "passkey_refused"


async def test_without_the_flaw_the_same_registration_is_taken(services: Rig) -> None:
    assert (await registered(services, SoftAuthenticator())).owner == "alice"


async def test_a_challenge_is_used_once_belongs_to_one_person_and_lasts_five_minutes(services: Rig) -> None:
    passkey = SoftAuthenticator()
    challenge = json.loads(await services.operator_keys.passkey_options(ALICE, SITE))["challenge"]
    answer = attestation_of(passkey.create(challenge))

    with pytest.raises(BadInput) as of_another:
        await services.operator_keys.register_passkey(answer, "phone", BOB)
    await services.operator_keys.register_passkey(answer, "phone", ALICE)
    with pytest.raises(BadInput) as again:
        await services.operator_keys.register_passkey(answer, "phone", ALICE)
    late = json.loads(await services.operator_keys.passkey_options(ALICE, SITE))["challenge"]
    services.clock.advance(timedelta(minutes=5).total_seconds())
    with pytest.raises(BadInput) as too_late:
        await services.operator_keys.register_passkey(attestation_of(SoftAuthenticator().create(late)), "x", ALICE)

    assert {one.value.code for one in (of_another, again, too_late)} == {"challenge_over"}


async def test_an_attestation_with_a_flipped_bit_is_refused_or_the_persons_own(services: Rig) -> None:
    taken: list[OperatorKey] = []
    for at in range(0, 190, 3):
        challenge = json.loads(await services.operator_keys.passkey_options(ALICE, SITE))["challenge"]
        good = attestation_of(SoftAuthenticator().create(challenge))
        flipped = bytearray(good.attestation_object)
        flipped[at] ^= 1 << (at % 8)
        with contextlib.suppress(BadInput, Conflict):
            broken = replace(good, attestation_object=bytes(flipped))
            taken.append(await services.operator_keys.register_passkey(broken, "phone", ALICE))

    # Without an attestation nothing signs a new passkey's own bytes; it is the person's own, whatever it says.
    assert set(await services.operator_keys.of("alice")) == set(taken)
    assert await services.operator_keys.of("bob") == []


@pytest.mark.parametrize("garbage", [b"", b"\xa0", b"\xff" * 40, b"\xbf" * 2_000, b"\x9b" + b"\xff" * 8, b"a" * 20_000])
async def test_garbage_instead_of_an_attestation_is_refused(services: Rig, garbage: bytes) -> None:
    await services.operator_keys.passkey_options(ALICE, SITE)
    for broken in (
        Attestation(b"id", b"{}", garbage),
        Attestation(b"id", garbage, b"\xa0"),
        Attestation(garbage, b"[]", b""),
    ):
        await services.operator_keys.passkey_options(ALICE, SITE)
        with pytest.raises(BadInput) as refusal:
            await services.operator_keys.register_passkey(broken, "phone", ALICE)
        assert refusal.value.code == "passkey_refused"


async def test_passkeys_are_refused_on_an_ip_address_and_a_browser_key_is_not(services: Rig) -> None:
    for ask in (services.operator_keys.passkey_options(ALICE, IP_SITE),):
        with pytest.raises(BadInput) as refusal:
            await ask
        assert refusal.value.code == "passkey_needs_host_name"
        assert "http://localhost:5001/r3" in refusal.value.message
    with pytest.raises(BadInput):
        services.passkeys.challenge(IP_SITE)

    challenge = services.operator_keys.challenge(KeyKind.WEBCRYPTO, ALICE, IP_SITE)
    browser_key = held(KeyKind.WEBCRYPTO, new_key(), key_proof_bytes(challenge))
    key = await services.operator_keys.register(browser_key, ALICE)

    assert pin_text(key.pin) == f"alice:webcrypto:{browser_key.public_key} http://127.0.0.1:5001"


@pytest.mark.parametrize(("kind", "algorithm"), [("webcrypto", ES256), ("webcrypto", EDDSA), ("ed25519", EDDSA)])
async def test_a_key_that_signs_the_challenge_is_registered(services: Rig, kind: str, algorithm: int) -> None:
    challenge = services.operator_keys.challenge(KeyKind(kind), ALICE, SITE)

    key = await services.operator_keys.register(
        held(KeyKind(kind), new_key(algorithm), key_proof_bytes(challenge)), ALICE
    )

    assert (key.kind, key.origin) == (kind, None if kind == "ed25519" else ORIGIN)
    assert await services.operator_keys.of("alice") == [key]


@pytest.mark.parametrize("kind", [KeyKind.WEBCRYPTO, KeyKind.ED25519])
async def test_a_signature_of_anything_but_the_encoded_challenge_is_no_proof(services: Rig, kind: KeyKind) -> None:
    private_key = new_key(EDDSA if kind is KeyKind.ED25519 else ES256)
    others: list[Callable[[bytes], bytes]] = [
        lambda challenge: challenge,
        lambda challenge: hashlib.sha256(challenge).digest(),
        lambda challenge: pre_authentication_encoding(PAYLOAD_TYPE, challenge),
        lambda _: key_proof_bytes(bytes(32)),
        lambda challenge: key_proof_bytes(challenge) + b"\n",
    ]
    for signed in others:
        challenge = services.operator_keys.challenge(kind, ALICE, SITE)
        with pytest.raises(BadInput) as refusal:
            await services.operator_keys.register(held(kind, private_key, signed(challenge)), ALICE)
        assert refusal.value.code == "bad_proof"

    assert await services.operator_keys.of("alice") == []


@pytest.mark.parametrize(
    ("kind", "public_key"),
    [
        ("ed25519", ""),
        ("ed25519", base64.b64encode(bytes(31)).decode()),
        ("ed25519", base64.b64encode(bytes(32)).decode().rstrip("=")),
        ("ed25519", "not base64!"),
        ("ed25519", spki(new_key(EDDSA))),
        ("webcrypto", base64.b64encode(bytes(91)).decode()),
        (
            "webcrypto",
            base64.b64encode(
                bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004") + b"\1" * 64
            ).decode(),
        ),
        ("webcrypto", "\u00fc" * 40),
    ],
    ids=range(8),
)
async def test_what_is_no_public_key_of_its_kind_is_refused(services: Rig, kind: str, public_key: str) -> None:
    services.operator_keys.challenge(KeyKind(kind), ALICE, SITE)

    with pytest.raises(BadInput) as refusal:
        await services.operator_keys.register(HeldKey(KeyKind(kind), public_key, bytes(64), "x"), ALICE)

    assert refusal.value.code in ("bad_key", "bad_proof")


async def test_a_key_belongs_to_one_person_for_ever(services: Rig) -> None:
    private_key = new_key(EDDSA)

    async def register(who: Operator) -> OperatorKey:
        challenge = services.operator_keys.challenge(KeyKind.ED25519, who, SITE)
        return await services.operator_keys.register(
            held(KeyKind.ED25519, private_key, key_proof_bytes(challenge)), who
        )

    key = await register(ALICE)
    for who in (ALICE, BOB):
        with pytest.raises(Conflict) as refusal:
            await register(who)
        assert refusal.value.code == "key_known"
    with pytest.raises(NotFound):
        await services.operator_keys.revoke(key.key_id, BOB)
    await services.operator_keys.revoke(key.key_id, ALICE)
    with pytest.raises(NotFound):
        await services.operator_keys.revoke(key.key_id, ALICE)
    with pytest.raises(Conflict):
        await register(ALICE)

    assert await services.operator_keys.of("alice") == []


async def test_a_person_has_twenty_keys_at_most(services: Rig) -> None:
    for number in range(MAX_KEYS + 1):
        challenge = services.operator_keys.challenge(KeyKind.ED25519, ALICE, SITE)
        key = held(KeyKind.ED25519, new_key(EDDSA), key_proof_bytes(challenge), label=str(number))
        if number < MAX_KEYS:
            await services.operator_keys.register(key, ALICE)
            continue
        with pytest.raises(Conflict) as refusal:
            await services.operator_keys.register(key, ALICE)
        assert refusal.value.code == "too_many_keys"


async def test_a_passkey_logs_its_person_in_without_a_name(services: Rig) -> None:
    passkey = SoftAuthenticator(sign_count=4)
    key = await registered(services, passkey)
    passkey.sign_count = 5

    opened = await services.passkeys.log_in(assertion_of(passkey.get(services.passkeys.challenge(SITE))))

    assert opened.operator == ALICE
    assert await services.operators.by_session(opened.token) == ALICE
    assert (await services.operator_keys.of("alice"))[0].sign_count == 5
    assert (await services.events("operator_login"))[-1].payload == {"how": "passkey"}
    assert await services.events("operator_key_went_back") == []
    assert key.sign_count == 4


@pytest.mark.parametrize(
    "flaw",
    [
        {"flags": USER_PRESENT},
        {"flags": PERSON & ~USER_PRESENT},
        {"origin": "http://localhost:5002"},
        {"origin": "http://evil.example"},
        {"rp_id": "evil.example"},
        {"client_type": "webauthn.create"},
        {"crossOrigin": True},
        {"topOrigin": "http://evil.example"},
    ],
    ids=str,
)
async def test_an_assertion_with_a_flaw_logs_nobody_in(services: Rig, flaw: dict[str, Any]) -> None:
    passkey = SoftAuthenticator()
    await registered(services, passkey)

    with pytest.raises(Unauthorized):
        await services.passkeys.log_in(assertion_of(passkey.get(services.passkeys.challenge(SITE), **flaw)))
    with pytest.raises(Forbidden):
        await services.passkeys.prove(ALICE, "t", assertion_of(passkey.get(services.passkeys.challenge(SITE), **flaw)))

    assert (await services.passkeys.log_in(assertion_of(passkey.get(services.passkeys.challenge(SITE))))).token


async def test_a_stranger_a_copied_name_and_a_foreign_challenge_log_nobody_in(services: Rig) -> None:
    passkey = SoftAuthenticator()
    await registered(services, passkey)
    forger = SoftAuthenticator(credential_id=passkey.credential_id)

    for stranger in (SoftAuthenticator(), forger):
        with pytest.raises(Unauthorized):
            await services.passkeys.log_in(assertion_of(stranger.get(services.passkeys.challenge(SITE))))
    elsewhere = Site("http://localhost:5002", "localhost")
    with pytest.raises(Unauthorized):
        await services.passkeys.log_in(assertion_of(passkey.get(services.passkeys.challenge(elsewhere))))
    with pytest.raises(BadInput) as refusal:
        await services.passkeys.log_in(assertion_of(passkey.get(encode_base64url(bytes(32)))))
    assert refusal.value.code == "challenge_over"


async def test_an_answer_is_good_once_and_for_five_minutes(services: Rig) -> None:
    passkey = SoftAuthenticator()
    await registered(services, passkey)
    answer = assertion_of(passkey.get(services.passkeys.challenge(SITE)))
    late = assertion_of(passkey.get(services.passkeys.challenge(SITE)))

    await services.passkeys.log_in(answer)
    with pytest.raises(BadInput):
        await services.passkeys.log_in(answer)
    services.clock.advance(timedelta(minutes=5).total_seconds())
    with pytest.raises(BadInput):
        await services.passkeys.log_in(late)


async def test_the_signature_of_a_command_logs_nobody_in(services: Rig) -> None:
    passkey = SoftAuthenticator()
    await registered(services, passkey)
    signed = pre_authentication_encoding(PAYLOAD_TYPE, b'{"v":1}')
    answer = passkey.get(encode_base64url(hashlib.sha256(signed).digest()))

    with pytest.raises(BadInput):
        await services.passkeys.log_in(assertion_of(answer))


async def test_a_revoked_passkey_and_a_disabled_persons_one_log_nobody_in(services: Rig) -> None:
    passkey, other = SoftAuthenticator(), SoftAuthenticator()
    key = await registered(services, passkey)
    await registered(services, other, BOB)

    await services.operator_keys.revoke(key.key_id, ALICE)
    await services.accounts.change("bob", AccountChange(is_disabled=True), operator())

    for one in (passkey, other):
        with pytest.raises(Unauthorized):
            await services.passkeys.log_in(assertion_of(one.get(services.passkeys.challenge(SITE))))


async def test_a_counter_that_goes_back_is_recorded_and_the_person_still_comes_in(services: Rig) -> None:
    passkey = SoftAuthenticator(sign_count=9)
    key = await registered(services, passkey)
    passkey.sign_count = 3

    assert (await services.passkeys.log_in(assertion_of(passkey.get(services.passkeys.challenge(SITE))))).token

    events = await services.events("operator_key_went_back")
    assert [(event.ref_id, event.payload) for event in events] == [(key.key_id, {"before": 9, "now": 3})]


async def test_only_ones_own_passkey_proves_that_it_is_still_you(services: Rig) -> None:
    passkey, other = SoftAuthenticator(), SoftAuthenticator()
    await registered(services, passkey)
    await registered(services, other, BOB)
    opened = await services.passkeys.log_in(assertion_of(passkey.get(services.passkeys.challenge(SITE))))
    services.clock.advance(600)

    with pytest.raises(Forbidden) as refusal:
        await services.passkeys.prove(ALICE, opened.token, assertion_of(other.get(services.passkeys.challenge(SITE))))
    proved = await services.passkeys.prove(
        ALICE, opened.token, assertion_of(passkey.get(services.passkeys.challenge(SITE)))
    )

    assert refusal.value.code == "proof_refused"
    assert proved.proved_at == services.clock()


async def test_every_flipped_bit_of_an_assertion_logs_nobody_in(services: Rig) -> None:
    passkey = SoftAuthenticator()
    await registered(services, passkey)
    taken, tried = 0, 0
    for field, size in (("client_data_json", 120), ("authenticator_data", 37), ("signature", 70)):
        for bit in range(0, 8 * size, 5):
            fresh = assertion_of(passkey.get(services.passkeys.challenge(SITE)))
            flipped = bytearray(getattr(fresh, field))
            # A signature of ECDSA is now and then a byte or two shorter.
            flipped[bit // 8 % len(flipped)] ^= 1 << (bit % 8)
            tried += 1
            try:
                await services.passkeys.log_in(replace(fresh, **{field: bytes(flipped)}))
            except (Unauthorized, BadInput):
                continue
            taken += 1

    assert (taken, tried) == (0, 364)
