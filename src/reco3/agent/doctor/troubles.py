"""Says in one word why a server could not be reached, from the error that the agent's own client met.

It refuses to open anything itself: of `socket` and `ssl` it knows the errors alone.
"""

import socket
from enum import StrEnum

from reco3.agent.http_wire import HungUpError

# X509_V_ERR_… of OpenSSL, see openssl-verification-options(1).
_TOO_EARLY = 9
_EXPIRED = 10
_WRONG_NAMES = (62, 63, 64)


class Trouble(StrEnum):
    """What keeps the agent from its server; the order is that in which a connection meets them."""

    NO_NAME = "no_name"
    NO_LISTENER = "no_listener"
    NO_WAY = "no_way"
    SILENT = "silent"
    NO_TLS = "no_tls"
    TOO_EARLY = "too_early"
    EXPIRED = "expired"
    UNKNOWN_AUTHORITY = "unknown_authority"
    WRONG_NAME = "wrong_name"
    HUNG_UP = "hung_up"


def trouble_of(error: BaseException) -> Trouble:
    """The trouble behind an error and what caused it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return _trouble(cause)
        cause = cause.__cause__
    return Trouble.NO_WAY


def _trouble(error: OSError) -> Trouble:
    match error:
        case socket.gaierror():
            return Trouble.NO_NAME
        case ConnectionRefusedError():
            return Trouble.NO_LISTENER
        case TimeoutError():
            return Trouble.SILENT
        case HungUpError() | ConnectionError():
            return Trouble.HUNG_UP
        case _:
            return _tls_trouble(error)


def _tls_trouble(error: OSError) -> Trouble:
    import ssl  # noqa: PLC0415 - where there is no TLS, nobody needs it

    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAMES:
            return Trouble.WRONG_NAME
        dates = {_TOO_EARLY: Trouble.TOO_EARLY, _EXPIRED: Trouble.EXPIRED}
        return dates.get(error.verify_code, Trouble.UNKNOWN_AUTHORITY)
    return Trouble.NO_TLS if isinstance(error, ssl.SSLError) else Trouble.NO_WAY
