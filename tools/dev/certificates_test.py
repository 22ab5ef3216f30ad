"""The programs of a running shop call each other with mutual TLS, also while it is renewed.

So are the keys that sign access tokens.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from tools.certs.directories import renew
from tools.client.session import Session
from tools.dev.mixed_load import MixedLoad
from tools.dev.testing import (
    ADMIN_EMAIL,
    ADMIN_PASSWORD,
    ShopProcess,
    make_credentials,
    open_environment,
)

PROGRAMS = ("user", "product", "order", "payment")
CHECK = "/grpc.health.v1.Health/Check"
RENEWALS = 5
ROTATIONS = 1
SECONDS = 30.0
SETTINGS = {
    "APIGATEWAY_RATE_LIMIT": "",
    "APIGATEWAY_ACCOUNT_RATE_LIMIT": "",
    "APIGATEWAY_TRUSTED_PROXIES": "127.0.0.0/8",
    # The notice is shorter than REFRESH_SECONDS of chassis.jwks, so that services search for a key
    # that they see first; but no key signs within SEARCH_SECONDS of a search that missed it.
    "USERSERVICE_KEY_LIFETIME_SECONDS": "16",
    "USERSERVICE_KEY_NOTICE_SECONDS": "15",
}


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with open_environment() as environment:
        yield environment | SETTINGS


@pytest.fixture(scope="module")
def shop(environment: dict[str, str]) -> Iterator[ShopProcess]:
    with ShopProcess(environment) as shop:
        shop.wait_until_ready()
        yield shop


def has_reloaded(environment: Mapping[str, str], program: str, times: int) -> bool:
    logs = Path(environment["BUILD_WORKSPACE_DIRECTORY"], ".data", "logs")
    return (logs / f"{program}.log").read_text().count("certificates_reloaded") >= times


def has_grown(load: MixedLoad, requests: int) -> bool:
    return load.requests.total() >= requests


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.usefixtures("shop")
async def test_a_service_is_not_served_in_plain_text(
    environment: Mapping[str, str], program: str
) -> None:
    target = f"127.0.0.1:{environment[f'{program.upper()}SERVICE_PORT']}"
    channel: Any
    async with grpc.aio.secure_channel(target, make_credentials(environment)) as channel:
        assert await channel.unary_unary(CHECK)(b"", timeout=SECONDS)
    async with grpc.aio.insecure_channel(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(CHECK)(b"", timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_shop_runs_in_plain_text_if_it_is_told_to() -> None:
    with open_environment() as environment:
        environment["BAZAAR_PLAINTEXT"] = "true"
        with ShopProcess(environment) as shop:
            shop.wait_until_ready()
            assert shop.count_products() == 0
        assert not Path(environment["BUILD_WORKSPACE_DIRECTORY"], ".data", "tls").exists()


def test_a_bad_certificate_is_explained() -> None:
    with open_environment() as environment:
        workspace = Path(environment["BUILD_WORKSPACE_DIRECTORY"])
        renew(workspace / "own")
        environment["ORDERSERVICE_TLS_DIRECTORY"] = "own/order"
        (workspace / "own" / "order" / "tls.crt").write_bytes(b"no PEM")
        with ShopProcess(environment) as shop:
            assert shop.wait() == 1
    assert "order ended with exit status 78" in shop.output
    assert "ORDERSERVICE_TLS_DIRECTORY: Value error, tls.crt cannot be parsed" in shop.output


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - other processes bring it about.
            await asyncio.sleep(0.02)


async def test_no_request_fails_while_certificates_are_renewed_and_signing_keys_rotate(
    shop: ShopProcess, environment: Mapping[str, str]
) -> None:
    directory = Path(environment["BUILD_WORKSPACE_DIRECTORY"], ".data", "tls")
    load = MixedLoad(shop.url, Session(ADMIN_EMAIL, ADMIN_PASSWORD))
    async with load.running():
        for renewals in range(1, RENEWALS + 1):
            renew(directory, everything=True)
            await wait_until(partial(has_reloaded, environment, "gateway", renewals))
            await wait_until(partial(has_grown, load, load.requests.total() + 20))
        await wait_until(lambda: len(load.signing_keys) > ROTATIONS)
        await wait_until(partial(has_grown, load, load.requests.total() + 100))
    assert load.failures == [], "\n".join(load.failures)
    # A server reads its files when a client connects, and at most once a second.
    assert all(has_reloaded(environment, program, 1) for program in PROGRAMS)
