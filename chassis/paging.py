"""Lists in pages (AIP-158): sizes, tokens, and responses with bounded memory."""

import base64
import hashlib
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import orjson

from chassis import errors
from chassis.transport import MAX_MESSAGE_BYTES

DEFAULT_PAGE_SIZE = 100
"""The page size of every list where its request has none, which is 0 in protobuf."""

MAX_ITEMS_PER_MESSAGE = 500
"""The most items in one message of a streamed page."""

FULL_BYTES = 1024 * 1024
"""The size from which a response takes no more items.

The last one may be large, and the whole must stay below MAX_MESSAGE_BYTES. A client that does not
read costs it twice, because gRPC sends a copy.
"""


class Message(Protocol):
    """What paging needs of a protobuf message, so that domains can import this without protobuf."""

    def ByteSize(self) -> int:  # noqa: N802 - The name is protobuf's.
        """Return the size of the message on the wire."""


_NUMBER = re.compile("[0-9]{1,18}")
Item = TypeVar("Item")
Resource = TypeVar("Resource", bound=Message)
Position = Sequence[str]
"""Where an item is in a list: the values that the list is ordered by, as strings."""


class Tokens:
    """Positions in the results of one query as tokens, from which a client continues.

    They are not signed, as they grant nothing: the caller may read all results.
    """

    def __init__(self, query: object) -> None:
        self._digest = hashlib.sha256(repr(query).encode()).hexdigest()[:16]

    def encode(self, position: Position) -> str:
        """Return the token of a position."""
        payload = orjson.dumps([self._digest, *position])
        return base64.urlsafe_b64encode(payload).decode().rstrip("=")

    def decode(self, token: str) -> Position | None:
        """Return the position of a token; None for an empty one.

        Raises:
            errors.InvalidArgument: the token is damaged or of another query.
        """
        if not token:
            return None
        try:
            padded = token + "=" * (-len(token) % 4)
            # Unlike json, orjson raises ValueError for deep nesting and for lone surrogates.
            payload = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except ValueError:
            payload = None
        if (
            not isinstance(payload, list)
            or len(payload) < 2
            or not all(isinstance(item, str) for item in payload)
            or payload[0] != self._digest
        ):
            raise invalid_token()
        return payload[1:]


class Progress:
    """How far a list has been read: all that is kept while the client does not read.

    Each message has at most `limit` items that follow `position`. Items that were found and do not
    fit are dropped, and found again for the next message:

        while not progress.is_done:
            yield await read_message(progress)
    """

    def __init__(
        self,
        query: object,
        page_token: str,
        page_size: int,
        max_items: int = MAX_ITEMS_PER_MESSAGE,
    ) -> None:
        """Begin after the page that the token is from; end after `page_size` items.

        Raises:
            errors.InvalidArgument: the size is negative, or the token is damaged or of another
                query.
        """
        if page_size < 0:
            raise errors.InvalidArgument("INVALID_PAGE_SIZE", "page_size must not be negative")
        self._tokens = Tokens(query)
        self.position = self._tokens.decode(page_token)
        self.is_done = False
        self._left = page_size or DEFAULT_PAGE_SIZE
        self._max_items = self._fitting = max_items

    @property
    def next_page_token(self) -> str:
        """The token to continue with after the position; empty at the end of the list."""
        return "" if self.position is None else self._tokens.encode(self.position)

    @property
    def limit(self) -> int:
        """The most items of the next message; find one more, to know whether the list goes on."""
        return min(self._left, self._fitting)

    @property
    def last_id(self) -> uuid.UUID | None:
        """The id that the position in a list ordered by id consists of.

        Raises:
            errors.InvalidArgument: it consists of something else.
        """
        return None if self.position is None else parse_id(self.position[0])

    def advance(
        self, found: Sequence[Item], count: int, position_of: Callable[[Item], Position]
    ) -> None:
        """Move past the first `count` of the items that were found; 0 only if none was."""
        is_more = len(found) > count
        self.position = position_of(found[count - 1]) if is_more else None
        self._left -= count
        self.is_done = not is_more or self._left == 0
        # Of large items few fit into a message: do not find hundreds to drop them every time.
        self._fitting = min(self._max_items, count + count // 4 + 1)


def fill(
    add: Callable[[], Resource],
    items: Sequence[Item],
    fill_message: Callable[[Resource, Item], None],
    *,
    full_bytes: int = FULL_BYTES,
) -> int:
    """Add items to a response until their messages have `full_bytes`; return how many were added.

    `add` adds an empty message to the response, and `fill_message` fills it.
    """
    size = 0
    for count, item in enumerate(items, start=1):
        message = add()
        fill_message(message, item)
        size += message.ByteSize()
        if size >= full_bytes:
            return count
    return len(items)


def fill_batch(
    response: Message,
    add: Callable[[], Resource],
    items: Sequence[Item],
    fill_message: Callable[[Resource, Item], None],
) -> None:
    """Add all items to a response, as `fill` does.

    Raises:
        errors.FailedPrecondition: the response would be larger than MAX_MESSAGE_BYTES.
    """
    count = fill(add, items, fill_message, full_bytes=MAX_MESSAGE_BYTES)
    if count < len(items) or response.ByteSize() > MAX_MESSAGE_BYTES:
        message = f"The response would be larger than {MAX_MESSAGE_BYTES} bytes: ask for fewer."
        raise errors.FailedPrecondition("RESPONSE_TOO_LARGE", message)


def parse_id(value: str) -> uuid.UUID:
    """Parse an id in a position.

    Raises:
        errors.InvalidArgument: it is not an id.
    """
    try:
        return uuid.UUID(value)
    except ValueError as error:
        raise invalid_token() from error


def invalid_token() -> errors.InvalidArgument:
    """Return the error for a page token that no response to the query has."""
    message = "The page token is not from a response to the same query."
    return errors.InvalidArgument("INVALID_PAGE_TOKEN", message)


def parse_numbers(position: Position | None, count: int) -> list[int]:
    """Return the `count` numbers that a position consists of; zeros for the beginning.

    Raises:
        errors.InvalidArgument: it consists of something else.
    """
    if position is None:
        return [0] * count
    if len(position) != count or not all(map(_NUMBER.fullmatch, position)):
        raise invalid_token()
    return [int(item) for item in position]
