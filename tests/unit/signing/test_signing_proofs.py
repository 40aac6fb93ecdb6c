"""What a key signs beside commands can never be the signature of one."""

import hashlib

from reco3.protocol.envelope import PAYLOAD_TYPE, pre_authentication_encoding
from reco3.signing.proofs import key_proof_bytes, log_in_bytes, log_in_challenge


def test_the_bytes_are_these_for_ever() -> None:
    assert key_proof_bytes(b"abc") == b"DSSEv1 34 application/vnd.reco3.key-proof.v1 3 abc"
    assert log_in_bytes(b"abc") == b"DSSEv1 31 application/vnd.reco3.log-in.v1 3 abc"
    assert log_in_challenge(b"abc") == hashlib.sha256(log_in_bytes(b"abc")).digest()


def test_no_challenge_makes_them_those_of_a_command() -> None:
    command = pre_authentication_encoding(PAYLOAD_TYPE, b'{"v":1}')

    for challenge in (b'{"v":1}', command, command[len(b"DSSEv1 ") :], b""):
        assert not key_proof_bytes(challenge).startswith(command[:20])
        assert not log_in_bytes(challenge).startswith(command[:20])
        assert key_proof_bytes(challenge) != log_in_bytes(challenge)
