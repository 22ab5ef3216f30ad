"""Ports that are taken, found before anything is started."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from tools.dev import ports
from tools.dev.ports import Endpoint


async def _find_conflicts(*endpoints: Endpoint) -> list[str]:
    return await ports.find_conflicts(endpoints, pytest.fail)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_free_ports_have_no_conflict() -> None:
    assert await _find_conflicts(Endpoint("user", "USERSERVICE", "127.0.0.1", _free_port())) == []


async def test_a_port_in_use_names_who_has_it_and_what_to_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (trouble,) = await _find_conflicts(Endpoint("user", "USERSERVICE", "127.0.0.1", port))
    assert f"port {port}, which user needs, is in use by process {os.getpid()} (" in trouble
    assert trouble.endswith("end that, or set USERSERVICE_PORT")


async def test_a_port_in_use_is_found_though_it_is_shared() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as server:
        port = server.getsockname()[1]
        assert await _find_conflicts(Endpoint("user", "USERSERVICE", "127.0.0.1", port))


@contextlib.contextmanager
def _connection() -> Iterator[socket.socket]:
    """Give a client's end whose port is free when it is closed, and not a minute later."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        yield client


def _endpoint_of(client: socket.socket) -> Endpoint:
    return Endpoint("user", "USERSERVICE", "127.0.0.1", client.getsockname()[1])


async def _wait_for_port(endpoint: Endpoint) -> "tuple[asyncio.Task[list[str]], str]":
    """Start looking for conflicts, and return once the report says that the port is awaited."""
    reported: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(ports.find_conflicts([endpoint], reported.set_result))
    return waiting, await reported


async def test_a_port_that_a_connection_has_is_waited_for() -> None:
    with _connection() as client:
        endpoint = _endpoint_of(client)
        waiting, reported = await _wait_for_port(endpoint)
        client.close()
        assert await waiting == []
    assert reported.startswith(f"Port {endpoint.port} is still")


async def test_waiting_for_a_port_ends_at_once_when_cancelled() -> None:
    with _connection() as client:
        waiting, _ = await _wait_for_port(_endpoint_of(client))
        waiting.cancel()
        done, _ = await asyncio.wait((waiting,), timeout=ports.LINGER_SECONDS / 2)
        assert done
        assert waiting.cancelled()


async def test_a_port_that_a_connection_keeps_is_said_to_be_a_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports, "LINGER_SECONDS", 0.2)
    with _connection() as client:
        waiting, _ = await _wait_for_port(_endpoint_of(client))
        (trouble,) = await waiting
    assert f"is the local port of a connection of process {os.getpid()} (" in trouble
    assert trouble.endswith("start again when it has ended, or set USERSERVICE_PORT")


async def test_all_conflicts_are_reported_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        foreign = Endpoint("order", "ORDERSERVICE", "192.0.2.1", _free_port())
        used = Endpoint("user", "USERSERVICE", "127.0.0.1", port)
        first, second = await _find_conflicts(foreign, used)
    assert first.startswith("order cannot listen on 192.0.2.1:")
    assert "ORDERSERVICE_HOST" in first
    assert "USERSERVICE_PORT" in second


async def test_two_programs_on_one_port_are_a_conflict() -> None:
    port = _free_port()
    endpoints = [
        Endpoint("user", "USERSERVICE", "127.0.0.1", port),
        Endpoint("order", "ORDERSERVICE", "127.0.0.1", port),
    ]
    assert await _find_conflicts(*endpoints) == [
        f"USERSERVICE_PORT and ORDERSERVICE_PORT are both {port}: change one"
    ]
