"""Follows everything that the page names: links, scripts, icons, imports of imports, and what its worker keeps."""

import json
import posixpath
import re
from collections.abc import Iterator

from servers import Answer, ServerProcess

TYPES = {
    "": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
START = "/r3"
# Named by no link of the page: its worker by a call, and the icon by every browser.
ALSO = ("/sw.js", "/manifest.webmanifest")


def page_assets(server: ServerProcess) -> dict[str, Answer]:
    """Every path that can be reached from the page, with the server's answer."""
    found: dict[str, Answer] = {}
    waiting = [START, *ALSO]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = server.get(path)
        if found[path].status == 200:  # What is missing stays in the answers; it names nothing.
            waiting += _named_in(path, found[path])
    return found


def _named_in(path: str, answer: Answer) -> Iterator[str]:
    text = answer.body.decode("utf-8", "replace")
    if path == START:
        yield from re.findall(r'(?:href|src)="(/[^"#]+)"', text)
    elif path.endswith(".webmanifest"):
        yield from (icon["src"] for icon in json.loads(text)["icons"])
    elif path == "/sw.js":
        yield from re.findall(r'^  "(/[^"]+)",$', text, flags=re.MULTILINE)
    elif path.endswith((".js", ".css")):
        # Types are imported in comments alone; no browser asks for them.
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        names = re.findall(r'(?:from|import)\s*\(?\s*"(\.{1,2}/[^"]+|/static/[^"]+)"|url\("?(/static/[^")]+)', code)
        folder = posixpath.dirname(path)
        yield from (posixpath.normpath(posixpath.join(folder, first or second)) for first, second in names)
