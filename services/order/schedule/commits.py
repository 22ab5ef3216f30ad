"""Hooks around the commits of all services, by the names of what is committed.

"before save_orders PAYING" runs in the transaction that makes an order PAYING, "after save_orders
PAYING" once that is committed. A hook that raises `Killed` kills the process at that point: before
the commit, the transaction is rolled back.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from types import ModuleType
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest

from chassis.database import Connection, Database
from services.order import queue_repository, refund_repository
from services.order import repository as order_repository
from services.payment import repository as payment_repository
from services.payment.testing import Hook, Hooks
from services.product import reservation_steps

WRITES: Mapping[ModuleType, Sequence[str]] = {
    order_repository: ("accept_orders", "save_orders"),
    queue_repository: ("claim", "postpone"),
    refund_repository: ("accept_refund", "settle_refunds"),
    reservation_steps: ("reserve", "pin", "commit", "release", "return_units"),
    payment_repository: (
        "insert_payments",
        "update_payments",
        "insert_refunds",
        "update_refunds",
    ),
}
"""The functions that write what a transaction is named by."""
STATEMENTS = frozenset({"save_orders", "claim", "postpone"})
"""Those of them that are a single statement, which commits by itself."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Killed(Exception):
    """The process was killed."""


class Commits:
    """Knows what was written in each transaction, and runs its hooks."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._names: dict[Connection, list[str]] = {}
        """What has been written by means of each connection that is in use."""

    def observe(self, patch: pytest.MonkeyPatch) -> None:
        """Have the functions of `WRITES` name what they write."""
        for module, functions in WRITES.items():
            for name in functions:
                patch.setattr(module, name, partial(self._write, getattr(module, name)))

    @asynccontextmanager
    async def around(self, connection: Connection) -> AsyncIterator[list[str]]:
        """Yield a list that names what is written by means of a connection."""
        names = self._names[connection] = list[str]()
        try:
            yield names
        finally:
            del self._names[connection]

    async def announce(self, names: Iterable[str]) -> None:
        """Run the hooks of what was committed."""
        for name in names:
            await self._hooks.run(f"after {name}")

    async def _write(
        self,
        function: Callable[Concatenate[Connection, Parameters], Awaitable[Result]],
        connection: Connection,
        *arguments: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Result:
        name = _name(function.__name__, *arguments)
        commits_itself = function.__name__ in STATEMENTS
        async with connection.transaction() if commits_itself else nullcontext():
            result = await function(connection, *arguments, **options)
            await self._hooks.run(f"before {name}")
        self._names[connection].append(name)
        return result


class HookedDatabase(Database):
    """A database with hooks around its commits; `die` is what its process does once killed."""

    def __init__(self, url: str, commits: Commits, die: Hook) -> None:
        super().__init__(url)
        self._commits = commits
        self._die = die

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Obtain a connection, also for a transaction; run the hooks when it is returned."""
        try:
            async with (
                super().connection() as connection,
                self._commits.around(connection) as names,
            ):
                yield connection
            await self._commits.announce(names)
        except Killed:
            await self._die()


def _name(function: str, items: object = None, *_: Any) -> str:
    """Return the name of a write: the function, and the state of what it writes if that has one."""
    first = items[0] if isinstance(items, Sequence) and items else None
    return f"{function} {getattr(first, 'state', '')}".rstrip()
