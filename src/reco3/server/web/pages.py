"""The page and its files, read once at start from the package: no request ever names a path on disk."""

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from reco3.server.domain.errors import NotFound
from reco3.server.web.audiences import PUBLIC, serves

_WEB = Path(__file__).parent
_types = {".js": "text/javascript; charset=utf-8", ".webmanifest": "application/manifest+json"}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file as it is served."""

    content: bytes
    media_type: str
    etag: str


def page_routes() -> APIRouter:
    """`/r3`, the files it needs, and the redirect from `/`."""
    router = APIRouter(include_in_schema=False)
    files = {
        path.relative_to(_WEB / "static").as_posix(): _page_file(path)
        for path in sorted((_WEB / "static").rglob("*"))
        if path.is_file()
    }
    page = _page_file(_WEB / "templates" / "reco3.html")

    @router.get("/")
    @serves(PUBLIC)
    async def to_page() -> Response:
        return RedirectResponse("/r3", status_code=307)

    @router.get("/r3")
    @serves(PUBLIC)
    async def show_page(request: Request) -> Response:
        return _answer(request, page)

    @router.get("/sw.js")
    @serves(PUBLIC)
    async def service_worker(request: Request) -> Response:
        answer = _answer(request, files["sw.js"])
        answer.headers["service-worker-allowed"] = "/"
        return answer

    @router.get("/manifest.webmanifest")
    @serves(PUBLIC)
    async def manifest(request: Request) -> Response:
        return _answer(request, files["manifest.webmanifest"])

    @router.get("/favicon.ico")
    @serves(PUBLIC)
    async def favicon() -> Response:
        return RedirectResponse("/static/icons/reco3.svg", status_code=307)

    @router.get("/static/{name:path}")
    @serves(PUBLIC)
    async def static_file(request: Request, name: str) -> Response:
        file = files.get(name)
        if file is None:
            raise NotFound("There is no such file.")
        return _answer(request, file)

    return router


def _page_file(path: Path) -> PageFile:
    content = path.read_bytes()
    media_type = _types.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return PageFile(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _answer(request: Request, file: PageFile) -> Response:
    headers = {"etag": file.etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
