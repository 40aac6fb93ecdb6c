"""The server's errors, drawn once.

    Reco3Error
    ├── BadInput            400  what came does not have the expected shape; names the field
    ├── Unauthorized        401  nobody we know
    ├── Forbidden           403  known, but not allowed
    ├── NotFound            404  no such thing, or not yours
    ├── Conflict            409  the thing is no longer in the state this needs
    ├── TooLarge            413  the body exceeds its cap
    ├── UnsupportedMedia    415  not JSON
    ├── TooManyRequests     429  slow down; says for how long
    ├── Busy                503  not durable, so not accepted; try again
    └── StartRefused        exit code 2: a setting, the port or the database makes starting unsafe

Each instance has a stable public `code`; the mapping to HTTP is in `web/errors.py` alone.
A message says what was expected, what came and what to do, and never a secret.
"""


class Reco3Error(Exception):
    """What every expected failure of the server derives from."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code


class BadInput(Reco3Error):
    """What came does not have the expected shape; `field` is the path of the first offence."""

    code = "bad_request"

    def __init__(self, field: str, reason: str, *, code: str | None = None) -> None:
        super().__init__(f"{field}: {reason}", code=code)
        self.field = field


class Unauthorized(Reco3Error):
    """Nobody we know: one shape for an unknown name and for a wrong key."""

    code = "unauthorized"

    def __init__(self, message: str = "Valid credentials are required.") -> None:
        super().__init__(message)


class Forbidden(Reco3Error):
    """Known, but not allowed to do this."""

    code = "forbidden"


class NotFound(Reco3Error):
    """There is no such thing, or it is not the caller's."""

    code = "not_found"


class Conflict(Reco3Error):
    """The thing is no longer in the state that this needs."""

    code = "conflict"


class TooLarge(Reco3Error):
    """The body exceeds the cap of its route."""

    code = "too_large"


class UnsupportedMedia(Reco3Error):
    """The body is not declared as JSON."""

    code = "unsupported_media_type"


class TooManyRequests(Reco3Error):
    """The caller must slow down for `retry_after_s` seconds."""

    code = "too_many_requests"

    def __init__(self, message: str, *, retry_after_s: int, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Busy(Reco3Error):
    """What came could not be made durable, so it was not accepted; try again after `retry_after_s` seconds."""

    code = "busy"

    def __init__(self, message: str, *, retry_after_s: int = 2) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StartRefused(Reco3Error):
    """Starting would be unsafe or impossible; the message is one line that names the cause and the cure."""

    code = "start_refused"
