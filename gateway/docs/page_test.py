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
    answer = await client.get("/docs")
    paths = re.findall(r'(?:href|src)="(docs/[^"]*)"', answer.text)
    return {path.rpartition("/")[2]: f"/{path}" for path in paths}


async def test_page_is_never_kept_without_asking_again(setup: Setup) -> None:
    answer = await setup.client.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"


async def test_page_may_load_and_call_nothing_but_its_own_gateway(setup: Setup) -> None:
    policy = (await setup.client.get("/docs")).headers["Content-Security-Policy"]
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives.pop("img-src") == "'self' data:"
    assert set(directives.values()) <= {"'none'", "'self'"}
    assert directives["default-src"] == "'none'"


@pytest.mark.parametrize("name", TYPES)
async def test_what_the_page_loads_is_kept_for_good(setup: Setup, name: str) -> None:
    path = (await loaded_by_the_page(setup.client))[name]
    answer = await setup.client.get(path)
    assert answer.status_code == 200
    assert answer.content == (DIRECTORY / name).read_bytes()
    assert answer.headers["Content-Type"] == TYPES[name]
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_head_is_get_without_the_content(setup: Setup) -> None:
    for path in ("/docs", *(await loaded_by_the_page(setup.client)).values()):
        got = await setup.client.get(path, headers={"Accept-Encoding": "identity"})
        answer = await setup.client.head(path, headers={"Accept-Encoding": "identity"})
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Content-Type"] == got.headers["Content-Type"]
        assert int(answer.headers["Content-Length"]) == len(got.content)


async def test_other_methods_are_refused(setup: Setup) -> None:
    answer = await setup.client.post("/docs")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) >= {"GET", "HEAD"}
    assert answer.headers["Content-Type"] == "application/problem+json"


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


async def test_page_without_its_files_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "find_contents", partial(find_contents, tmp_path))
    app = make_app(descriptor_set(probe_pb2.DESCRIPTOR), port=1)
    async with serve_app(app) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("/docs")
    assert (answer.status_code, answer.json()["reason"]) == (404, "DOCS_NOT_BUILT")
