"""Runs the script of the README in Chromium, on a page of another origin of the same site."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Error, Page

from tools.dev.testing import ADMIN_EMAIL, ADMIN_PASSWORD, ShopProcess, open_environment
from tools.testing.chromium import open_chromium

EMPTY_PAGE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n"
    b"<!DOCTYPE html>"
)


async def show_empty_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(EMPTY_PAGE)
    writer.close()
    await writer.wait_closed()


def read_script() -> str:
    (script,) = re.findall(r"^```js\n(.*?)^```$", Path("README.md").read_text(), re.M | re.S)
    return str(script)


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    async with await asyncio.start_server(show_empty_page, "127.0.0.1", 0) as server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def page(origin: str) -> AsyncIterator[Page]:
    """Yield a page that has the script, beside a shop that knows its origin."""
    with open_environment() as environment:
        named = environment | {"APIGATEWAY_CORS_ORIGINS": origin}
        with ShopProcess(named) as shop:
            shop.wait_until_ready()
            async with open_chromium() as browser:
                page = await browser.new_page()
                await page.goto(origin)
                port = environment["APIGATEWAY_PORT"]
                await page.add_script_tag(content=read_script().replace(":8080", f":{port}"))
                yield page


async def test_the_script_of_the_readme_logs_in_stays_logged_in_and_logs_out(page: Page) -> None:
    begun = await page.evaluate(f"logIn('{ADMIN_EMAIL}', '{ADMIN_PASSWORD}')")
    assert begun.keys() == {"accessToken", "expireTime", "sessionExpireTime"}
    assert await page.evaluate("document.cookie") == ""
    refreshed = await page.evaluate("Promise.all([refresh(), refresh(), refresh()])")
    assert len({each["accessToken"] for each in [begun, *refreshed]}) == 4
    await page.evaluate("logOut()")
    with pytest.raises(Error, match="Log in"):
        await page.evaluate("refresh()")
