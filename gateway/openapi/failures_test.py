"""Sentences that name failures, and similar ones that do not."""

import pytest

from gateway.openapi.failures import named_failures


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("Gets a book.", {}),
        ("Returns NOT_FOUND if there is none.", {404: "`NOT_FOUND` if there is none."}),
        (
            "Gets it.\n\nReturns NOT_FOUND if there is none, PERMISSION_DENIED if it is lent,"
            " and ABORTED if `etag` is old.",
            {
                403: "`PERMISSION_DENIED` if it is lent.",
                404: "`NOT_FOUND` if there is none.",
                409: "`ABORTED` if `etag` is old.",
            },
        ),
        (
            "Returns NOT_FOUND or PERMISSION_DENIED if it is lent.",
            {403: "`PERMISSION_DENIED` if it is lent.", 404: "`NOT_FOUND` if it is lent."},
        ),
        (
            "Returns ALREADY_EXISTS if it is there and ABORTED if it is old or if it is new.",
            {409: "`ALREADY_EXISTS` if it is there.\n\n`ABORTED` if it is old or if it is new."},
        ),
        (
            "Returns FAILED_PRECONDITION if it is out (reason OUT_OF_STOCK, HTTP 409) or if it is"
            " dear (reason TOO_DEAR, HTTP 402), and RESOURCE_EXHAUSTED (HTTP 423) after ten.",
            {
                402: "`FAILED_PRECONDITION` if it is dear (reason TOO_DEAR).",
                409: "`FAILED_PRECONDITION` if it is out (reason OUT_OF_STOCK).",
                423: "`RESOURCE_EXHAUSTED` after ten.",
            },
        ),
        (
            "Returns FAILED_PRECONDITION if it is out (reason OUT_OF_STOCK).",
            {400: "`FAILED_PRECONDITION` if it is out (reason OUT_OF_STOCK)."},
        ),
        (
            "Every method returns UNAVAILABLE while its database is down.",
            {503: "`UNAVAILABLE` while its database is down."},
        ),
        (
            "After UNAVAILABLE or DEADLINE_EXCEEDED the outcome is unknown.",
            {
                503: "After UNAVAILABLE or DEADLINE_EXCEEDED the outcome is unknown.",
                504: "After UNAVAILABLE or DEADLINE_EXCEEDED the outcome is unknown.",
            },
        ),
        ("A bad order gets an error of its own: NOT_FOUND for an unknown book.", {}),
        ("Returns NOT_FOUNDLING if there is one, or UNKNOWN_BOOK.", {}),
        ("Returns NOT_FOUND.", {404: "`NOT_FOUND`."}),
    ],
)
def test_failure_is_listed_under_its_status(comment: str, expected: dict[int, str]) -> None:
    assert named_failures(comment) == expected


def test_invalid_argument_is_listed_as_422_too() -> None:
    text = "`INVALID_ARGUMENT` if it is long."
    assert named_failures("Returns INVALID_ARGUMENT if it is long.") == {400: text, 422: text}


def test_failures_are_ordered_by_status() -> None:
    found = named_failures("Returns NOT_FOUND if a.", "Every method returns UNAUTHENTICATED if b.")
    assert list(found.items()) == [(401, "`UNAUTHENTICATED` if b."), (404, "`NOT_FOUND` if a.")]


def test_repeated_text_is_listed_once() -> None:
    assert named_failures("Returns ABORTED if a.", "Returns ABORTED if a.") == {
        409: "`ABORTED` if a."
    }
