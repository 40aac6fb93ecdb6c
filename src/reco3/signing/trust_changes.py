"""Says who signed a change of trust, and whether that is enough: of the old keys and of the new ones.

It refuses to count a key or a signature: people count, each once.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from reco3.protocol.envelope import SignedEnvelope, pre_authentication_encoding
from reco3.protocol.strict_json import BadEnvelope
from reco3.protocol.trust_changes import TrustSet
from reco3.signing.pins import BadPin, Pin, parse_pin, pin_text
from reco3.signing.verifying import Verified, check_key, verify_signature

# One person alone may hand over what only that person holds; what several hold takes two, whatever is required.
FEWEST_OF_SEVERAL = 2


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """A set of keys, and how many distinct owners must sign a command."""

    pins: tuple[Pin, ...]
    approvals_required: int

    @property
    def owners(self) -> tuple[str, ...]:
        """The people, each once however many keys they have, sorted."""
        return _people(pin.owner for pin in self.pins)

    @property
    def needed(self) -> int:
        """How many owners must sign a change: as many as for a command, and two where there are several."""
        return max(self.approvals_required, min(FEWEST_OF_SEVERAL, len(self.owners)))


def trust_set_of(pins: Iterable[Pin], approvals_required: int) -> TrustSet:
    """A set as it is signed."""
    return TrustSet(tuple(sorted(map(pin_text, pins))), approvals_required)


def trusted_keys(field: str, trust: TrustSet) -> TrustedKeys:
    """Read the pins of a set that was signed. Raises: BadEnvelope, when one is no key or too few people own them."""
    try:
        pins = tuple(parse_pin(text) for text in trust.approvers)
    except BadPin as error:
        raise BadEnvelope(f"{field}.approvers", f"pins such as alice:ed25519:…; {error}") from error
    if tuple(map(pin_text, pins)) != trust.approvers or len({pin.key for pin in pins}) != len(pins):
        raise BadEnvelope(f"{field}.approvers", "each pin as reco3 keys show prints it, each key once")
    bad = next((pin for pin in pins if check_key(pin) is not None), None)
    if bad is not None:
        raise BadEnvelope(f"{field}.approvers", f"keys that are points of their curve; that of {bad.owner} is none")
    keys = TrustedKeys(pins, trust.approvals_required)
    if len(keys.owners) < keys.approvals_required:
        raise BadEnvelope(
            f"{field}.approvals_required", f"at most {len(keys.owners)}, the number of people who own its keys"
        )
    return keys


def signers_among(keys: TrustedKeys, signed: SignedEnvelope, *, is_development: bool = False) -> tuple[str, ...]:
    """The distinct owners of these keys who signed, sorted; a development key counts where that is said."""
    pae = pre_authentication_encoding(signed.payload_type, signed.body)
    pins = [pin for pin in keys.pins if is_development or not pin.is_development]
    return _people(pin.owner for pin in pins if _has_signed(pin, signed, pae))


def _has_signed(pin: Pin, signed: SignedEnvelope, pae: bytes) -> bool:
    return any(isinstance(verify_signature(pin, one, pae), Verified) for one in signed.signatures)


def _people(owners: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({owner.casefold(): owner for owner in owners}.values()))
