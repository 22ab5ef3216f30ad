import re
from functools import partial
from pathlib import Path

import httpx
import pytest
from probe.v1 import probe_pb2

from gateway.docs import page
from gateway.docs.page import DIRECTORY, Content, find_contents
from gateway.testing.fixtures import Setup
from gateway.testing.harness import descriptor_set, make_app, serve_app

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

TYPES = {
    "favicon-32x32.png": "image/png",
    "start.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}


async def loaded_by_the_page(client: httpx.AsyncClient) -> dict[str, str]:
    """Return the paths of what the page loads, by the names of the files."""
    response = await client.get("/docs")
    paths = re.findall(r'(?:href|src)="(docs/[^"]*)"', response.text)
    return {path.rpartition("/")[2]: f"/{path}" for path in paths}


async def test_page_is_revalidated_by_caches(setup: Setup) -> None:
    response = await setup.client.get("/docs")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache"


async def test_page_may_load_and_call_nothing_but_its_own_gateway(setup: Setup) -> None:
    policy = (await setup.client.get("/docs")).headers["Content-Security-Policy"]
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives.pop("img-src") == "'self' data:"
    assert set(directives.values()) <= {"'none'", "'self'"}
    assert directives["default-src"] == "'none'"


@pytest.mark.parametrize("name", TYPES)
async def test_assets_of_the_page_are_immutable(setup: Setup, name: str) -> None:
    path = (await loaded_by_the_page(setup.client))[name]
    response = await setup.client.get(path)
    assert response.status_code == 200
    assert response.content == (DIRECTORY / name).read_bytes()
    assert response.headers["Content-Type"] == TYPES[name]
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_head_is_get_without_the_content(setup: Setup) -> None:
    for path in ("/docs", *(await loaded_by_the_page(setup.client)).values()):
        got = await setup.client.get(path, headers={"Accept-Encoding": "identity"})
        response = await setup.client.head(path, headers={"Accept-Encoding": "identity"})
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["Content-Type"] == got.headers["Content-Type"]
        assert int(response.headers["Content-Length"]) == len(got.content)


async def test_other_methods_are_refused(setup: Setup) -> None:
    response = await setup.client.post("/docs")
    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) >= {"GET", "HEAD"}
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_nothing_else_is_served_from_the_directory(setup: Setup) -> None:
    version = (await loaded_by_the_page(setup.client))["start.js"].rpartition("/")[0]
    for path in (f"{version}/page.py", f"{version}/index.html", "/docs/start.js", "/docs/"):
        assert (await setup.client.get(path)).status_code == 404


async def test_paths_change_with_the_files(tmp_path: Path) -> None:
    for name in ("index.html", *TYPES):
        (tmp_path / name).write_bytes((DIRECTORY / name).read_bytes())
    before = find_contents(tmp_path)
    assert before.keys() == find_contents().keys()
    (tmp_path / "start.js").write_text("// changed")
    after = find_contents(tmp_path)
    assert before.keys() & after.keys() == {"/docs"}
    changed = after.pop("/docs")
    assert isinstance(changed, Content)
    assert all(path[1:].encode() in changed.data for path in after)


async def test_page_without_its_files_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "find_contents", partial(find_contents, tmp_path))
    app = make_app(descriptor_set(probe_pb2.DESCRIPTOR), port=1)
    async with serve_app(app) as url, httpx.AsyncClient(base_url=url) as client:
        response = await client.get("/docs")
    assert (response.status_code, response.json()["reason"]) == (404, "DOCS_NOT_BUILT")
