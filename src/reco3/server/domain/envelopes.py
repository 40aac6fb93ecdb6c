"""Stored envelopes: the bytes that approvers sign and PCs verify, kept and relayed as they were built.

It refuses to change them; whether a new envelope takes an old one's place is decided in `approvals`.
"""

import hashlib
from dataclasses import dataclass

from reco3.protocol.envelope import (
    PAYLOAD_TYPE,
    Envelope,
    build_envelope,
    parse_envelope,
    pre_authentication_encoding,
)
from reco3.protocol.strict_json import BadEnvelope
from reco3.server.domain.errors import Conflict
from reco3.signing.verifying import challenge_of


@dataclass(frozen=True, slots=True)
class StoredEnvelope:
    """One envelope without its signatures; `body` is byte for byte what was built."""

    payload_type: str
    body: bytes

    @property
    def says(self) -> Envelope:
        """What the bytes say.

        Raises:
            Conflict: they are no envelope, so somebody changed them in the database.
        """
        try:
            return parse_envelope(self.body)
        except BadEnvelope as err:
            raise Conflict(f"The stored bytes are no envelope ({err}).", code="bad_envelope") from err

    @property
    def message(self) -> bytes:
        """What is signed: the pre-authentication encoding."""
        return pre_authentication_encoding(self.payload_type, self.body)

    @property
    def challenge(self) -> bytes:
        """What a passkey is asked to sign."""
        return challenge_of(self.message)

    @property
    def sha256(self) -> str:
        """The digest of the body in hexadecimal digits, which an approver's page names."""
        return hashlib.sha256(self.body).hexdigest()


def sealed(envelope: Envelope) -> StoredEnvelope:
    """Build the bytes, once. Raises: BadEnvelope for what no PC would read."""
    return StoredEnvelope(PAYLOAD_TYPE, build_envelope(envelope))
