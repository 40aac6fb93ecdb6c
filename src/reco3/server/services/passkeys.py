"""Passkeys that log in and prove: which person an assertion belongs to."""

import asyncio
from dataclasses import dataclass

from reco3.server.domain.audit import AuditEvent, user_actor
from reco3.server.domain.errors import Unauthorized
from reco3.server.domain.keys import Assertion, OperatorKey, Site, has_gone_back
from reco3.server.domain.operators import LoginMethod, Operator
from reco3.server.services.ceremonies import CeremonyRefused, asserted, challenge_in, request_options, to_base64url
from reco3.server.services.challenges import ChallengeBook
from reco3.server.services.operators import OperatorService, proof_refused
from reco3.server.services.ports import Outside, Transaction
from reco3.server.services.sessions import OpenedSession


@dataclass(frozen=True, slots=True)
class _Use:
    key: OperatorKey
    sign_count: int


class PasskeyService:
    """Asks any passkey of this site for a signature, and knows its person by it."""

    def __init__(self, outside: Outside, operators: OperatorService) -> None:
        self._outside = outside
        self._operators = operators
        self._challenges = ChallengeBook(outside.clock)

    async def options(self, site: Site) -> str:
        """A fresh challenge for any passkey of this site, as JSON for `navigator.credentials.get`.

        Raises:
            BadInput: the page is open under an IP address.
        """
        rp_id = site.rp_id
        return await asyncio.to_thread(request_options, self._challenges.issue(site).challenge, rp_id)

    async def log_in(self, assertion: Assertion) -> OpenedSession:
        """Open a session for the person whose passkey signed.

        Raises:
            Unauthorized: nobody's passkey, or not his signature, or his account is disabled.
            BadInput: the challenge is used, unknown or too old.
        """
        use = await self._verified(assertion)
        role = None
        if use is not None:
            owner = use.key.owner
            role = await self._outside.store.read(lambda tx: self._operators.directory.role_of(tx, owner))
        if use is None or role is None:
            raise Unauthorized("This passkey belongs to nobody here.")
        operator = Operator(use.key.owner, role, LoginMethod.SESSION)
        return await self._operators.sessions.open(operator, how="passkey")

    async def prove(self, operator: Operator, token: str | None, assertion: Assertion) -> Operator:
        """Prove once more, by passkey, who sits at a session.

        Raises:
            Forbidden: `proof_refused`, it is not his passkey.
            BadInput: the challenge is used, unknown or too old.
        """
        use = await self._verified(assertion)
        if use is None or use.key.owner != operator.name:
            raise proof_refused()
        return await self._operators.sessions.prove(token, operator, how="passkey")

    async def _verified(self, assertion: Assertion) -> _Use | None:
        credential_id = to_base64url(assertion.credential_id)
        try:
            challenge = self._challenges.take(challenge_in(assertion).hex())
            key = await self._outside.store.read(lambda tx: tx.operator_keys.by_credential(credential_id))
            # A passkey answers under the address where it was made; the challenge was asked for under the same.
            if key is None or key.revoked_at is not None or key.origin != challenge.site.origin:
                return None
            use = _Use(key, await asyncio.to_thread(asserted, assertion, key, challenge.challenge))
        except CeremonyRefused:
            return None
        await self._outside.store.write(lambda tx: self._note(tx, use))
        return use

    def _note(self, tx: Transaction, use: _Use) -> None:
        tx.operator_keys.note_use(use.key.key_id, use.sign_count)
        if has_gone_back(use.key, use.sign_count):
            payload = {"before": use.key.sign_count, "now": use.sign_count}
            actor = user_actor(use.key.owner)
            event = AuditEvent(self._outside.clock(), actor, "operator_key_went_back", use.key.key_id, payload=payload)
            tx.audit.add([event])
