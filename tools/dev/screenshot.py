"""Takes the picture of the docs page that the README shows: `./bazelw run //tools/dev:screenshot`.

The page is that of a shop which runs for it only, and a product of its seed is fetched by the page.
"""

import asyncio
import os
from pathlib import Path

from playwright.async_api import Page

from tools.dev.testing import ShopProcess, open_environment
from tools.testing.chromium import by_name, open_chromium

PICTURE = "gateway/docs/screenshot.png"

_WIDTH, _HEIGHT = 1100, 1320


async def fetch_product(page: Page) -> None:
    """Have the page fetch a product, and bring the response into view."""
    listed = await page.evaluate("fetch('v1/products?pageSize=1').then(page => page.json())")
    product_id = listed["products"][0]["productId"]
    operation = page.locator("#operations-ProductService-ProductService_GetProduct")
    await operation.locator(".opblock-summary-control").click()
    await operation.get_by_role("button", name="Try it out").click()
    await operation.locator('[data-param-name="productId"] input').fill(product_id)
    await operation.get_by_role("button", name="Execute").click()
    await operation.locator(".live-responses-table .highlight-code").wait_for()
    await page.locator("#operations-tag-ProductService").evaluate("tag => tag.scrollIntoView()")


async def take_picture(url: str, path: Path) -> None:
    """Open the docs page, make a call on it, and write what it looks like then."""
    async with open_chromium() as browser:
        page = await browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        await page.goto(f"{url}/docs")
        await fetch_product(page)
        await page.screenshot(path=path)


def main() -> None:
    """Write the picture into the workspace."""
    path = Path(os.environ["BUILD_WORKSPACE_DIRECTORY"], PICTURE)
    with open_environment() as environment, ShopProcess(environment, "--seed") as shop:
        shop.wait_until_ready()
        asyncio.run(take_picture(by_name(shop.url), path))
    print(f"{path}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
