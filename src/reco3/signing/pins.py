"""Public keys of approvers as people pin, compare and name them.

It refuses every second way to write the same key, and computes nothing with keys: `cryptography` is not needed here.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from reco3.protocol.envelope import KeyKind

DEVELOPMENT_PREFIX = "dev-"
ED25519_KEY_BYTES = 32
FINGERPRINT_DIGITS = 32
TRUST_VERSION_DIGITS = 16
MAX_PIN_CHARS = 1_024
# The two SubjectPublicKeyInfos there are for our keys, up to the key itself (RFC 5480 uncompressed; RFC 8410).
P256_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
ED25519_PREFIX = bytes.fromhex("302a300506032b6570032100")
P256_POINT_BYTES = 64
_OWNER_PATTERN = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_ORIGIN_PATTERN = re.compile(
    rf"(https?)://({_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]{{2,45}}\])(?::([1-9]\d{{0,4}}))?", re.ASCII
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_MAX_PORT = 65_535


class BadPin(ValueError):
    """A text or a value that is no pin; `field` is one of owner, kind, key and origin, or `pin` for all of it."""

    code = "bad_pin"

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field}: expected {expected}")
        self.field = field
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Pin:
    """A public key that counts, whose it is, and for a key in a browser the address it may be used at.

    `key` is 32 raw bytes for `ed25519`, and a SubjectPublicKeyInfo (P-256 or Ed25519) for the others.
    Raises: BadPin for anything else.
    """

    owner: str
    kind: KeyKind
    key: bytes
    origin: str | None = None

    def __post_init__(self) -> None:
        if _OWNER_PATTERN.fullmatch(self.owner) is None:
            raise BadPin("owner", "a person's name of 1 to 64 letters, digits and . _ @ -")
        if not is_key(self.kind, self.key):
            raise BadPin("key", _EXPECTED_KEYS[self.kind])
        if self.kind is KeyKind.ED25519 and self.origin is not None:
            raise BadPin("origin", "none for an ed25519 key")
        if self.kind is not KeyKind.ED25519 and not is_origin(self.origin):
            raise BadPin("origin", "the address of the page such as https://reco3.example.com, without a path")

    @property
    def is_development(self) -> bool:
        """Whether only a development agent may let it count."""
        return self.owner.casefold().startswith(DEVELOPMENT_PREFIX)


def parse_pin(text: str) -> Pin:
    """Read `owner:kind:key`, followed by ` origin` for a key in a browser. Raises: BadPin."""
    words = text.strip().split(" ") if len(text) <= MAX_PIN_CHARS else []
    parts = words[0].split(":") if words else []
    if len(words) > 2 or len(parts) != 3:  # noqa: PLR2004 - a pin has three parts and perhaps an origin
        raise BadPin("pin", "owner:kind:key, followed by a space and the origin for webauthn and webcrypto")
    return make_pin(parts[0], parts[1], parts[2], words[1] if words[1:] else None)


def make_pin(owner: str, kind: str, key: str, origin: str | None = None) -> Pin:
    """Make a pin of its texts, the key in base64. Raises: BadPin."""
    if kind not in set(KeyKind):
        raise BadPin("kind", f"one of {', '.join(KeyKind)}")
    return Pin(owner, KeyKind(kind), _decoded(key), origin)


def pin_text(pin: Pin) -> str:
    """What `parse_pin` reads."""
    text = f"{pin.owner}:{pin.kind}:{key_text(pin.key)}"
    return text if pin.origin is None else f"{text} {pin.origin}"


def key_text(key: bytes) -> str:
    """A key in base64, as it is pinned."""
    return base64.b64encode(key).decode("ascii")


def key_id(key: bytes) -> str:
    """A short name for a key, to find it by; it proves nothing."""
    return hashlib.sha256(key).hexdigest()[:FINGERPRINT_DIGITS]


def fingerprint(key: bytes) -> str:
    """The same in eight groups of four, to be compared by voice."""
    name = key_id(key)
    return " ".join(name[at : at + 4] for at in range(0, len(name), 4))


def trust_version(pins: Iterable[Pin]) -> str:
    """Name a set of pins, in whatever order they are: two PCs with the same name trust the same keys."""
    lines = "".join(f"{text}\n" for text in sorted(map(pin_text, pins)))
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()[:TRUST_VERSION_DIGITS]


def is_key(kind: KeyKind, key: bytes) -> bool:
    """Whether bytes have the form of a key of this kind."""
    if kind is KeyKind.ED25519:
        return len(key) == ED25519_KEY_BYTES
    return is_p256(key) or is_ed25519_info(key)


def is_p256(key: bytes) -> bool:
    """Whether a SubjectPublicKeyInfo is that of a P-256 key, its point uncompressed."""
    return key.startswith(P256_PREFIX) and len(key) == len(P256_PREFIX) + P256_POINT_BYTES


def is_ed25519_info(key: bytes) -> bool:
    """Whether a SubjectPublicKeyInfo is that of an Ed25519 key."""
    return key.startswith(ED25519_PREFIX) and len(key) == len(ED25519_PREFIX) + ED25519_KEY_BYTES


def is_origin(text: object) -> bool:
    """Whether a text is an origin exactly as a browser writes it: scheme://host[:port]."""
    match = _ORIGIN_PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return False
    scheme, _, port = match.groups()
    return port is None or (port != _DEFAULT_PORTS[scheme] and int(port) <= _MAX_PORT)


def host_of(origin: str) -> str:
    """The host of an origin, which is what a passkey calls its relying party."""
    match = _ORIGIN_PATTERN.fullmatch(origin)
    if match is None:
        raise BadPin("origin", "scheme://host[:port]")
    return match.group(2)


def _decoded(key: str) -> bytes:
    try:
        content = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadPin("key", "a public key in base64") from error
    if key_text(content) != key:
        raise BadPin("key", "a public key in base64")
    return content


_KEY_INFO = "a SubjectPublicKeyInfo of P-256 or Ed25519 in base64"
_EXPECTED_KEYS = {
    KeyKind.ED25519: "32 bytes of Ed25519 in base64",
    KeyKind.WEBAUTHN: _KEY_INFO,
    KeyKind.WEBCRYPTO: _KEY_INFO,
}
