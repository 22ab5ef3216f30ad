"""Each fault happens on real connections, to the requests that its rule names and to no others."""

import time
from collections.abc import Iterator
from http import HTTPStatus

import falcon.asgi
import httpx
import pytest

from tools.fakes.controls import FaultsResource
from tools.fakes.faults import Faults, Kind, Rule
from tools.fakes.network import UnreliableNetwork
from tools.fakes.serving import serve_in_thread


class Counting:
    """Counts the requests that it processes."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self.bodies.append(await req.stream.read())
        resp.media = {"count": len(self.bodies)}


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def client(counting: Counting, faults: Faults) -> Iterator[httpx.Client]:
    app = falcon.asgi.App()
    app.add_route("/count", counting)
    app.add_route("/_fake/faults", FaultsResource(faults))
    network = UnreliableNetwork(app, faults, lambda status: {"status": status})
    with serve_in_thread(network) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.mark.parametrize(("kind", "processed"), [(Kind.LOSE_REQUEST, 0), (Kind.LOSE_RESPONSE, 1)])
def test_a_lost_message_closes_the_connection(
    client: httpx.Client, counting: Counting, faults: Faults, kind: Kind, processed: int
) -> None:
    faults.set(Rule(kind, nth=1))
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        client.post("/count", content=b"x")
    assert counting.bodies == [b"x"] * processed
    assert client.post("/count", content=b"y").json() == {"count": processed + 1}


@pytest.mark.parametrize(
    ("kind", "status", "processed"),
    [
        (Kind.FAIL_BEFORE, 500, 0),
        (Kind.FAIL_AFTER, 500, 1),
        (Kind.CONFLICT, 409, 0),
        (Kind.TOO_MANY_REQUESTS, 429, 0),
    ],
)
def test_an_error_is_sent_in_the_terms_of_the_provider(
    client: httpx.Client,
    counting: Counting,
    faults: Faults,
    kind: Kind,
    status: int,
    processed: int,
) -> None:
    faults.set(Rule(kind))
    response = client.post("/count", content=b"x")
    assert (response.status_code, response.json()) == (status, {"status": status})
    assert len(counting.bodies) == processed


def test_a_duplicate_is_processed_twice(
    client: httpx.Client, counting: Counting, faults: Faults
) -> None:
    faults.set(Rule(Kind.DUPLICATE))
    assert client.post("/count", content=b"x").json() == {"count": 2}
    assert counting.bodies == [b"x", b"x"]


def test_a_delayed_request_is_processed_late(client: httpx.Client, faults: Faults) -> None:
    faults.set(Rule(Kind.DELAY, delay_seconds=0.3))
    start = time.monotonic()
    assert client.post("/count").json() == {"count": 1}
    assert time.monotonic() - start >= 0.3


def test_a_rule_is_for_the_nth_request_that_matches(client: httpx.Client, faults: Faults) -> None:
    faults.set(Rule(Kind.FAIL_BEFORE, requests="POST /count", nth=2))
    client.post("/other")
    statuses = [client.post("/count").status_code for _ in range(3)]
    assert statuses == [HTTPStatus.OK, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.OK]


def test_the_same_seed_gives_the_same_faults() -> None:
    def draw(seed: int) -> list[bool]:
        faults = Faults()
        faults.set(Rule(Kind.DELAY, probability=0.5), seed=seed)
        return [faults.find("GET /") is None for _ in range(50)]

    assert draw(1) == draw(1) != draw(2)
    assert 5 < sum(draw(1)) < 45


def test_faults_are_set_over_http_and_never_happen_to_their_control(client: httpx.Client) -> None:
    rules = [{"kind": "fail_before"}]
    assert client.put("/_fake/faults", json={"seed": 7, "rules": rules}).status_code == 204
    assert client.post("/count").status_code == 500
    assert client.get("/_fake/faults").json() == {"fail_before": 1}
    assert client.put("/_fake/faults", json={"rules": []}).status_code == 204
    assert client.post("/count").status_code == 200


@pytest.mark.parametrize("rule", [{"kind": "unknown"}, {"kind": "delay", "requests": "("}, {}])
def test_a_bad_rule_is_refused(client: httpx.Client, rule: dict[str, str]) -> None:
    assert client.put("/_fake/faults", json={"rules": [rule]}).status_code == 400
