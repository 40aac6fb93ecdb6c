"""The one place where errors become HTTP answers: `{"error": code, "message": text}`."""

import json
import logging
from collections.abc import Mapping

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from reco3.server.domain.errors import (
    BadInput,
    Busy,
    Conflict,
    Forbidden,
    NotFound,
    Reco3Error,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UnsupportedMedia,
)

log = logging.getLogger(__name__)

_statuses: Mapping[type[Reco3Error], int] = {
    BadInput: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    UnsupportedMedia: 415,
    TooManyRequests: 429,
    Busy: 503,
}
_http_codes = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def json_answer(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that no cache keeps."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    all_headers = {"cache-control": "no-store", **(headers or {})}
    return Response(body, status_code=status, media_type="application/json", headers=all_headers)


def error_answer(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error in the one shape that all errors have."""
    return json_answer({"error": code, "message": message}, status=status, headers=headers)


async def answer_known(_request: Request, err: Exception) -> Response:
    """Answer an error from the domain's tree."""
    if not isinstance(err, Reco3Error):
        raise err
    headers: dict[str, str] = {}
    if isinstance(err, TooManyRequests | Busy):
        headers["retry-after"] = str(err.retry_after_s)
    return error_answer(_statuses[type(err)], err.code, err.message, headers)


async def answer_validation(_request: Request, err: Exception) -> Response:
    """Answer what FastAPI found wrong with a request, naming the first field."""
    if not isinstance(err, RequestValidationError):
        raise err
    first = err.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path")) or "body"
    return error_answer(400, "bad_request", f"{field}: {first['msg']}")


async def answer_http(_request: Request, err: Exception) -> Response:
    """Answer what the router itself refuses: no such page, wrong method."""
    if not isinstance(err, HTTPException):
        raise err
    code = _http_codes.get(err.status_code, "error")
    return error_answer(err.status_code, code, str(err.detail), err.headers)


async def answer_unexpected(request: Request, err: Exception) -> Response:
    """Answer a defect: the log has all of it, the caller nothing."""
    log.error("request_failed method=%s path=%s", request.method, ascii(request.url.path), exc_info=err)
    return error_answer(500, "internal_error", "The server failed here; its log says why.")


def bad_json(err: msgspec.MsgspecError) -> BadInput:
    """What msgspec found wrong with a body, as an error that names the field."""
    text = str(err)
    reason, marker, path = text.partition(" - at `$")
    field = path.rstrip("`").lstrip(".") if marker else ""
    return BadInput(field or "body", reason)


exception_handlers = {
    Reco3Error: answer_known,
    RequestValidationError: answer_validation,
    HTTPException: answer_http,
    Exception: answer_unexpected,
}
