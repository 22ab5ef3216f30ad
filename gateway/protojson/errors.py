"""The exceptions of the codec, which are independent of HTTP and gRPC."""

import re

MAX_DEPTH = 100
"""How deep messages may nest: what protobuf reads from the wire in every language."""


_LIKE_A_FIELD = re.compile(r"\[?[A-Za-z_][A-Za-z0-9_.]{,99}\]?|[0-9.-]{1,11}")


class InvalidJsonError(Exception):
    """The text is not JSON, or is ambiguous; the message names the mistake and its position."""


class Violation(Exception):
    """A JSON value breaks a rule of the field that it is for.

    The path to the value is put together while the exception travels up.
    """

    def __init__(self, rule: str, reason: str = "INVALID_FIELD") -> None:
        super().__init__(rule)
        self.rule = rule
        """What the value must be, or what it is and must not be, as a predicate of the path."""
        self.reason = reason
        """INVALID_FIELD, OUT_OF_RANGE or UNKNOWN_FIELD."""
        self._parts: list[str] = []

    def within(self, part: str) -> "Violation":
        """Add the name or `[index]` under which the value was found, from the inside out."""
        self._parts.append(part)
        return self

    def path(self, root: str = "") -> str:
        """Return the path to the value from `root` on, for example `items[1].name`."""
        path = "".join([root, *(f".{part}" for part in reversed(self._parts))])
        return path.removeprefix(".").replace(".[", "[")


class UnwritableError(ValueError):
    """A message cannot be represented in JSON; the text is the reason."""


def too_deep() -> Violation:
    """Return the violation of a message that nests deeper than MAX_DEPTH."""
    return Violation(f"must not nest deeper than {MAX_DEPTH} messages")


def excerpt(name: str) -> str:
    """Return a name that a client chose if it is like that of a field, or a short number.

    Any other may be a value in the wrong place, such as a password, and no response repeats those.
    """
    return name if _LIKE_A_FIELD.fullmatch(name) else "(not a name)"
