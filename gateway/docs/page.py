"""The page at /docs: Swagger UI with the gateway's own OpenAPI document.

Everything that the page loads is served from files beside this module, where Bazel puts Swagger UI.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import falcon.asgi

from gateway.http.problems import Problem

DIRECTORY = Path(__file__).parent
"""Where the build puts the files of the page."""

PATH = "/docs"

_PAGE = "index.html"
_ASSETS = {
    "favicon-32x32.png": "image/png",
    "start.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}

_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    # The images of Swagger UI's style sheet are data URIs.
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; connect-src 'self';"
    " form-action 'none'; frame-ancestors 'none'; img-src 'self' data:; script-src 'self';"
    " style-src 'self'",
    "Content-Type": "text/html; charset=utf-8",
    "Referrer-Policy": "no-referrer",
}
_CACHED = {"Cache-Control": f"public, max-age={365 * 86_400}, immutable"}


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it is served, at GET and HEAD."""

    data: bytes
    headers: Mapping[str, str]

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Respond with the file."""
        resp.data = self.data
        resp.set_headers({**self.headers, "X-Content-Type-Options": "nosniff"})

    on_head = on_get


class Missing:
    """The resource at /docs without the files of the page, as outside of Bazel."""

    async def on_get(self, _req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        """Refuse.

        Raises:
            Problem: always.
        """
        detail = "This gateway was built without the files of its docs page."
        raise Problem(404, "NOT_FOUND", detail, "DOCS_NOT_BUILT")

    on_head = on_get


def find_contents(directory: Path = DIRECTORY) -> dict[str, Content | Missing]:
    """Return the page and the files that it loads, each by its path.

    The paths of these files change with their contents, so that clients may cache them for good.
    """
    try:
        assets = {name: (directory / name).read_bytes() for name in _ASSETS}
        page = (directory / _PAGE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {PATH: Missing()}
    version = hashlib.sha256(b"".join(assets.values())).hexdigest()[:16]
    contents: dict[str, Content | Missing] = {
        f"{PATH}/{version}/{name}": Content(data, {**_CACHED, "Content-Type": _ASSETS[name]})
        for name, data in assets.items()
    }
    contents[PATH] = Content(page.replace("{assets}", f"docs/{version}").encode(), _PAGE_HEADERS)
    return contents
