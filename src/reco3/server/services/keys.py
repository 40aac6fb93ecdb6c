"""Operators' keys: registered with a proof that they are held, listed with what PCs pin, revoked, never deleted."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reco3.protocol.envelope import KeyKind
from reco3.server.domain.audit import AuditEvent, user_actor
from reco3.server.domain.errors import BadInput, Conflict, NotFound
from reco3.server.domain.keys import Attestation, OperatorKey, Site
from reco3.server.domain.operators import Operator
from reco3.server.services.ceremonies import AttestationRefused, attested, creation_options
from reco3.server.services.challenges import Challenge, ChallengeBook
from reco3.server.services.ports import Outside, Transaction
from reco3.server.services.possession import check_proof, own_pin
from reco3.signing.pins import key_id

MAX_KEYS = 20


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A public key that its holder brings, and his signature over the challenge."""

    kind: KeyKind
    public_key: str
    proof: bytes
    label: str


class KeyService:
    """The keys that people sign with."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._challenges = ChallengeBook(outside.clock)

    async def of(self, owner: str) -> Sequence[OperatorKey]:
        """An operator's keys that are not revoked, oldest first."""
        return await self._outside.store.read(lambda tx: tx.operator_keys.of(owner))

    async def passkey_options(self, operator: Operator, site: Site) -> str:
        """What the page hands to `navigator.credentials.create`, as JSON.

        Raises:
            BadInput: the page is open under an IP address.
        """
        rp_id = site.require_rp_id()
        known = [key.credential_id for key in await self.of(operator.name) if key.credential_id and key.rp_id == rp_id]
        challenge = self.challenge(KeyKind.WEBAUTHN, operator, site)
        return await asyncio.to_thread(creation_options, operator.name, challenge, rp_id, known=known)

    def challenge(self, kind: KeyKind, operator: Operator, site: Site) -> bytes:
        """What a new key must sign to show that it is held."""
        challenge = self._challenges.fresh(site)
        self._challenges.put(_purpose(operator, kind), challenge)
        return challenge.random

    async def register_passkey(self, attestation: Attestation, label: str, operator: Operator) -> OperatorKey:
        """Register a passkey that the browser has just made.

        Raises:
            BadInput: the challenge is over, or the attestation does not hold.
            Conflict: somebody registered it before, or the caller has too many.
        """
        challenge = self._challenges.take(_purpose(operator, KeyKind.WEBAUTHN))
        try:
            passkey = await asyncio.to_thread(attested, attestation, challenge.random, challenge.site)
        except AttestationRefused as err:
            raise BadInput("attestation", f"this passkey was not registered: {err}", code="passkey_refused") from err
        key = self._new_key(KeyKind.WEBAUTHN, passkey.public_key, label, operator, challenge)
        rp_id = challenge.site.require_rp_id()
        passkey_of = replace(key, credential_id=passkey.credential_id, rp_id=rp_id, sign_count=passkey.sign_count)
        return await self._add(passkey_of, operator)

    async def register(self, held: HeldKey, operator: Operator) -> OperatorKey:
        """Register a key whose holder signed the challenge.

        Raises:
            BadInput: it is no such key, the challenge is over, or the proof does not hold.
            Conflict: somebody registered it before, or the caller has too many.
        """
        challenge = self._challenges.take(_purpose(operator, held.kind))
        key = self._new_key(held.kind, held.public_key, held.label, operator, challenge)
        check_proof(key.pin, held.proof, challenge=challenge.random)
        return await self._add(key, operator)

    async def revoke(self, wanted: str, operator: Operator) -> None:
        """Make a key of one's own void on the server; PCs that pin it must be told by their administrators.

        Raises:
            NotFound: the caller has no such key.
        """
        now = self._outside.clock()

        def work(tx: Transaction) -> None:
            key = tx.operator_keys.get(wanted)
            if key is None or key.owner != operator.name or key.revoked_at is not None:
                raise NotFound(f"You have no key {wanted[:64]!r}.", code="key_not_found")
            tx.operator_keys.revoke(wanted, now)
            payload = {"kind": key.kind, "label": key.label}
            tx.audit.add([AuditEvent(now, user_actor(operator.name), "operator_key_revoked", wanted, payload=payload)])

        await self._outside.store.write(work)

    def _new_key(
        self, kind: KeyKind, public_key: str, label: str, operator: Operator, challenge: Challenge
    ) -> OperatorKey:
        origin = None if kind is KeyKind.ED25519 else challenge.site.origin
        pin = own_pin(operator.name, kind, public_key, origin)
        return OperatorKey(
            key_id(pin.key), operator.name, kind, public_key, label, self._outside.clock(), origin=origin
        )

    async def _add(self, key: OperatorKey, operator: Operator) -> OperatorKey:
        payload = {"kind": key.kind, "label": key.label, "origin": key.origin, "how": operator.method}
        actor = user_actor(operator.name)
        event = AuditEvent(key.created_at, actor, "operator_key_added", key.key_id, payload=payload)

        def work(tx: Transaction) -> None:
            _refuse_known(tx, key)
            tx.operator_keys.add(key)
            tx.audit.add([event])

        await self._outside.store.write(work)
        return key


def _refuse_known(tx: Transaction, key: OperatorKey) -> None:
    is_known = tx.operator_keys.get(key.key_id) is not None
    if key.credential_id is not None:
        is_known = is_known or tx.operator_keys.by_credential(key.credential_id) is not None
    if is_known:
        raise Conflict("This key is registered already, or was and is revoked; make a new one.", code="key_known")
    if len(tx.operator_keys.of(key.owner)) >= MAX_KEYS:
        raise Conflict(f"{key.owner} has {MAX_KEYS} keys; revoke one first.", code="too_many_keys")


def _purpose(operator: Operator, kind: KeyKind) -> str:
    return f"{kind} of {operator.name}"
