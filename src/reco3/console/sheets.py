"""Break-glass sheets as files: one command, signed ahead, for use once on one PC with the server down.

It refuses to overwrite a sheet, and to take anything for one that a PC would not.
"""

import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reco3.console.keys import BadUsage
from reco3.console.offers import refuse_command
from reco3.console.output import NotSigned
from reco3.protocol.envelope import (
    MAX_BREAK_GLASS_VALIDITY_S,
    MAX_SIGNATURES,
    Envelope,
    EnvelopePolicy,
    Signature,
    SignedEnvelope,
    parse_envelope,
    pre_authentication_encoding,
    read_signed_envelope,
    signed_envelope_shape,
)
from reco3.protocol.strict_json import BadEnvelope

Json = dict[str, Any]
VERSION = 1
MAX_SHEET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sheet:
    """A signed envelope whose policy is break-glass, and what it says."""

    signed: SignedEnvelope
    envelope: Envelope

    @property
    def message(self) -> bytes:
        """The bytes that a signature is over."""
        return pre_authentication_encoding(self.signed.payload_type, self.signed.body)

    @property
    def shape(self) -> Json:
        """The sheet as it is written."""
        return {"break_glass": VERSION, "envelope": signed_envelope_shape(self.signed)}

    def signed_by(self, signature: Signature) -> "Sheet":
        """The sheet with one more signature."""
        return Sheet(replace(self.signed, signatures=(*self.signed.signatures, signature)), self.envelope)


def make_sheet(signed: SignedEnvelope) -> Sheet:
    """The sheet around an envelope.

    Raises:
        NotSigned: no PC would take it.
    """
    try:
        envelope = parse_envelope(signed.body)
    except BadEnvelope as err:
        raise NotSigned(f"no command envelope: {err}") from err
    if envelope.policy is not EnvelopePolicy.BREAK_GLASS:
        raise NotSigned(f"its policy is {envelope.policy}, expected {EnvelopePolicy.BREAK_GLASS}")
    if envelope.agent_epoch is None:
        raise NotSigned("it names no journal of the PC (agent_epoch), so nothing would keep it from being used again")
    if envelope.expires_at - envelope.created_at > MAX_BREAK_GLASS_VALIDITY_S:
        raise NotSigned("it would be good for more than 90 days")
    if len(signed.signatures) > MAX_SIGNATURES:
        raise NotSigned(f"it has {MAX_SIGNATURES} signatures already")
    refuse_command(envelope)
    return Sheet(signed, envelope)


def read_sheet(path: Path) -> Sheet:
    """The sheet in a file.

    Raises:
        BadUsage: the file cannot be read.
        NotSigned: it is no sheet.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SHEET_BYTES + 1)
    except OSError as err:
        raise BadUsage(f"cannot read the sheet {_shown(path)}: {err.strerror}") from err
    try:
        return make_sheet(read_signed_envelope(_envelope_in(content)))
    except (BadEnvelope, NotSigned) as err:
        raise NotSigned(f"{_shown(path)} is no break-glass sheet: {err}") from err


def write_sheet(path: Path, sheet: Sheet) -> None:
    """Write a new sheet, for nobody else to read.

    Raises:
        BadUsage: the file exists or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        _write(descriptor, sheet)
    except FileExistsError as err:
        raise BadUsage(f"{_shown(path)} exists and is not overwritten") from err
    except OSError as err:
        raise BadUsage(f"cannot write the sheet {_shown(path)}: {err.strerror}") from err


def replace_sheet(path: Path, sheet: Sheet) -> None:
    """Put a sheet in the place of itself with fewer signatures, whole or not at all.

    Raises:
        BadUsage: the file cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        _write(descriptor, sheet)
        Path(name).replace(path)
    except OSError as err:
        raise BadUsage(f"cannot write the sheet {_shown(path)}: {err.strerror}") from err


def _write(descriptor: int, sheet: Sheet) -> None:
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(json.dumps(sheet.shape, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _envelope_in(content: bytes) -> object:
    if len(content) > MAX_SHEET_BYTES:
        raise BadEnvelope("sheet", f"at most {MAX_SHEET_BYTES} bytes")
    try:
        raw = json.loads(content, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as err:
        raise BadEnvelope("sheet", "a JSON object, each key once") from err
    if not isinstance(raw, dict) or set(raw) != {"break_glass", "envelope"} or raw["break_glass"] != VERSION:
        raise BadEnvelope("sheet", f'{{"break_glass": {VERSION}, "envelope": …}}')
    return raw["envelope"]


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Json:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is there twice")
    return fields


def _shown(path: Path) -> str:
    return ascii(str(path))
