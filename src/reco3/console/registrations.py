"""Makes a key known to the server as the caller's own: the public half, and a proof that the other is held.

It refuses to sign whatever the server calls a challenge but under the type of a proof, which no PC takes for a command.
"""

import socket
from typing import Any

from reco3.console.api import Api
from reco3.console.approver_keys import SigningKey
from reco3.console.key_arguments import MAX_LABEL_CHARS
from reco3.console.output import NotSigned
from reco3.protocol.envelope import decode_base64url, encode_base64url
from reco3.signing.pins import key_id, key_text
from reco3.signing.proofs import key_proof_bytes

Json = dict[str, Any]
MAX_CHALLENGE_CHARS = 1024


def ask_challenge(api: Api) -> bytes:
    """The challenge of the server for a new key.

    Raises:
        NotSigned: it is none.
    """
    text = api.key_challenge().get("challenge")
    if not isinstance(text, str) or not 1 <= len(text) <= MAX_CHALLENGE_CHARS:
        raise NotSigned("the server's challenge is none")
    try:
        return decode_base64url(text)
    except ValueError as err:
        raise NotSigned(f"the server's challenge is none: {err}") from err


def register(api: Api, key: SigningKey, challenge: bytes, label: str) -> Json:
    """Prove that the key is held; returns what the server then knows of it."""
    proof = key.sign(key_proof_bytes(challenge))
    return api.register_key(
        {
            "kind": str(key.pin.kind),
            "public_key": key_text(key.pin.key),
            "proof": encode_base64url(proof),
            "label": label,
        }
    )


def is_registered(api: Api, key: SigningKey) -> bool:
    """Whether the server knows the key as the caller's."""
    keys = api.own_keys().get("keys")
    known = [one.get("key_id") for one in keys if isinstance(one, dict)] if isinstance(keys, list) else []
    return key_id(key.pin.key) in known


def default_label() -> str:
    """What the page calls a key of this machine."""
    return f"reco3 keys on {socket.gethostname()}"[:MAX_LABEL_CHARS]
