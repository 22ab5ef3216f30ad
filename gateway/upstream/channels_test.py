"""A service behind the gateway that is found in etcd."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from chassis.discovery import Registration
from chassis.etcd import SERVER_NAME, Etcd
from chassis.tls import Certificates, server_credentials
from gateway.upstream.channels import Upstream
from tools.certs.authority import Authority
from tools.certs.directories import write_directory
from tools.testing.etcd import EtcdServer

NAMES = ("lamp", "gateway", SERVER_NAME)
SERVICE = "home.v1.LampService"
SECONDS = 30.0


async def test_a_service_is_found_once_it_is_registered(tmp_path: Path) -> None:
    authority = Authority.create(NAMES)
    for name in NAMES:
        write_directory(tmp_path / name, authority, authority.issue(name))
    async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
        etcd_server = EtcdServer(tmp_path / SERVER_NAME, tmp_path / "stored")
        etcd = Etcd(etcd_server.target, Certificates(tmp_path / "lamp", "lamp"))
        stack.push_async_callback(etcd.close)
        stack.push_async_callback(etcd_server.kill)
        await etcd_server.start(etcd)

        targets = {SERVICE: "etcd:///lamp"}
        upstream = Upstream([], targets, Certificates(tmp_path / "gateway"), etcd_server.target)
        stack.push_async_callback(upstream.close)
        await upstream.open()
        assert await upstream.check() == {SERVICE: False}

        server = grpc.aio.server()
        credentials = server_credentials(Certificates(tmp_path / "lamp", "lamp"))
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        stack.push_async_callback(server.stop, None)
        announced = asyncio.Event()
        announced.set()
        registration = Registration(etcd, "lamp", "127.0.0.1", port, announced)
        registration.start()
        stack.push_async_callback(registration.stop)
        while await upstream.check() != {SERVICE: True}:
            pass
