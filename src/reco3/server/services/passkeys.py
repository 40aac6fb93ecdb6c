"""Passkeys that log in and prove: which person an assertion belongs to."""

import asyncio
import json

from reco3.protocol.envelope import encode_base64url
from reco3.server.domain.audit import AuditEvent, user_actor
from reco3.server.domain.errors import Unauthorized
from reco3.server.domain.keys import Assertion, OperatorKey, Site, has_gone_back
from reco3.server.domain.operators import LoginMethod, Operator, Role
from reco3.server.services.challenges import Challenge, ChallengeBook
from reco3.server.services.operators import OperatorService, proof_refused
from reco3.server.services.ports import Outside, Transaction
from reco3.server.services.possession import signed_count
from reco3.server.services.sessions import OpenedSession
from reco3.signing.proofs import log_in_challenge


class PasskeyService:
    """Asks any passkey of this site for a signature, and knows its person by it."""

    def __init__(self, outside: Outside, operators: OperatorService) -> None:
        self._outside = outside
        self._operators = operators
        self._challenges = ChallengeBook(outside.clock)

    def challenge(self, site: Site) -> str:
        """A fresh challenge for any passkey of this site, in base64url.

        Raises:
            BadInput: the page is open under an IP address.
        """
        site.require_rp_id()
        challenge = self._challenges.fresh(site)
        text = encode_base64url(log_in_challenge(challenge.random))
        self._challenges.put(text, challenge)
        return text

    async def log_in(self, assertion: Assertion) -> OpenedSession:
        """Open a session for the person whose passkey signed.

        Raises:
            Unauthorized: nobody's passkey, or not his signature, or his account is disabled.
            BadInput: the challenge is used, unknown or too old.
        """
        key = await self._signer(assertion)
        role = await self._role_of(key)
        if key is None or role is None:
            raise Unauthorized("This passkey belongs to nobody here.")
        operator = Operator(key.owner, role, LoginMethod.SESSION)
        return await self._operators.sessions.open(operator, how="passkey")

    async def prove(self, operator: Operator, token: str | None, assertion: Assertion) -> Operator:
        """Prove once more, by passkey, who sits at a session.

        Raises:
            Forbidden: `proof_refused`, it is not his passkey.
            BadInput: the challenge is used, unknown or too old.
        """
        key = await self._signer(assertion)
        if key is None or key.owner != operator.name:
            raise proof_refused()
        return await self._operators.sessions.prove(token, operator, how="passkey")

    async def _signer(self, assertion: Assertion) -> OperatorKey | None:
        challenge = self._challenges.take(_challenge_in(assertion))
        credential_id = encode_base64url(assertion.credential_id)
        key = await self._outside.store.read(lambda tx: tx.operator_keys.by_credential(credential_id))
        if key is None or key.revoked_at is not None:
            return None
        sign_count = await asyncio.to_thread(_signed_count, key, assertion, challenge)
        if sign_count is None:
            return None
        await self._outside.store.write(lambda tx: self._note_use(tx, key, sign_count))
        return key

    async def _role_of(self, key: OperatorKey | None) -> Role | None:
        if key is None:
            return None
        return await self._outside.store.read(lambda tx: self._operators.directory.role_of(tx, key.owner))

    def _note_use(self, tx: Transaction, key: OperatorKey, sign_count: int) -> None:
        tx.operator_keys.note_use(key.key_id, sign_count)
        if has_gone_back(key, sign_count):
            payload = {"before": key.sign_count, "now": sign_count}
            actor, now = user_actor(key.owner), self._outside.clock()
            tx.audit.add([AuditEvent(now, actor, "operator_key_went_back", key.key_id, payload=payload)])


def _signed_count(key: OperatorKey, assertion: Assertion, challenge: Challenge) -> int | None:
    # A passkey answers under the address where it was made, and the challenge was asked for under the same.
    if key.origin != challenge.site.origin:
        return None
    return signed_count(key.pin, assertion, random=challenge.random)


def _challenge_in(assertion: Assertion) -> str:
    try:
        said = json.loads(assertion.client_data_json)
    except (ValueError, RecursionError):
        return ""
    challenge = said.get("challenge") if isinstance(said, dict) else None
    return challenge if isinstance(challenge, str) else ""
