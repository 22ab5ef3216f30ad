"""How the whole shop ends: by a signal at any time, and by the death of its runner."""

import os
import re
import signal
import socket
from collections.abc import Iterator

import pytest

from tools.dev.testing import ShopProcess, open_environment, wait_until


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with open_environment() as environment:
        yield environment


def test_ctrl_c_ends_everything_and_the_data_stays(environment: dict[str, str]) -> None:
    with ShopProcess(environment, "--seed") as first:
        first.wait_until_ready()
        first.send_signal(signal.SIGINT)
        assert first.wait() == 0
        assert first.find_processes() == []
    stopped = re.findall(r"^  stopped +(.*?) +[0-9.]+ s$", first.output, re.MULTILINE)
    assert stopped == ["gateway", "user, product, order, payment", "postgres"]
    with ShopProcess(environment, "--seed") as second:
        second.wait_until_ready()
        assert "0 of 12 products, 0 of 1 users added" in second.output
        assert second.count_products() == 12
        second.send_signal(signal.SIGTERM)
        assert second.wait() == 0
        assert second.find_processes() == []


def test_no_process_outlives_a_killed_runner_and_the_next_one_starts(
    environment: dict[str, str],
) -> None:
    with ShopProcess(environment, "--seed") as first:
        first.wait_until_ready()
        assert len(first.find_processes()) > 7
        first.send_signal(signal.SIGKILL)
        first.wait()
        with ShopProcess(environment) as second:
            second.wait_until_ready()
            assert second.count_products() == 12
            os.kill(second.process_id, signal.SIGKILL)
            second.wait()
        wait_until(lambda: second.find_processes() == [])


def test_ctrl_c_while_it_starts_leaves_nothing(environment: dict[str, str]) -> None:
    with ShopProcess(environment) as shop:
        shop.wait_for("schemas")
        assert shop.stop() == 0
        assert shop.find_processes() == []


def test_ctrl_c_while_it_waits_for_a_port_ends_it(environment: dict[str, str]) -> None:
    local = ("127.0.0.1", int(environment["USERSERVICE_PORT"]))
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), source_address=local),
        ShopProcess(environment) as shop,
    ):
        shop.wait_for("is still that of a client's connection")
        assert shop.stop() == 0
    assert "USERSERVICE_PORT" not in shop.output, "it did not wait any longer"


def test_a_second_ctrl_c_kills_what_does_not_stop(environment: dict[str, str]) -> None:
    with ShopProcess(environment) as shop:
        shop.wait_until_ready()
        os.kill(shop.find_listener("USERSERVICE_PORT"), signal.SIGSTOP)
        shop.send_signal(signal.SIGINT)
        shop.wait_for("stopped    gateway")
        assert shop.stop() == 0
        assert shop.find_processes() == []
    assert "user does not stop" not in shop.output, "it was not waited for any longer"
