"""Changes of trust, right or wrong on purpose, and whoever signs them."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

from approvers import Approver
from reco3.protocol.envelope import SignedEnvelope, signed_envelope_shape
from reco3.protocol.trust_changes import TRUST_PAYLOAD_TYPE, TrustChange, build_trust_change
from reco3.signing.pins import Pin
from reco3.signing.trust_changes import trust_set_of

FLEET_ID = "AAAAAAAAAAAAAAAAAAAAAA"


class HasPin(Protocol):
    """Whoever has a key that can be pinned."""

    @property
    def pin(self) -> Pin: ...


def trust_change(old: Sequence[HasPin], new: Sequence[HasPin], **fields: Any) -> TrustChange:
    """A change that is right; `old_required` and `new_required` are 1, and a test names only what else matters."""
    now_s = int(time.time())
    usual: dict[str, Any] = {
        "fleet_id": FLEET_ID,
        "old": trust_set_of([one.pin for one in old], fields.pop("old_required", 1)),
        "new": trust_set_of([one.pin for one in new], fields.pop("new_required", 1)),
        "requested_by": "admin",
        "reason": "a laptop was stolen",
        "created_at": now_s,
        "expires_at": now_s + 7 * 24 * 3600,
        "nonce": "BBBBBBBBBBBBBBBBBBBBBA",
    }
    return TrustChange(**(usual | fields))


def signed_change(change: TrustChange | bytes, *signers: Approver) -> SignedEnvelope:
    """The change with the signatures of these people, in the order given."""
    body = change if isinstance(change, bytes) else build_trust_change(change)
    signatures = tuple(one.sign(body, TRUST_PAYLOAD_TYPE) for one in signers)
    return SignedEnvelope(TRUST_PAYLOAD_TYPE, body, signatures)


def wire(change: TrustChange | bytes, *signers: Approver) -> dict[str, Any]:
    """The same as it travels."""
    return signed_envelope_shape(signed_change(change, *signers))
