"""Whether response times tell which e-mail addresses belong to users.

./bazelw run //tools/dev:enumeration_benchmark sends pairs of requests that differ in that only, in
turn, to a shop of its own, and prints how long each kind took.
"""

import random
import secrets
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from tools.dev.testing import ShopProcess, open_environment

TRIES = 200
_PASSWORD, _WRONG = "correct horse", "wrong horse"
_SETTINGS = {
    "APIGATEWAY_RATE_LIMIT": "",
    "APIGATEWAY_ACCOUNT_RATE_LIMIT": "",
    "APIGATEWAY_TRUSTED_PROXIES": "127.0.0.0/8",
}

Body = dict[str, str]
_ROUTES: dict[str, Callable[[str], Body]] = {
    "/v1/sessions:login": lambda email: {"email": email, "password": _WRONG},
    "/v1/users:requestPasswordReset": lambda email: {"email": email},
    "/v1/users:register": lambda email: {
        "email": email,
        "password": _PASSWORD,
        "displayName": "Ada",
    },
}


@dataclass
class Responses:
    """The responses to requests of one kind."""

    seconds: list[float] = field(default_factory=list)
    shapes: set[str] = field(default_factory=set)
    """Status, names of headers, and body, without what is new in every response."""

    def add(self, response: httpx.Response, seconds: float) -> None:
        """Add a response."""
        self.seconds.append(seconds)
        headers = sorted(response.headers)
        self.shapes.add(f"{response.status_code} {headers} {response.text}")

    def __str__(self) -> str:
        tenths = [1_000 * each for each in statistics.quantiles(self.seconds, n=10)]
        return (
            f"median {tenths[4]:6.1f} ms, 10 % {tenths[0]:6.1f} ms, 90 % {tenths[8]:6.1f} ms,"
            f" {len(self.shapes)} kind(s) of response"
        )


def compare(client: httpx.Client, path: str, taken: Sequence[str]) -> None:
    """Send requests with taken and with unknown addresses in turn, and print what differs."""
    kinds = {"taken": Responses(), "unknown": Responses()}
    for email in taken:
        emails = [("taken", email), ("unknown", _make_email())]
        # None of the two is always first.
        for kind, given in random.sample(emails, k=2):
            began = time.perf_counter()
            response = _post(client, path, _ROUTES[path](given))
            kinds[kind].add(response, time.perf_counter() - began)
    print(path)
    for kind, responses in kinds.items():
        print(f"  {kind:8} {responses}")
    same = kinds["taken"].shapes == kinds["unknown"].shapes
    slower = _probability(kinds["taken"].seconds, kinds["unknown"].seconds)
    print(f"  {'the same' if same else 'DIFFERENT'} responses; taken is slower in {slower:.1%}")


def _probability(first: Sequence[float], second: Sequence[float]) -> float:
    """Return how often a value of the first is greater than one of the second: 50 % for noise."""
    return statistics.fmean(one > other for one in first for other in second)


def _make_email() -> str:
    return f"{uuid.uuid4().hex}@example.com"


def _post(client: httpx.Client, path: str, body: Body) -> httpx.Response:
    # Each request is from an address of its own, as the routes have rate limits.
    octets = ".".join(map(str, secrets.token_bytes(3)))
    return client.post(path, json=body, headers={"X-Forwarded-For": f"10.{octets}"})


def main() -> None:
    """Start a shop with users, and compare."""
    with open_environment() as environment, ShopProcess(environment | _SETTINGS) as shop:
        shop.wait_until_ready()
        with shop.open_client() as client:
            taken = [_make_email() for _ in range(TRIES)]
            for email in taken:
                body = _ROUTES["/v1/users:register"](email)
                _post(client, "/v1/users:register", body).raise_for_status()
            for path in _ROUTES:
                compare(client, path, taken)


if __name__ == "__main__":
    main()
