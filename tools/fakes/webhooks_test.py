"""Webhooks arrive signed, again after a failure, and lost, twice or out of order when asked."""

import queue
from collections.abc import Iterator, Mapping

import falcon
import falcon.asgi
import httpx
import pytest

from tools.fakes.controls import WebhooksResource
from tools.fakes.serving import serve_in_thread
from tools.fakes.webhooks import MAX_ATTEMPTS, Webhooks

WAIT_SECONDS = 20


def sign(event: bytes) -> Mapping[str, str]:
    return {"signature": f"signed-{event.decode()}"}


class Sending:
    """Sends the body of each request as an event."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self._webhooks.send(await req.stream.read())


class Receiving:
    """Keeps what arrives, and refuses as often as it is told to."""

    def __init__(self) -> None:
        self.events: queue.Queue[tuple[str, str]] = queue.Queue()
        self.refusals = 0

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        body = (await req.stream.read()).decode()
        self.events.put((body, req.get_header("signature", required=True)))
        if self.refusals > 0:
            self.refusals -= 1
            resp.status = falcon.HTTP_503

    def take(self, count: int) -> list[str]:
        return [self.events.get(timeout=WAIT_SECONDS)[0] for _ in range(count)]


@pytest.fixture
def receiving() -> Receiving:
    return Receiving()


@pytest.fixture
def client(receiving: Receiving) -> Iterator[httpx.Client]:
    receiver = falcon.asgi.App()
    receiver.add_route("/hook", receiving)
    webhooks = Webhooks(sign)
    sender = falcon.asgi.App(middleware=[webhooks])
    sender.add_route("/send", Sending(webhooks))
    sender.add_route("/_fake/webhooks", WebhooksResource(webhooks))
    with (
        serve_in_thread(receiver) as receiver_url,
        serve_in_thread(sender) as url,
        httpx.Client(base_url=url, timeout=WAIT_SECONDS) as client,
    ):
        client.put("/_fake/webhooks", json={"url": f"{receiver_url}/hook"}).raise_for_status()
        yield client


def set_faults(client: httpx.Client, **faults: float) -> None:
    client.put("/_fake/webhooks", json=faults).raise_for_status()


def send(client: httpx.Client, *events: str) -> None:
    for event in events:
        client.post("/send", content=event.encode()).raise_for_status()


def test_an_event_arrives_with_its_signature(client: httpx.Client, receiving: Receiving) -> None:
    send(client, "a")
    assert receiving.events.get(timeout=WAIT_SECONDS) == ("a", "signed-a")


def test_a_refused_event_is_sent_again(client: httpx.Client, receiving: Receiving) -> None:
    receiving.refusals = 2
    send(client, "a")
    assert receiving.take(3) == ["a", "a", "a"]


def test_an_event_is_sent_a_bounded_number_of_times(
    client: httpx.Client, receiving: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.fakes.webhooks.MAX_DELAY_SECONDS", 0.01)
    receiving.refusals = 10**6
    send(client, "a")
    receiving.take(MAX_ATTEMPTS)
    receiving.refusals = 0
    send(client, "b")
    assert receiving.take(1) == ["b"]


def test_a_lost_event_never_arrives(client: httpx.Client, receiving: Receiving) -> None:
    set_faults(client, lose=1.0)
    send(client, "a")
    set_faults(client)
    send(client, "b")
    assert receiving.take(1) == ["b"]


def test_a_duplicated_event_arrives_twice(client: httpx.Client, receiving: Receiving) -> None:
    set_faults(client, duplicate=1.0)
    send(client, "a")
    assert receiving.take(2) == ["a", "a"]


def test_a_late_event_is_overtaken(client: httpx.Client, receiving: Receiving) -> None:
    set_faults(client, late=1.0, late_seconds=5.0)
    send(client, "a")
    set_faults(client)
    send(client, "b")
    assert receiving.take(2) == ["b", "a"]


def test_held_events_arrive_newest_first(client: httpx.Client, receiving: Receiving) -> None:
    set_faults(client, hold=True)
    send(client, "a", "b", "c")
    set_faults(client)
    assert receiving.take(3) == ["c", "b", "a"]


@pytest.mark.parametrize("body", [{"unknown": 1}, [], 7])
def test_bad_faults_are_refused(client: httpx.Client, body: object) -> None:
    assert client.put("/_fake/webhooks", json=body).status_code == 400
