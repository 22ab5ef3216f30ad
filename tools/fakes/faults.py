"""The faults of the network between a fake provider and its clients.

A test of the same process sets them on the object; anyone else with PUT /_fake/faults.
"""

import random
import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

CONTROL_PATH = "/_fake/"
"""Where the controls of a fake are. No fault happens to them."""


class Kind(StrEnum):
    """What happens to a request."""

    LOSE_REQUEST = "lose_request"
    """The connection is closed, and nothing is processed."""
    LOSE_RESPONSE = "lose_response"
    """The request is processed, and the connection is closed."""
    FAIL_BEFORE = "fail_before"
    """The response is 500, and nothing is processed."""
    FAIL_AFTER = "fail_after"
    """The request is processed, and the response is 500."""
    CONFLICT = "conflict"
    """The response is 409, and nothing is processed."""
    TOO_MANY_REQUESTS = "too_many_requests"
    """The response is 429, and nothing is processed."""
    DELAY = "delay"
    """The request is processed late, also if the client has gone by then."""
    DUPLICATE = "duplicate"
    """The request is processed twice; the client gets the second response."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A fault, and the requests that it happens to."""

    kind: Kind
    requests: str = ""
    """A regular expression, searched for in "POST /v1/refunds"; empty for all requests."""
    nth: int = 0
    """Happens only to the nth matching request, counted from 1; 0 for each of them."""
    probability: float = 1.0
    """How often it happens to the requests that match."""
    delay_seconds: float = 1.0
    """How late a delayed request is processed."""


@dataclass(slots=True)
class Faults:
    """The rules in force, and how often each kind of fault has happened."""

    happened: Counter[Kind] = field(default_factory=Counter)
    _rules: tuple[tuple[Rule, re.Pattern[str]], ...] = ()
    _matched: Counter[int] = field(default_factory=Counter)
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311

    def set(self, *rules: Rule, seed: int = 0) -> None:
        """Replace all rules; without any, no fault happens."""
        self._rules = tuple((rule, re.compile(rule.requests)) for rule in rules)
        self._matched = Counter()
        self._random = random.Random(seed)  # noqa: S311

    def find(self, request: str) -> Rule | None:
        """Return the fault that happens to a request such as "POST /v1/refunds", and count it."""
        for index, (rule, pattern) in enumerate(self._rules):
            if pattern.search(request) is None:
                continue
            self._matched[index] += 1
            chosen = rule.nth in (0, self._matched[index])
            if chosen and self._random.random() < rule.probability:
                self.happened[rule.kind] += 1
                return rule
        return None
