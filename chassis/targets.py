"""Targets: where gRPC finds a service, as settings of its own and of every program that calls it.

USERSERVICE_HOST and USERSERVICE_PORT are a target, and USERSERVICE_TARGET is another in their place
(https://github.com/grpc/grpc/blob/master/doc/naming.md):

- `dns:///user:50051`, or `user:50051` for short: all addresses of a name. `dns://10.0.0.2/user:50051`
  asks that name server.
- `ipv4:10.0.0.3:50051,10.0.0.4:50051` or `ipv6:[2001:db8::3]:50051`: these addresses.
- `unix:/run/bazaar/user.sock`: a socket of this machine, on which the service listens as well.
- `etcd:///user`: the replicas that are registered in etcd by this name. It is ours, not gRPC's.

With any other target than a socket a service still listens on its host and port. If its target is
in etcd, these are what it registers.
"""

import ipaddress
import re
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from chassis import settings

_SOCKET = "unix:"
_ADDRESS_LISTS = ("ipv4", "ipv6")
_REGISTERED = re.compile(r"etcd:///(?P<name>[A-Za-z0-9._-]{1,63})")
_SOCKET_PATH = re.compile(r"/[\x21-\x7e]{1,106}")  # Longer ones do not fit into sun_path, unix(7).
_DNS = re.compile(r"(?:dns:(?://[][A-Za-z0-9._:-]*/)?)?(?P<address>[^/]+)")
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f.:]+\]):(?P<port>[0-9]{1,5})")

_DESCRIPTION = """\
The gRPC target of a service, in place of its host and port: `dns:///name:port`, \
`ipv4:address:port,address:port`, `ipv6:[address]:port`, `unix:/path`, or `etcd:///name` for what \
is registered in etcd."""
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - It is refused.


def _check_target(target: str) -> str:
    scheme, _, rest = target.partition(":")
    if scheme == "unix":
        is_target = _SOCKET_PATH.fullmatch(rest) is not None
    elif scheme == "etcd":
        is_target = _REGISTERED.fullmatch(target) is not None
    elif scheme in _ADDRESS_LISTS:
        is_target = all(_is_address(address, scheme) for address in rest.split(","))
    else:
        found = _DNS.fullmatch(target)
        is_target = found is not None and _is_address(found["address"])
    if not is_target:
        raise ValueError(
            "must be host:port, dns:///name:port, ipv4:address:port, ipv6:[address]:port,"
            " unix:/path or etcd:///name"
        )
    return target


def _is_address(text: str, scheme: str = "dns") -> bool:
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found["port"]) <= 65_535:
        return False
    host = found["host"]
    try:
        if host.startswith("["):
            return scheme != "ipv4" and ipaddress.IPv6Address(host.strip("[]")).version == 6
        return scheme == "dns" or (scheme == "ipv4" and ipaddress.IPv4Address(host).version == 4)
    except ValueError:
        return False


Target = Annotated[str, AfterValidator(_check_target)]


def target_fields(prefix: str, *, listens: bool = False) -> dict[str, Any]:
    """Return the fields for the target of a service, as for `pydantic.create_model`.

    `prefix` is that of its variables in lower case. A service `listens` on its own.
    """
    check = BeforeValidator(partial(_check_needed, f"{prefix}_target", listens))
    field = Field(default=None, validate_default=True)
    return {
        # It is first, because whether the others are needed depends on it.
        f"{prefix}_target": (Target | None, Field(default=None, description=_DESCRIPTION)),
        f"{prefix}_host": (Annotated[settings.Host | None, check], field),
        f"{prefix}_port": (Annotated[settings.Port | None, check], field),
    }


def find_target(config: settings.Settings, prefix: str) -> str:
    """Return where the service is called."""
    target: str | None = getattr(config, f"{prefix}_target")
    return target or _find_address(config, prefix)


def find_listener(config: settings.Settings, prefix: str) -> str:
    """Return what the service listens on."""
    target = find_target(config, prefix)
    return target if target.startswith(_SOCKET) else _find_address(config, prefix)


def registered_name(target: str) -> str:
    """Return the name by which a service is registered in etcd, empty if its target is another."""
    found = _REGISTERED.fullmatch(target)
    return found["name"] if found else ""


def is_ip_address(address: str) -> bool:
    """Return whether `host:port` can be in a list of addresses."""
    return any(_is_address(address, scheme) for scheme in _ADDRESS_LISTS)


def is_local(target: str) -> bool:
    """Return whether a target is surely on this machine, without asking any name server."""
    scheme, _, rest = target.partition(":")
    if scheme == "unix":
        return True
    addresses = rest.split(",") if scheme in _ADDRESS_LISTS else [target.rpartition("/")[2]]
    hosts = [address.rpartition(":")[0].strip("[]") for address in addresses]
    return all(map(settings.is_loopback, hosts))


def _find_address(config: settings.Settings, prefix: str) -> str:
    return settings.address(getattr(config, f"{prefix}_host"), getattr(config, f"{prefix}_port"))


def _check_needed(name: str, listens: bool, value: object, info: ValidationInfo) -> object:
    # A bad target is not among the data, and has a line of its own.
    target = info.data.get(name, _SOCKET)
    is_needed = not target or (listens and not target.startswith(_SOCKET))
    if value is None and is_needed:
        raise ValueError(f"must be set{'' if target else f', or else {name.upper()}'}")
    if listens and registered_name(target or "") and value in _EVERY_ADDRESS:
        raise ValueError("must be an address that callers reach, with a target in etcd")
    return value
