"""What an envelope's bytes say, in plain words.

It refuses to shorten what matters, and to print a text as it came: nothing in the bytes can move the terminal.
"""

from collections.abc import Iterator

from reco3.console.offers import Offer
from reco3.console.tables import person
from reco3.console.texts import visible
from reco3.console.times import duration_text, epoch_text
from reco3.protocol.commands import CommandType
from reco3.protocol.envelope import Envelope, EnvelopePolicy

SHOWN_NONCE_CHARS = 8


def offer_lines(offer: Offer, *, now_s: float) -> Iterator[str]:
    """What somebody who signs says yes to, and who has said so before."""
    yield "The bytes themselves say, and your signature says yes to:"
    yield ""
    yield from envelope_lines(offer.envelope, now_s=now_s)
    yield ""
    yield from _standing_lines(offer)


def envelope_lines(envelope: Envelope, *, now_s: float) -> Iterator[str]:
    """Each fact of the bytes in a line of its own."""
    yield f"  what      {_action_text(envelope)}"
    yield f"  on PC     {visible(envelope.agent_id)}"
    yield from (f"  {line}" for line in _process_lines(envelope))
    yield f"  asked by  {person(envelope.requested_by)}"
    yield f"  because   {visible(envelope.reason) if envelope.reason else '(no reason was given)'}"
    yield f"  made      {epoch_text(envelope.created_at * 1000)}"
    yield f"  until     {epoch_text(envelope.expires_at * 1000)}{_left_text(envelope, now_s)}"
    yield f"  command   {visible(envelope.command_id)}"
    yield f"  nonce     {visible(envelope.nonce[:SHOWN_NONCE_CHARS])}…"
    if envelope.policy is EnvelopePolicy.BREAK_GLASS:
        yield "  used      once, on the PC itself, with the server down (break-glass)"
        yield f"  epoch     {visible(envelope.agent_epoch)} (the PC's journal)"


def _action_text(envelope: Envelope) -> str:
    payload = envelope.payload
    process = visible(payload.get("process", ""))
    match CommandType(envelope.type):
        case CommandType.RESTART_PROCESS:
            return f"RESTART the process {process}"
        case CommandType.STOP_PROCESS:
            return f"STOP the process {process}, and leave it stopped"
        case CommandType.ROLLBACK if "command_id" in payload:
            return f"ROLL BACK what command {visible(payload['command_id'])} changed"
        case CommandType.ROLLBACK if process:
            return f"ROLL BACK the process {process}, as its configuration says"
        case CommandType.ROLLBACK:
            return "ROLL BACK the last change that RECO3 made there"
        case _:
            return visible(f"{envelope.type} {dict(payload)}")


def _process_lines(envelope: Envelope) -> Iterator[str]:
    expect = envelope.expect
    if expect is None:
        if "process" in envelope.payload:
            yield "process   whichever runs under that name then: the bytes name none"
    elif expect.pid is None:
        yield "process   not running when this was asked for; refused if it runs by then"
    else:
        started = "" if expect.create_time_ms is None else f", started {epoch_text(expect.create_time_ms)}"
        yield f"process   pid {expect.pid}{started}; no other is touched"


def _left_text(envelope: Envelope, now_s: float) -> str:
    left_s = envelope.expires_at - now_s
    return f" ({duration_text(left_s)} left)" if left_s > 0 else " (OVER)"


def _standing_lines(offer: Offer) -> Iterator[str]:
    required = offer.approvals_required
    if required is None:
        return
    others = f", so far by {', '.join(map(visible, offer.signers))}" if offer.signers else ""
    yield f"The server says: {len(offer.signers)} of {required} approvals{others}."
    if (pinned := offer.pc.get("approvers_pinned")) == 0:
        yield "The server says: that PC pins no approvers, so approvals are not verified by this PC."
    elif isinstance(pinned, int) and not isinstance(pinned, bool):
        yield f"The server says: that PC pins {pinned} key{'' if pinned == 1 else 's'}."
