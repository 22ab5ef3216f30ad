"""Bounds on the calls in flight of a server: how many, and how long clients take to read.

What a call does and which status it ends with is decided in the interceptor.
"""

import asyncio
import gc
import time
from collections import Counter
from dataclasses import dataclass

from chassis import log

Task = asyncio.Task[object]


@dataclass(slots=True)
class _Call:
    method: str
    sending_since: float | None = None
    is_logged: bool = False
    is_blocked: bool = False


class CallsInFlight:
    """Counts calls by the tasks that serve them, and ends those whose clients do not read.

    gRPC buffers one message of a response. The call is cancelled if the client takes longer than
    `max_send_seconds` to read it.
    """

    def __init__(self, max_calls: int, max_method_calls: int, max_send_seconds: float) -> None:
        self._max_calls = max_calls
        self._max_method_calls = max_method_calls
        self._max_send_seconds = max_send_seconds
        self._calls: dict[Task, _Call] = {}
        self._calls_of: Counter[str] = Counter()
        """How many calls of each method there are."""
        self._refused = 0
        self._log = log.logger()

    def admit(self, method: str) -> bool:
        """Count the call of the current task until it ends; return False if there are too many."""
        too_many = len(self._calls) >= self._max_calls
        if too_many or self._calls_of[method] >= self._max_method_calls:
            self._refused += 1
            return False
        task = _current_task()
        self._calls[task] = _Call(method)
        self._calls_of[method] += 1
        task.add_done_callback(self._end)
        return True

    def _end(self, task: Task) -> None:
        self._calls_of[self._calls.pop(task).method] -= 1

    def begin_sending(self) -> None:
        """Record that the current task hands a message of its call to gRPC."""
        self._calls[_current_task()].sending_since = time.monotonic()

    def finish(self) -> None:
        """Record that the last message or the status is handed to gRPC, and the call logged."""
        self.begin_sending()
        self._calls[_current_task()].is_logged = True

    def end_sending(self) -> None:
        """Record that the client has read enough for gRPC to take another message."""
        self._calls[_current_task()].sending_since = None

    def is_blocked(self) -> bool:
        """Return whether the call of the current task was ended because its client did not read."""
        return self._calls[_current_task()].is_blocked

    async def watch(self) -> None:
        """End calls whose clients have not read for too long; log how many were refused since."""
        if self._refused:
            self._log.warning("calls_refused", count=self._refused, max_calls=self._max_calls)
            self._refused = 0
        limit = time.monotonic() - self._max_send_seconds
        for task, call in list(self._calls.items()):
            if call.sending_since is not None and call.sending_since < limit:
                self._end_blocked(task, call)

    def _end_blocked(self, task: Task, call: _Call) -> None:
        if call.is_blocked:
            return
        call.is_blocked = True
        if call.is_logged:
            self._log.warning("response_not_read", method=call.method)
        _cancel(task)


def _current_task() -> Task:
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("not called by the task of an RPC")
    return task


def _cancel(task: Task) -> None:
    """Cancel the task that serves an RPC, and reset its HTTP/2 stream.

    grpc.aio has no method for the reset. A call ends with a status, which waits behind the message
    that the client does not read, and gRPC keeps both for as long as the connection lasts. It
    resets the stream when nothing refers to the call any more. The last reference is held by a task
    of its own, named "rpc_task", which has started ours and waits for the connection: cancel it.
    """
    task.cancel()
    for other in asyncio.all_tasks():
        if other.get_name() == "rpc_task" and _holds(other, task):
            other.cancel()


def _holds(other: Task, task: Task) -> bool:
    """Return whether a task is a local variable of the coroutine that another task runs."""
    scopes = gc.get_referents(other.get_coro())
    return any(held is task for scope in scopes for held in gc.get_referents(scope))
