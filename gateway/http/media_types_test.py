"""Accept headers and the media type that they choose."""

import pytest

from gateway.http.media_types import choose_media_type

NDJSON, EVENTS, JSON = "application/x-ndjson", "text/event-stream", "application/json"
OFFERED = (NDJSON, EVENTS, JSON)
EVERYTHING = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        # Without a preference, the first of the offer.
        ("", NDJSON),
        ("  ", NDJSON),
        ("*/*", NDJSON),
        (EVERYTHING, NDJSON),
        (NDJSON, NDJSON),
        (EVENTS, EVENTS),
        (JSON, JSON),
        ("Application/JSON", JSON),
        ("text/*", EVENTS),
        ("application/*", NDJSON),
        ("image/png", None),
        ("text/html", None),
        # With equal weights, a named type before a wildcard, then the order of the offer.
        (f"{JSON}, text/plain, */*", JSON),
        (f"text/*, {JSON}", JSON),
        ("*/*, text/*", EVENTS),
        (f"{JSON}, {EVENTS}", EVENTS),
        (f"{EVENTS}, {JSON}", EVENTS),
        # Weights.
        (f"{JSON};q=0.9, {EVENTS};q=0.8", JSON),
        (f"{JSON};q=0.1, */*;q=0.2", NDJSON),
        (f"{JSON};q=0.001", JSON),
        (f"{JSON};Q=0.5, {EVENTS};q=0.499", JSON),
        (f"{JSON};q=1.000, {NDJSON};q=0.999", JSON),
        (f"{JSON};q=1., {NDJSON};q=0.", JSON),
        (f"{JSON} ; q=0.5 ,{EVENTS} ; q=0.6", EVENTS),
        # The most specific range decides, also to exclude a type.
        (f"*/*, {NDJSON};q=0", EVENTS),
        ("application/*;q=0, */*;q=0.1", EVENTS),
        (f"{NDJSON};q=0.1, application/*", JSON),
        ("application/*;q=0, text/*;q=0", None),
        (f"{JSON};q=0", None),
        ("*/*;q=0", None),
        (f"*/*;q=0, {JSON};q=0.1", JSON),
        # A repeated type has its highest weight.
        (f"{JSON};q=0.1, {NDJSON};q=0.5, {JSON};q=0.9", JSON),
        # Everything is UTF-8; any other parameter denotes another type.
        (f"{JSON};charset=utf-8", JSON),
        (f'{EVENTS};charset="UTF-8";q=0.5', EVENTS),
        (f"{JSON};charset=latin-1", None),
        (f"{JSON};profile=x, */*;q=0.1", NDJSON),
        (f'{JSON};a=",;q=1", {EVENTS};q=0.1', EVENTS),
        (f'{JSON};a="\\",{NDJSON}"', None),
        (f"{JSON};q=0.5;ext=1", JSON),
        (f"{JSON};q=0.5;q=0", JSON),
        # Malformed elements are ignored.
        (f"{JSON};q=2", None),
        (f"{JSON};q=0.1234", None),
        (f"{JSON};q=-1", None),
        (f"{JSON};q=", None),
        (f"{JSON};q=high", None),
        (f"{JSON};q=nan", None),
        ("json", None),
        ("*", None),
        ("*/json", None),
        ("/", None),
        (";", None),
        (";q=1", None),
        (f",,{JSON},", JSON),
        (f";;, {JSON}", JSON),
        ('"', None),
        (f'"{JSON}', None),
    ],
)
def test_media_type_with_the_highest_weight_is_chosen(accept: str, chosen: str | None) -> None:
    assert choose_media_type(accept, OFFERED) == chosen
