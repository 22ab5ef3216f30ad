"""Faults, each of which hits one step of the path of an order, once.

What a process that is killed leaves undone, and what a frozen one finds when it is woken, depends
on who finishes the order meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from chassis import errors
from services.order.schedule.commits import Killed
from services.order.schedule.paths import Message, Step
from services.payment.testing import Hook, Hooks

Call = Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class Moment:
    """The moment of a fault."""

    interlude: Hook
    """What happens elsewhere meanwhile."""
    reached: bool = False
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    """The driver was killed or is frozen."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """The order is final."""
    late: Call | None = None
    """The call that arrives now."""

    async def reach(self) -> None:
        """Let the world go on."""
        self.reached = True
        await self.interlude()

    async def freeze(self) -> None:
        """Stop until all is over."""
        self.stopped.set()
        await self.over.wait()

    async def die(self) -> None:
        """Stop, and do nothing more."""
        await self.freeze()
        raise asyncio.CancelledError


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault; `happens` tells whether the step that it hits takes effect before anything else."""

    name: str
    happens: bool
    install: Callable[[Hooks, str, Moment], None]


async def lose(*_: object) -> None:
    """Lose a message: a delivery, and what others notice of a process that dies."""
    # UNAVAILABLE would be retried at once by the channel.
    raise errors.DeadlineExceeded("LOST", "The message was lost.")


async def _lose(moment: Moment, _: Call) -> None:
    await moment.reach()
    await lose()


async def _lose_response(moment: Moment, call: Call) -> None:
    await call()
    await _lose(moment, call)


async def _delay(moment: Moment, call: Call) -> None:
    moment.late = call
    await _lose(moment, call)


async def _repeat(moment: Moment, call: Call) -> object:
    await call()
    await moment.reach()
    return await call()


async def _repeat_at_once(moment: Moment, call: Call) -> object:
    await moment.reach()
    return (await asyncio.gather(call(), call()))[1]


async def _delay_response(moment: Moment, call: Call) -> object:
    result = await call()
    await moment.reach()
    await moment.freeze()
    return result


async def _kill(moment: Moment) -> None:
    await moment.reach()
    raise Killed


async def _freeze(moment: Moment) -> None:
    await moment.reach()
    await moment.freeze()


def _of_messages(
    name: str, deliver: Callable[[Moment, Call], Awaitable[object]], *, happens: bool
) -> Fault:
    def install(hooks: Hooks, message: str, moment: Moment) -> None:
        hooks.deliveries[message] = partial(deliver, moment)

    return Fault(name, happens, install)


def _of_commits(
    name: str, side: str, hook: Callable[[Moment], Awaitable[None]], *, happens: bool
) -> Fault:
    def install(hooks: Hooks, commit: str, moment: Moment) -> None:
        point = f"{side} {commit}"

        async def run() -> None:
            del hooks[point]
            await hook(moment)

        hooks[point] = run

    return Fault(name, happens, install)


LATE = _of_messages("late", _delay, happens=False)
REPEATED = _of_messages("duplicated", _repeat, happens=True)
REPEATED_AT_ONCE = _of_messages("duplicated concurrently", _repeat_at_once, happens=True)

_FAULTS_OF_MESSAGES = (
    _of_messages("lost", _lose, happens=False),
    _of_messages("response lost", _lose_response, happens=True),
    _of_messages("frozen", _delay_response, happens=True),
    LATE,
    REPEATED,
    REPEATED_AT_ONCE,
)
_FAULTS_OF_COMMITS = (
    _of_commits("killed before", "before", _kill, happens=False),
    _of_commits("killed after", "after", _kill, happens=True),
    _of_commits("frozen", "after", _freeze, happens=True),
)


def faults_of(step: Step) -> Sequence[Fault]:
    """Return the faults that can hit a step."""
    return _FAULTS_OF_MESSAGES if isinstance(step, Message) else _FAULTS_OF_COMMITS
