"""What is raised, deep within a value, where the value has no counterpart on the other side.

A client's value becomes a problem with the path to the place once the whole way to it is known.
"""

from typing import NoReturn

from gateway.http.problems import Problem, invalid_field

MAX_DEPTH = 100
"""How deep messages may nest: what protobuf reads from the wire in every language."""


class Refusal(Exception):
    """A client's value that breaks a rule; the path to it is put together while it travels up."""

    def __init__(self, rule: str, reason: str = "INVALID_FIELD", status: int = 400) -> None:
        super().__init__(rule)
        self.rule = rule
        self.reason = reason
        self.status = status
        self._parts: list[str] = []

    def within(self, part: str) -> "Refusal":
        """Add the name or index under which the value was found."""
        self._parts.append(part)
        return self

    def problem(self, root: str = "") -> Problem:
        """Return the problem with the path to the value, from `root` on."""
        path = "".join([root, *(f".{part}" for part in reversed(self._parts))])
        path = path.removeprefix(".").replace(".[", "[")
        return invalid_field(path, self.rule, self.reason, status=self.status)


class UnwritableError(ValueError):
    """A service's message that has no JSON form; the message says why."""


def refuse(rule: str, reason: str = "INVALID_FIELD", status: int = 400) -> NoReturn:
    """Raise a Refusal."""
    raise Refusal(rule, reason, status)


def refuse_depth() -> NoReturn:
    """Refuse a message that lies deeper than MAX_DEPTH."""
    refuse(f"must not nest deeper than {MAX_DEPTH} messages")


def shown(name: str) -> str:
    """Return a client's own name for something, fit to be shown to it."""
    return name[:100].encode("utf-8", "replace").decode()
