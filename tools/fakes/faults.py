"""The faults of the network between a fake provider and its clients, and how they are set.

A test sets them on the object; anyone else with PUT /_fake/faults, whose JSON has the fields of
`Faults.set`: {"seed": 7, "rules": [{"kind": "lose_response", "probability": 0.01}]}.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import falcon
import falcon.asgi

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


class FaultsResource:
    """The control at PUT /_fake/faults; GET returns how often each kind has happened."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Replace all rules."""
        body = await req.get_media()
        try:
            self._faults.set(*_parse_rules(body.get("rules", [])), seed=int(body.get("seed", 0)))
        except (AttributeError, KeyError, TypeError, ValueError, re.error) as error:
            raise falcon.HTTPBadRequest(description=str(error)) from error
        resp.status = falcon.HTTP_204

    async def on_get(self, _: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Return counts by kind."""
        resp.media = dict(self._faults.happened)


def _parse_rules(rules: Sequence[dict[str, object]]) -> list[Rule]:
    return [Rule(**{**rule, "kind": Kind(rule["kind"])}) for rule in rules]  # type: ignore[arg-type]
