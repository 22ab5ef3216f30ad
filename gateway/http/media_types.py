"""The media types that the gateway reads and writes, and the choice between them by Accept."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

BINARY = "application/octet-stream"
JSON = "application/json"
NDJSON = "application/x-ndjson"
NDJSON_ALIASES = ("application/ndjson", "application/jsonl")
"""None of the three is registered."""
EVENT_STREAM = "text/event-stream"

_ELEMENTS = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PARAMETERS = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_CHARSETS = frozenset({"charset=utf-8", 'charset="utf-8"'})


@lru_cache(maxsize=64)
def choose_media_type(accept: str, offered: tuple[str, ...]) -> str | None:
    """Return the offered type that a client prefers, or None if it accepts none of them.

    `accept` is the whole Accept header (RFC 9110 §12.5.1); an empty one accepts anything. Of types
    with the same weight, a type that the client names goes before one that a wildcard covers, and
    then the order of the offer decides.
    """
    if not accept.strip():
        return offered[0]
    weights = read_weights(accept)
    best = max(offered, key=lambda media_type: _rank(media_type, weights))
    return best if _rank(best, weights)[0] > 0 else None


def read_weights(header: str) -> dict[str, float]:
    """Return the weight of each element of Accept, or of a header like it (RFC 9110 §12.4.2).

    A malformed element is ignored.
    """
    weights: dict[str, float] = {}
    for element in _ELEMENTS.findall(header.lower()):
        name, _, parameters = element.partition(";")
        weight = _read_weight([part.strip() for part in _PARAMETERS.findall(parameters)])
        if weight is not None:
            name = name.strip()
            weights[name] = max(weight, weights.get(name, 0.0))
    return weights


def _rank(media_type: str, weights: Mapping[str, float]) -> tuple[float, int]:
    """Return the weight of a type, and how specific the range is that matches it."""
    main = media_type.partition("/")[0]
    for specificity, media_range in ((2, media_type), (1, f"{main}/*"), (0, "*/*")):
        if media_range in weights:
            return weights[media_range], specificity
    return 0.0, 0


def _read_weight(parameters: Sequence[str]) -> float | None:
    """Return the weight among the parameters of a range, or None if it cannot match.

    Everything is written in UTF-8; any other parameter denotes another type.
    """
    for parameter in parameters:
        if parameter.startswith("q="):
            text = parameter.removeprefix("q=")
            return float(text) if _WEIGHT.fullmatch(text) else None
        if parameter not in _CHARSETS:
            return None
    return 1.0
