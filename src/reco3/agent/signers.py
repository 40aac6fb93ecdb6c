"""Verifies the signatures on an envelope against the keys that this PC pins.

It refuses to load any cryptography before there is a signature to verify, and to believe what a signature says of its
key.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reco3.agent.config import AgentConfig, ControlConfig
from reco3.agent.refusals import Refused

if TYPE_CHECKING:
    from reco3.agent.approvals import SignatureCheck, Verify
    from reco3.protocol.envelope import Signature, SignedEnvelope
    from reco3.signing.pins import Pin


# Where changes of the pinned keys are kept; its name is here so that an idle agent need not load who reads it.
TRUST_CHANGES_FILE = "trust-changes.json"


def verifier_of(config: AgentConfig) -> "Verify":
    """What verifies for this PC: a development key counts in a development agent beside its server alone."""
    return functools.partial(
        _check_all,
        config.control.approvers,
        is_development=config.control.is_development and config.base_url.is_loopback,
    )


def summary_of(control: ControlConfig) -> dict[str, object]:
    """What the log says about pinned keys when the agent starts."""
    owners = {pin.owner.casefold() for pin in control.approvers}
    return {
        "keys": len(control.approvers),
        "owners": len(owners),
        "required": control.approvals_required,
        "four_eyes": control.four_eyes,
        "trust_version": trust_version_of(control),
    }


def trust_version_of(control: ControlConfig) -> str | None:
    """Name the set of keys that this PC pins; None when there is none."""
    if not control.approvers:
        return None
    from reco3.signing.pins import trust_version  # noqa: PLC0415 - an agent without approvers does not need it

    return trust_version(control.approvers)


def _check_all(pins: Sequence["Pin"], signed: "SignedEnvelope", *, is_development: bool) -> "Sequence[SignatureCheck]":
    from reco3.protocol.envelope import pre_authentication_encoding  # noqa: PLC0415 - an idle agent does not need it

    pae = pre_authentication_encoding(signed.payload_type, signed.body)
    return [_check(pins, signature, pae, is_development=is_development) for signature in signed.signatures]


def _check(pins: Sequence["Pin"], signature: "Signature", pae: bytes, *, is_development: bool) -> "SignatureCheck":
    from reco3.agent.approvals import SignatureCheck  # noqa: PLC0415 - as above
    from reco3.signing.verifying import Verified, verify_signature  # noqa: PLC0415 - as above

    outcomes = [(pin, verify_signature(pin, signature, pae)) for pin in pins if pin.kind is signature.kind]
    signer = next((pin for pin, outcome in outcomes if isinstance(outcome, Verified)), None)
    if signer is None:
        return SignatureCheck(refusal=_unverified(pins, signature, pae))
    if signer.is_development and not is_development:
        return SignatureCheck(refusal=_development_key(signer))
    return SignatureCheck(signer.owner)


def _unverified(pins: Sequence["Pin"], signature: "Signature", pae: bytes) -> Refused:
    """Say why; which key a signature says it is by helps to say so, and to nothing else."""
    from reco3.signing.pins import key_id  # noqa: PLC0415 - as above
    from reco3.signing.verifying import Rejected, verify_signature  # noqa: PLC0415 - as above

    named = next((pin for pin in pins if key_id(pin.key) == signature.key_id), None)
    if named is None:
        return Refused(
            "unpinned_key",
            f"a {signature.kind} key with the id {signature.key_id[:32]} signed this, and this PC does not pin it; if "
            "it is right, add it on the PC with reco3 agent trust add",
        )
    outcome = verify_signature(named, signature, pae)
    reason = outcome.reason if isinstance(outcome, Rejected) else ""
    return Refused("bad_signature", f"the signature that names the key of {named.owner} does not count: {reason}")


def _development_key(pin: "Pin") -> Refused:
    return Refused(
        "dev_key_refused",
        f"the key of {pin.owner} is one for development: it counts with control.profile dev and a server on this PC "
        "alone",
    )
