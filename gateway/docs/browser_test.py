"""The page at /docs in a real Chromium: it calls the gateway and no other server."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Error, Locator, Page, Request, expect

from gateway.testing.fixtures import Setup
from tools.testing.chromium import by_name, open_chromium

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

expect.set_options(timeout=30_000)


@dataclass
class Docs:
    """The page, with its requests and its errors."""

    page: Page
    requested: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Begin to record the requests and errors of the page."""
        self.page.on("console", self._note_message)
        self.page.on("pageerror", self._note_error)
        self.page.on("request", self._note_request)

    async def expand(self, method: str, path: str) -> Locator:
        """Open an operation for trying it out."""
        heading = self.page.locator(f'[data-path="{path}"]')
        operation = self.page.locator(f".opblock-{method}").filter(has=heading)
        await operation.locator(".opblock-summary-control").click()
        await operation.get_by_role("button", name="Try it out").click()
        return operation

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(message.text)

    def _note_error(self, error: Error) -> None:
        self.faults.append(str(error))

    def _note_request(self, request: Request) -> None:
        self.requested.append(request.url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with open_chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def docs(setup: Setup, browser: Browser) -> AsyncIterator[Docs]:
    """Yield the page; at the end it must have called the gateway only, without an error."""
    origin = by_name(setup.url)
    docs = Docs(await browser.new_page())
    docs.watch()
    await docs.page.goto(f"{origin}/docs")
    yield docs
    await docs.page.close()
    assert f"{origin}/openapi.json" in docs.requested
    assert [url for url in docs.requested if not url.startswith(f"{origin}/")] == []
    assert docs.faults == []


async def execute(operation: Locator) -> Locator:
    """Make the call, and return the body of its response."""
    await operation.get_by_role("button", name="Execute").click()
    response = operation.locator(".live-responses-table .response")
    await expect(response.locator(".response-col_status")).to_contain_text("200")
    return response.locator(".highlight-code code")


async def test_page_has_the_title_of_the_document(docs: Docs, setup: Setup) -> None:
    document = (await setup.client.get("/openapi.json")).json()
    await expect(docs.page).to_have_title(document["info"]["title"])


async def test_get_is_tried_out(docs: Docs, setup: Setup) -> None:
    operation = await docs.expand("get", "/v1/probes/{id}")
    await operation.locator('[data-param-name="id"] input').fill("seven")
    await expect(await execute(operation)).to_contain_text('"id": "seven"')
    assert setup.request() == {"id": "seven"}


async def test_post_with_a_body_is_tried_out(docs: Docs, setup: Setup) -> None:
    operation = await docs.expand("post", "/v1/probes")
    await operation.locator("textarea").fill('{"id": "8", "tags": ["a", "b"]}')
    await expect(await execute(operation)).to_contain_text('"id": "8"')
    assert setup.request() == {"id": "8", "tags": ["a", "b"]}


async def test_stream_is_tried_out(docs: Docs, setup: Setup) -> None:
    operation = await docs.expand("get", "/v1/probes:watch")
    await operation.locator('[data-param-name="count"] input').fill("2")
    lines = re.compile(r'^{"int32Value":1.*}\s{"int32Value":2.*}\s*$')
    await expect(await execute(operation)).to_have_text(lines)
    assert setup.request() == {"count": 2}


async def test_a_call_has_the_token_that_was_authorized(docs: Docs, setup: Setup) -> None:
    await docs.page.locator(".auth-wrapper .btn.authorize").click()
    dialog = docs.page.locator(".dialog-ux")
    await dialog.locator("input").fill("TOKEN")
    await dialog.locator("button.authorize").click()
    await dialog.locator("button.btn-done").click()
    operation = await docs.expand("get", "/v1/probes/{id}")
    await operation.locator('[data-param-name="id"] input').fill("nine")
    await execute(operation)
    assert setup.metadata()["authorization"] == "Bearer TOKEN"
