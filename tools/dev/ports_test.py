"""Ports that are taken, found before anything is started."""

import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from tools.dev import ports
from tools.dev.ports import Endpoint


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_free_ports_are_no_trouble() -> None:
    assert ports.find_trouble([Endpoint("user", "USERSERVICE", "127.0.0.1", _free_port())]) == []


def test_a_port_in_use_names_who_has_it_and_what_to_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (trouble,) = ports.find_trouble([Endpoint("user", "USERSERVICE", "127.0.0.1", port)])
    assert f"port {port}, which user needs, is in use by process {os.getpid()} (" in trouble
    assert trouble.endswith("end that, or set USERSERVICE_PORT")


def test_a_port_in_use_is_found_though_it_is_shared() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as server:
        port = server.getsockname()[1]
        assert ports.find_trouble([Endpoint("user", "USERSERVICE", "127.0.0.1", port)])


def test_a_port_that_a_connection_has_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        # So that the port is free when the connection ends, and not a minute later.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        port = client.getsockname()[1]
        endpoint = Endpoint("user", "USERSERVICE", "127.0.0.1", port)
        with ThreadPoolExecutor(max_workers=1) as pool:
            waiting = pool.submit(ports.find_trouble, [endpoint])
            while "waiting" not in (told := capsys.readouterr().err) and not waiting.done():
                pass
            client.close()
            assert waiting.result() == []
    assert f"Port {port} is still" in told


def test_every_trouble_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        foreign = Endpoint("order", "ORDERSERVICE", "192.0.2.1", _free_port())
        used = Endpoint("user", "USERSERVICE", "127.0.0.1", port)
        first, second = ports.find_trouble([foreign, used])
    assert first.startswith("order cannot listen on 192.0.2.1:")
    assert "ORDERSERVICE_HOST" in first
    assert "USERSERVICE_PORT" in second


def test_two_programs_on_one_port_are_told_apart() -> None:
    port = _free_port()
    endpoints = [
        Endpoint("user", "USERSERVICE", "127.0.0.1", port),
        Endpoint("order", "ORDERSERVICE", "127.0.0.1", port),
    ]
    assert ports.find_trouble(endpoints) == [
        f"USERSERVICE_PORT and ORDERSERVICE_PORT are both {port}: change one"
    ]
