"""Operators' keys: what people sign approvals with, as the server knows them.

The server only relays and shows them; which keys count is pinned on each PC.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime

from reco3.protocol.envelope import KeyKind
from reco3.server.domain.errors import BadInput
from reco3.signing.pins import Pin, make_pin

MAX_LABEL_CHARS = 64


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """A public key of an operator; `public_key` is base64 as PCs pin it."""

    key_id: str
    owner: str
    kind: KeyKind
    public_key: str
    label: str
    created_at: datetime
    credential_id: str | None = None
    origin: str | None = None
    rp_id: str | None = None
    sign_count: int = 0
    revoked_at: datetime | None = None

    @property
    def pin(self) -> Pin:
        """What a PC would pin."""
        return make_pin(self.owner, self.kind, self.public_key, self.origin)


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a browser answers to `navigator.credentials.create`."""

    credential_id: bytes
    client_data_json: bytes
    attestation_object: bytes


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a browser answers to `navigator.credentials.get`."""

    credential_id: bytes
    client_data_json: bytes
    authenticator_data: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Site:
    """The address under which a browser opened the page."""

    origin: str
    host: str

    def require_rp_id(self) -> str:
        """The name that passkeys of this address belong to.

        Raises:
            BadInput: `passkey_needs_host_name`; browsers know no passkeys on IP addresses.
        """
        address = _ip_address(self.host)
        if address is None and self.host:
            return self.host
        is_this_machine = address is not None and address.is_loopback
        instead = self._localhost if is_this_machine else "a host name (with https, unless it is localhost)"
        raise BadInput(
            "Host",
            f"passkeys need a host name, and {self.host or 'nothing'} is none; open {instead}",
            code="passkey_needs_host_name",
        )

    @property
    def _localhost(self) -> str:
        scheme, _, rest = self.origin.partition("://")
        port = rest.rpartition(":")[2] if rest.rpartition(":")[2].isdigit() else ""
        return f"{scheme}://localhost{':' if port else ''}{port}/r3"


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def has_gone_back(key: OperatorKey, sign_count: int) -> bool:
    """Whether an authenticator counted backwards, as a copied one does; those that do not count say 0."""
    return sign_count <= key.sign_count and (sign_count, key.sign_count) != (0, 0)
