"""Chromium for tests in a browser: the one of the system, which the wheel of Playwright drives.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

_PROGRAM = "chromium"
_HOST = "gateway.test"
_ARGUMENTS = (f"--host-resolver-rules=MAP {_HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost",)
"""The browser knows one host beside its own, and can reach no other."""


class ChromiumMissingError(Exception):
    """There is no Chromium on PATH; the message says how to install it."""


@asynccontextmanager
async def open_chromium() -> AsyncIterator[Browser]:
    """Run Chromium, headless, until the end of the block.

    Raises:
        ChromiumMissingError: it is not installed.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise ChromiumMissingError(
            f"{_PROGRAM} is not on PATH. Install it, on Debian by: apt-get install {_PROGRAM}"
        )
    with tempfile.TemporaryDirectory() as home:
        # A test's user has no home of its own, and Chromium does not start without one.
        environment: dict[str, str | float | bool] = {**os.environ, "HOME": home}
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=program, args=_ARGUMENTS, env=environment
            )
            yield browser
            await browser.close()


def by_name(url: str) -> str:
    """Return the URL by which the browser is to call a server that listens on 127.0.0.1.

    There is a name in it: pages may spare what they take for a developer's machine.
    """
    return url.replace("127.0.0.1", _HOST)
