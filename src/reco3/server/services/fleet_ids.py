"""The fleet's id: made once, at its first use, and never changed; envelopes and enrolled PCs carry it."""

import base64
import secrets

from reco3.server.services.ports import Transaction

FLEET_ID = "fleet_id"


def fleet_id(tx: Transaction) -> str:
    """Base64url of 16 random bytes, without padding."""
    known = tx.facts.get(FLEET_ID)
    if known is not None:
        return known
    return tx.facts.keep(FLEET_ID, base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode())
