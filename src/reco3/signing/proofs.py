"""What a key signs that is no command: that it is held, and that its person logs in.

A bare challenge is never signed, but its DSSE encoding under a type of its own: whatever a hacked server calls a
challenge, a key that signs these encodings has never signed a command.
"""

from reco3.protocol.envelope import pre_authentication_encoding
from reco3.signing.verifying import challenge_of

KEY_PROOF_TYPE = "application/vnd.reco3.key-proof.v1"
LOG_IN_TYPE = "application/vnd.reco3.log-in.v1"


def key_proof_bytes(challenge: bytes) -> bytes:
    """What a key signs over the server's challenge to show that it is held."""
    return pre_authentication_encoding(KEY_PROOF_TYPE, challenge)


def log_in_bytes(random: bytes) -> bytes:
    """What a passkey's log-in is verified against."""
    return pre_authentication_encoding(LOG_IN_TYPE, random)


def log_in_challenge(random: bytes) -> bytes:
    """What the browser hands to a passkey to log in."""
    return challenge_of(log_in_bytes(random))
