"""What a server offers for signing: the bytes, what they say, and where the server says something else.

It refuses to trust any of it: an approver signs what was read from the bytes here, or nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reco3.console.output import NotSigned
from reco3.console.texts import value_text
from reco3.protocol.commands import CommandType, check_payload, needs_approval
from reco3.protocol.envelope import (
    MAX_SIGNATURES,
    MAX_VALIDITY_S,
    Envelope,
    EnvelopePolicy,
    SignedEnvelope,
    encode_base64url,
    envelope_fields,
    parse_envelope,
    pre_authentication_encoding,
    read_signed_envelope,
)
from reco3.protocol.strict_json import BadEnvelope
from reco3.signing.verifying import challenge_of

Json = dict[str, Any]
# The server's clock may be ahead of this machine's by so much.
MAX_AHEAD_S = 120
MAX_APPROVALS = 100


@dataclass(frozen=True, slots=True)
class Offer:
    """An envelope that may be signed; `signers` and `approvals_required` are what the server says, no more."""

    signed: SignedEnvelope
    envelope: Envelope
    signers: tuple[str, ...]
    approvals_required: int | None
    pc: Mapping[str, object]

    @property
    def message(self) -> bytes:
        """The bytes that a signature is over."""
        return pre_authentication_encoding(self.signed.payload_type, self.signed.body)


def read_offer(answer: Json, *, command_id: str, now_s: float) -> Offer:
    """The offer in the server's answer about a command.

    Raises:
        NotSigned: it must not be signed, and why.
    """
    body = answer.get("body")
    try:
        signed = read_signed_envelope({"payload_type": answer.get("payload_type"), "body": body, "signatures": []})
        envelope = parse_envelope(signed.body)
    except BadEnvelope as err:
        raise NotSigned(f"what the server sent is no command envelope: {err}") from err
    if envelope.command_id != command_id:
        raise NotSigned(f"you asked for command {command_id}, and the bytes are those of {envelope.command_id}")
    refuse_command(envelope)
    if envelope.policy is not EnvelopePolicy.APPROVAL:
        raise NotSigned(
            "the bytes are good for an emergency (break-glass), for which `reco3 keys break-glass` makes sheets; "
            "no server may ask for such a signature"
        )
    _refuse_time(envelope, now_s)
    if differing := list(_differences(answer, signed, envelope)):
        raise NotSigned("the server says something else than the bytes:\n  " + "\n  ".join(differing))
    return Offer(signed, envelope, _signers(answer), _required(answer), _object(answer.get("pc")))


def refuse_other_row(envelope: Envelope, row: Json) -> None:
    """Refuse when the list, which people decide by, shows another command than the bytes name.

    Raises:
        NotSigned: it does.
    """
    shown = {name: value for name, value in row.items() if name in ("agent_id", "type", "payload", "reason")}
    if differing := list(_contradictions(shown, envelope)):
        raise NotSigned("the list of commands shows something else than the bytes:\n  " + "\n  ".join(differing))


def refuse_command(envelope: Envelope) -> None:
    """Refuse bytes that name no strong command, or a payload that their type does not take.

    Raises:
        NotSigned: so it is.
    """
    if envelope.type not in set(CommandType) or not needs_approval(CommandType(envelope.type)):
        raise NotSigned(f"{envelope.type} is no command that needs a signature, as far as this version knows")
    bad = check_payload(CommandType(envelope.type), envelope.payload)
    if bad is not None:
        raise NotSigned(f"{bad.field}: {bad.reason}")


def _refuse_time(envelope: Envelope, now_s: float) -> None:
    validity_s = envelope.expires_at - envelope.created_at
    if validity_s > MAX_VALIDITY_S:
        raise NotSigned(f"the bytes would be good for {validity_s} s; at most {MAX_VALIDITY_S} s are signed")
    if now_s >= envelope.expires_at:
        raise NotSigned(
            f"its time was over {round(now_s - envelope.expires_at)} s ago by this machine's clock; "
            "ask for a new command"
        )
    if envelope.created_at > now_s + MAX_AHEAD_S:
        raise NotSigned(
            f"it says that it was asked for {round(envelope.created_at - now_s)} s from now: this machine's clock is "
            "late, or the server is lying"
        )


def _differences(answer: Json, signed: SignedEnvelope, envelope: Envelope) -> Iterator[str]:
    """Every statement of the server that the bytes contradict."""
    yield from _contradictions(_object(answer.get("fields")), envelope)
    challenge = encode_base64url(challenge_of(pre_authentication_encoding(signed.payload_type, signed.body)))
    if answer.get("challenge", challenge) != challenge:
        yield "challenge: it is not that of these bytes"


def _contradictions(said: Json, envelope: Envelope) -> Iterator[str]:
    for name, in_bytes in envelope_fields(envelope).items():
        if name in said and not _is_same(said[name], in_bytes):
            yield f"{name}: it says {_short(said[name])}, the bytes say {_short(in_bytes)}"


def _is_same(said: object, in_bytes: object) -> bool:
    # True equals 1 in Python, but not on the PC.
    return said == in_bytes and type(said) is type(in_bytes) and repr(said) == repr(in_bytes)


def _short(value: object) -> str:
    text = value_text(value)
    return text if len(text) <= 120 else text[:119] + "…"  # noqa: PLR2004 - a line


def _signers(answer: Json) -> tuple[str, ...]:
    listed = answer.get("signatures")
    if not isinstance(listed, list):
        return ()
    owners = [one.get("owner") for one in listed[:MAX_SIGNATURES] if isinstance(one, dict)]
    return tuple(owner for owner in owners if isinstance(owner, str))


def _required(answer: Json) -> int | None:
    required = answer.get("approvals_required")
    if not isinstance(required, int) or isinstance(required, bool):
        return None
    return required if 1 <= required <= MAX_APPROVALS else None


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}
