"""Background tasks go on whatever their work raises, until they are stopped."""

import asyncio
import contextlib
import itertools

import pytest

from chassis import errors, supervision
from chassis.supervision import BackgroundTask
from chassis.testing import Events

pytest_plugins = ("chassis.testing",)


class Work:
    """Raises each of the failures, one per attempt, and then succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.done = asyncio.Event()
        self.times: list[float] = []
        self._failures = list(failures)

    async def __call__(self) -> None:
        self.times.append(asyncio.get_running_loop().time())
        if self._failures:
            raise self._failures.pop(0)
        self.done.set()


async def run(work: Work, retry_seconds: float | None = None) -> None:
    task = BackgroundTask("work", work, 0.0, retry_seconds)
    task.start()
    async with asyncio.timeout(10):
        await work.done.wait()
    await task.stop()


async def test_a_task_goes_on_after_a_defect_and_logs_its_traceback(
    events: Events,
) -> None:
    await run(Work(KeyError("a defect")))
    assert [(event["event"], event["task"]) for event in events] == [
        ("background_task_failed", "work")
    ]
    assert events[0]["exc_info"]


async def test_a_task_goes_on_after_an_error_and_logs_its_reason(
    events: Events,
) -> None:
    await run(Work(errors.Unavailable("DATABASE_UNAVAILABLE", "down")))
    assert [event["reason"] for event in events] == ["DATABASE_UNAVAILABLE"]
    assert "exc_info" not in events[0]


async def test_the_pause_doubles_while_a_task_fails_and_is_bounded(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "MIN_BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(supervision, "MAX_BACKOFF_SECONDS", 0.04)
    work = Work(*(ValueError(number) for number in range(4)))
    await run(work)
    pauses = [later - sooner for sooner, later in zip(work.times, work.times[1:], strict=False)]
    # A busy machine makes pauses longer, never shorter.
    assert all(
        pause >= least for pause, least in zip(pauses, [0.02, 0.04, 0.04, 0.04], strict=True)
    )
    assert len(events) == 4


async def test_stop_cancels_the_work_in_progress() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = BackgroundTask("work", work, 0.01)
    task.start()
    async with asyncio.timeout(10):
        await began.wait()
        await task.stop()
    assert ended.is_set()


async def test_stop_cancels_again_if_the_work_loses_the_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervision, "CANCEL_SECONDS", 0.01)
    began = asyncio.Event()

    async def lose_cancellation() -> None:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    task = BackgroundTask("work", lose_cancellation, 1_000)
    task.start()
    await began.wait()
    async with asyncio.timeout(10):
        await task.stop()


async def test_the_pause_of_a_task_that_has_one_for_failures_does_not_grow(events: Events) -> None:
    work = Work(*(errors.Unavailable("DOWN", "down") for _ in range(3)))
    await run(work, retry_seconds=0.02)
    pauses = [after - before for before, after in itertools.pairwise(work.times)]
    assert len(pauses) == 3
    assert 0.02 <= min(pauses) <= max(pauses) < 0.4
