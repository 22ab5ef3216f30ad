"""Services that find each other in etcd, each by a target such as `etcd:///user`.

Every replica has a key with its address, `bazaar/services/user/10.0.0.3:50051`, under a lease that
it keeps alive: one that dies is found by nobody once the lease ends. Callers hear of every change,
and new calls go to who is there. While etcd is down, they keep to the addresses that they know.
"""

import asyncio
import socket
from collections.abc import Iterable
from contextlib import aclosing

from chassis import errors, log, settings
from chassis.etcd import Etcd
from chassis.secure_channel import Addresses, Target
from chassis.supervision import BackgroundTask
from chassis.targets import is_ip_address, registered_name

PREFIX = "bazaar/services/"
LEASE_SECONDS = 5
KEEP_ALIVE_SECONDS = LEASE_SECONDS / 4
RETRY_SECONDS = 1.0
OPEN_SECONDS = 2.0
"""How long a program waits at its start for the addresses of the services that it calls."""

_NOBODY = "ipv4:127.0.0.1:0"
"""A target that refuses every connection."""


class Directory:
    """The addresses of all replicas that are registered; it follows etcd from `open` to `close`.

    A service of which no replica is registered any more keeps its last addresses: if its replicas
    are gone, calls fail either way, and if it is etcd that has lost its data, they are served.
    """

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self._addresses: dict[str, Addresses] = {}
        self._is_read = asyncio.Event()
        self._task = BackgroundTask(
            "follow_directory", self._follow, RETRY_SECONDS, retry_seconds=RETRY_SECONDS
        )
        self._log = log.logger()

    async def open(self) -> None:
        """Read the addresses of the services that were resolved, and follow them from then on.

        A program starts without them after OPEN_SECONDS: they are read once etcd is up.
        """
        if not self._addresses:
            return
        self._task.start()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self._is_read.wait()
        except TimeoutError:
            self._log.warning("directory_not_read")

    async def close(self) -> None:
        """Stop following etcd."""
        await self._task.stop()

    def find(self, name: str) -> str:
        """Return the target of a service: the addresses of its replicas."""
        return self._addresses[name].target

    def resolve(self, target: str) -> Target:
        """Return the addresses of an etcd target, which change; any other target as it is."""
        name = registered_name(target)
        return self._addresses.setdefault(name, Addresses(_NOBODY)) if name else target

    async def _follow(self) -> None:
        # What changes between two reads is read again.
        revision = min([await self._read(name) for name in self._addresses])
        self._is_read.set()
        async with aclosing(self._etcd.watch(PREFIX, revision + 1)) as changes:
            async for _ in changes:
                for name in self._addresses:
                    await self._read(name)

    async def _read(self, name: str) -> int:
        """Read the addresses of a service, and return the revision that they are of."""
        prefix = f"{PREFIX}{name}/"
        keys, revision = await self._etcd.read_keys(prefix)
        target = find_target(key.removeprefix(prefix) for key in keys)
        if target:
            self._addresses[name].change(target)
        return revision


class Registration:
    """The address of a replica in etcd, until `stop`, as long as its process lives.

    Streams do not watch the health of a server, so it is registered once it is `announced`.
    """

    def __init__(
        self, etcd: Etcd, name: str, host: str, port: int, announced: asyncio.Event
    ) -> None:
        self._etcd = etcd
        self._announced = announced
        self._name = name
        self._host = host
        self._port = port
        self._lease = 0
        self._task = BackgroundTask(
            "register", self._register, RETRY_SECONDS, retry_seconds=RETRY_SECONDS
        )
        self._log = log.logger()

    def start(self) -> None:
        """Register when etcd is up, and again whenever it has lost the key or its lease."""
        self._task.start()

    async def stop(self) -> None:
        """Take the address out, or leave that to the end of the lease if etcd is down."""
        await self._task.stop()
        lease, self._lease = self._lease, 0
        if not lease:
            return
        try:
            await self._etcd.revoke(lease)
        except errors.Unavailable as error:
            self._log.warning("registration_not_revoked", cause=str(error.__cause__))

    async def _register(self) -> None:
        await self._announced.wait()
        address = await self._find_address()
        self._lease = await self._etcd.grant(LEASE_SECONDS)
        key = f"{PREFIX}{self._name}/{address}"
        await self._etcd.put(key, self._lease)
        self._log.info("registered", name=self._name, address=address)
        await self._etcd.keep_alive(key, self._lease, KEEP_ALIVE_SECONDS)

    async def _find_address(self) -> str:
        """Return the address by which callers reach this machine, where the host is a name.

        Raises:
            errors.Unavailable: the name cannot be resolved.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise errors.Unavailable("HOST_UNKNOWN", "The host cannot be resolved.") from error
        host, port = found[0][4][:2]
        return settings.address(str(host), int(port))


def find_target(registered: Iterable[str]) -> str:
    """Return a target of all addresses among what is registered, empty if there is none.

    gRPC has lists of addresses of one family only.
    """
    addresses = list(filter(is_ip_address, registered))
    if not any(address.startswith("[") for address in addresses):
        return f"ipv4:{','.join(addresses)}" if addresses else ""
    return f"ipv6:{','.join(map(_map_to_ipv6, addresses))}"


def _map_to_ipv6(address: str) -> str:
    """Return an IPv4 address as IPv6 (RFC 4291 §2.5.5.2)."""
    host, _, port = address.rpartition(":")
    return address if address.startswith("[") else f"[::ffff:{host}]:{port}"
