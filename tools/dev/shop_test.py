"""The parts of the shop, and the reports of those that are not ready."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.dev import shop
from tools.dev.program import Program
from tools.dev.shop import ShopSettings


@contextmanager
def _serve(status: int, body: str) -> Iterator[int]:
    """Respond to every GET in one way, and give the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def _settings(**values: object) -> ShopSettings:
    hosts = {f"{name}service_host": "127.0.0.1" for name in shop.SERVICES}
    ports = {f"{name}service_port": 1 for name in shop.SERVICES}
    rest = {"apigateway_host": "127.0.0.1", "apigateway_port": 1, "postgres_host": "127.0.0.1"}
    rest |= {"postgres_port": 1, "postgres_user": "shop", "postgres_password": "secret"}
    rest |= {f"{name}service_database_password": "secret" for name in shop.SERVICES}
    rest |= {"apigateway_database_password": "secret"}
    return ShopSettings.model_validate({**hosts, **ports, **rest, **values})


async def _wait_until_explained(program: Program, part: str) -> str:
    """Wait for readiness, which never comes, until the explanation has a part."""
    waiting = asyncio.create_task(program.wait_until_ready(0))
    async with asyncio.timeout(20):
        while part not in program.explain():
            assert not waiting.done()
            await asyncio.sleep(0.005)
    waiting.cancel()
    return program.explain()


async def test_a_gateway_that_is_not_ready_names_the_services_that_are_not(tmp_path: Path) -> None:
    services = {"bazaar.order.v1.OrderService": False, "bazaar.user.v1.UserService": True}
    body = {"status": "not ready", "services": services, "database": False}
    with _serve(503, json.dumps(body)) as port:
        program = shop.describe_gateway(_settings(apigateway_port=port), tmp_path)
        explanation = await _wait_until_explained(program, "status")
    assert f"http://127.0.0.1:{port}/readyz: status 503" in explanation
    assert "not ready: bazaar.order.v1.OrderService, the gateway's database" in explanation
    assert "UserService" not in explanation
    assert str(tmp_path / "logs") in explanation


async def test_something_else_on_the_gateways_port_is_quoted(tmp_path: Path) -> None:
    with _serve(404, "nginx/1.2") as port:
        program = shop.describe_gateway(_settings(apigateway_port=port), tmp_path)
        explanation = await _wait_until_explained(program, "status")
    assert "status 404, nginx/1.2" in explanation


async def test_a_gateway_that_does_not_respond_is_said_not_to(tmp_path: Path) -> None:
    program = shop.describe_gateway(_settings(), tmp_path)
    assert "no response, ConnectError" in await _wait_until_explained(program, "no response")


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("db", False)]
)
def test_databases_on_loopback_are_local(host: str, *, local: bool) -> None:
    assert _settings(postgres_host=host).has_local_databases() is local
