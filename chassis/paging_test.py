"""Pages that are streamed, and the tokens between them."""

import base64
import uuid
from typing import Any

import pytest
from google.protobuf import struct_pb2

from chassis import errors, paging
from chassis.transport import MAX_MESSAGE_BYTES


def token_of(query: object, position: paging.Position | None) -> str:
    progress = paging.Progress(query, "", 0)
    progress.position = position
    return progress.next_page_token


def read(
    page_size: int,
    after: paging.Position | None = None,
    *,
    fitting: int = paging.MAX_ITEMS_PER_MESSAGE,
) -> list[tuple[int, int, str | None]]:
    """Read the numbers below 1,203; return what each message has: found, taken, and its position.

    No message can have more than `fitting`.
    """
    messages = []
    progress = paging.Progress("query", token_of("query", after), page_size)
    while not progress.is_done:
        start = 0 if progress.position is None else int(progress.position[0]) + 1
        found = list(range(start, 1_203))[: progress.limit + 1]
        count = min(len(found), progress.limit, fitting)
        progress.advance(found, count, lambda item: [str(item)])
        position = progress.position
        messages.append((len(found), count, None if position is None else position[0]))
    return messages


def test_progress_ends_with_the_list() -> None:
    assert read(2_000) == [(501, 500, "499"), (501, 500, "999"), (203, 203, None)]


def test_progress_ends_after_page_size_at_the_position_of_the_next_page() -> None:
    assert read(600) == [(501, 500, "499"), (101, 100, "599")]
    assert read(500) == [(501, 500, "499")]
    assert read(700, after=["599"]) == [(501, 500, "1099"), (103, 103, None)]


def test_progress_ends_on_a_page_that_is_just_full() -> None:
    assert read(2_000, after=["202"]) == [(501, 500, "702"), (500, 500, None)]
    assert read(300, after=["902"]) == [(300, 300, None)]


def test_progress_without_a_page_size_ends_after_the_default() -> None:
    assert read(0) == [(101, 100, "99")]


def test_progress_of_an_empty_list_is_one_empty_message() -> None:
    assert read(2_000, after=["1202"]) == [(0, 0, None)]


def test_progress_finds_few_more_items_than_fitted_into_the_last_message() -> None:
    assert read(10, fitting=4) == [(11, 4, "3"), (7, 4, "7"), (3, 2, "9")]
    assert read(2_000, after=["602"], fitting=400) == [(501, 400, "1002"), (200, 200, None)]
    last = [(300, 100, "1002"), (127, 100, "1102"), (100, 100, None)]
    assert read(2_000, after=["902"], fitting=100) == last


def test_progress_refuses_a_negative_page_size() -> None:
    with pytest.raises(errors.InvalidArgument):
        paging.Progress("query", "", -1)


def test_token_is_empty_at_the_end_and_at_the_beginning() -> None:
    assert token_of("query", None) == ""
    assert paging.Progress("query", "", 0).position is None


def test_token_belongs_to_its_query() -> None:
    token = token_of(("price", "red"), ["10", "id"])
    assert paging.Progress(("price", "red"), token, 0).position == ["10", "id"]
    with pytest.raises(errors.InvalidArgument):
        paging.Progress(("price", "blue"), token, 0)


@pytest.mark.parametrize("token", ["x", "AAAA", "é", "bnVsbA", "WzFd", "W10", "=" * 9])
def test_progress_refuses_damaged_tokens(token: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        paging.Progress("query", token, 0)


@pytest.mark.parametrize("payload", [b"[" * 2_000, b"[" * 1_000_000, b'["a","\\ud800"]'])
def test_progress_refuses_tokens_that_are_no_list_of_strings(payload: bytes) -> None:
    token = base64.urlsafe_b64encode(payload).decode().rstrip("=")
    with pytest.raises(errors.InvalidArgument):
        paging.Progress("query", token, 0)


def test_progress_refuses_a_token_without_an_id_in_a_list_ordered_by_id() -> None:
    position = ["0199aaaa-0000-7000-8000-000000000000"]
    progress = paging.Progress("query", token_of("query", position), 0)
    assert progress.last_id == uuid.UUID(position[0])
    with pytest.raises(errors.InvalidArgument, match="page token"):
        _ = paging.Progress("query", token_of("query", ["one"]), 0).last_id


class Measured:
    """Stands for a message, and counts how often its size is asked for."""

    def __init__(self) -> None:
        self.size = 0
        self.count = 0

    def ByteSize(self) -> int:  # noqa: N802 - The name is protobuf's.
        self.count += 1
        return self.size


def test_fill_measures_each_message_once_and_stops_when_they_are_large_enough() -> None:
    messages: list[Any] = []

    def add() -> Any:
        messages.append(Measured())
        return messages[-1]

    def fill_message(message: Any, size: int) -> None:
        message.size = size

    assert paging.fill(add, [4] * 10, fill_message, full_bytes=12) == 3
    assert [(message.size, message.count) for message in messages] == [(4, 1)] * 3
    assert paging.fill(add, [4] * 2, fill_message, full_bytes=12) == 2


@pytest.mark.parametrize(
    ("size", "fits"), [(4_180, True), (4_189, False), (1_000_000, False)], ids=str
)
def test_fill_batch_refuses_responses_larger_than_a_message(size: int, fits: bool) -> None:
    """At 4,189 characters only the tags and lengths of the items exceed the limit."""
    response = struct_pb2.ListValue()

    def fill_message(message: struct_pb2.Value, text: str) -> None:
        message.string_value = text

    def fill() -> None:
        paging.fill_batch(response, response.values.add, ["x" * size] * 1_000, fill_message)

    if fits:
        fill()
        assert len(response.values) == 1_000
    else:
        with pytest.raises(errors.FailedPrecondition):
            fill()
        assert response.ByteSize() < MAX_MESSAGE_BYTES + 1_100_000
