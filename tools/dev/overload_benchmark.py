"""What a shop achieves at five times the load that saturates it: `//tools/dev:overload_benchmark`.

Somebody who is logged in asks for a product. The load takes time from the shop on the same machine,
the more the more it sends, and how much of it is printed. Health is asked for by a process of its
own, so that its times do not include those that the load takes to read other responses.
"""

import asyncio
import gc
import multiprocessing
import time
from concurrent.futures import Executor, ProcessPoolExecutor

import httpx
import uvloop

from gateway.testing.load import Load, Outcome
from tools.client.auth import Bearer
from tools.client.session import Session
from tools.dev.testing import ADMIN_EMAIL, ADMIN_PASSWORD, ShopProcess, open_environment

TIMES = 5
ROUNDS = 6
SECONDS = 3.0
CONCURRENCY = 64
"""How many requests at once saturate the shop."""
CONNECTIONS = 1_500
"""A request that finds all of them in use is not sent."""
HEALTH_INTERVAL_SECONDS = 0.1
SETTINGS = {
    "APIGATEWAY_ACCOUNT_RATE_LIMIT": "",
    "APIGATEWAY_MAX_CLIENT_CONNECTIONS": "2000",
    "APIGATEWAY_RATE_LIMIT": "",
    "LOG_LEVEL": "warning",
}
PRODUCT = {
    "sku": "LANTERN-1",
    "name": "Paper lantern",
    "price": {"currencyCode": "GBP", "units": "7"},
    "stock": {"available": 100},
}
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: shop\r\n\r\n"


def main() -> None:
    """Measure, and print the figures."""
    gc.freeze()  # Collections would stop the load, and be taken for time of the shop.
    with open_environment() as environment, ShopProcess(environment | SETTINGS) as shop:
        shop.wait_until_ready()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as prober:
            prober.submit(gc.freeze).result()
            uvloop.run(measure(shop.url, make_request(shop.url), prober))


def make_request(url: str) -> bytes:
    """Add a product, and return a request for it by somebody who is logged in."""
    session = Session(ADMIN_EMAIL, ADMIN_PASSWORD)
    with httpx.Client(base_url=url, auth=Bearer(session)) as client:
        product = client.post("/v1/products", json=PRODUCT).raise_for_status().json()
        path = f"/v1/products/{product['productId']}"
        used = client.get(path).raise_for_status().request
    token = used.headers["authorization"]
    return f"GET {path} HTTP/1.1\r\nHost: shop\r\nAuthorization: {token}\r\n\r\n".encode()


async def measure(url: str, request: bytes, prober: Executor) -> None:
    """Saturate the shop, then offer five times as much, in turns."""
    usual, many = Load(url, request), Load(url, request)
    await usual.open(CONCURRENCY)
    await many.open(CONNECTIONS)
    await usual.saturate(1)
    health = asyncio.get_running_loop().run_in_executor(prober, check_health, url)
    peak, overload = Outcome(0), Outcome(0)
    load_seconds = 0.0
    for _ in range(ROUNDS):
        found = await usual.saturate(SECONDS)
        begin = time.process_time()
        overload += await many.offer(TIMES * found.rate(200), SECONDS)
        load_seconds += time.process_time() - begin
        peak += found
    report(peak, overload, await health)
    print(f"the load itself      {100 * load_seconds / overload.seconds:.0f} % of a CPU")
    usual.close()
    many.close()


def report(peak: Outcome, outcome: Outcome, health: Outcome) -> None:
    """Print what was achieved."""
    most, good = peak.rate(200), outcome.rate(200)
    offered = outcome.sent / outcome.seconds
    print(f"peak                 {most:6.0f} requests/s")
    print(f"offered              {offered:6.0f} requests/s, {offered / most:.2f} times as many")
    print(f"served               {good:6.0f} requests/s, {100 * good / most:.0f} % of the peak")
    print(f"  median, 99 %       {ms(outcome, 200, 0.5)}, {ms(outcome, 200, 0.99)}")
    print(f"refused              {outcome.rate(503):6.0f} requests/s")
    print(f"  median, 99 %       {ms(outcome, 503, 0.5)}, {ms(outcome, 503, 0.99)}")
    print("/healthz")
    print(f"  median, 99 %, max  {', '.join(ms(health, 200, share) for share in (0.5, 0.99, 1.0))}")
    print(f"statuses             {dict(outcome.statuses)}, not sent {outcome.unsent}")


def check_health(url: str) -> Outcome:
    """Ask for health all the time."""

    async def check() -> Outcome:
        load = Load(url, HEALTH)
        await load.open(2)
        outcome = await load.offer(1 / HEALTH_INTERVAL_SECONDS, ROUNDS * (2 * SECONDS + 1))
        load.close()
        return outcome

    return uvloop.run(check())


def ms(outcome: Outcome, status: int, share: float) -> str:
    """Format a quantile in milliseconds."""
    return f"{1_000 * outcome.quantile(status, share):.1f} ms"


if __name__ == "__main__":
    main()
