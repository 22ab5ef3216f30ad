"""Blocking functions in threads: their results, their errors, and an end that does not wait."""

import asyncio
import threading

import pytest

from tools.dev.threads import run_in_thread


async def test_results_and_errors_are_passed_on() -> None:
    assert await run_in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(divmod, 7, 0)


def test_a_cancelled_call_is_not_waited_for() -> None:
    began, ended = threading.Event(), threading.Event()

    def block() -> None:
        began.set()
        ended.wait()

    async def cancel() -> None:
        call = asyncio.create_task(run_in_thread(block))
        while not began.is_set():  # noqa: ASYNC110 - a thread sets it.
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancel())
    assert not ended.is_set()
    ended.set()
