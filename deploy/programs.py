"""The programs that are deployed, described from their own code.

The stack and the manifests are tested against this: which settings a program reads, which programs
it calls, how it is asked for its health, and how long it takes to stop.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from chassis import settings, tls
from chassis.service import Service
from chassis.settings import Settings
from gateway import settings as gateway_settings
from gateway.main import GRACEFUL_TIMEOUT_SECONDS
from migrations.settings import MigrationSettings
from services.order.main import SERVICE as ORDER
from services.payment.main import SERVICE as PAYMENT
from services.product.main import SERVICE as PRODUCT
from services.user.main import SERVICE as USER

USER_ID = 65532
"""The user and the group that images run as."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program with an image of its own."""

    name: str
    package: str
    """The Bazel package with its image."""
    load_settings: Callable[[], Settings]
    """Reads its settings as the program does when it starts."""
    prefix: str = ""
    """The prefix of its settings, such as USERSERVICE; empty for a program that does not listen."""
    peers: Mapping[str, str] = field(default_factory=dict)
    """The prefixes of the settings with the addresses of the programs it calls, by their names."""
    find_stop_seconds: Callable[[Any], float] = lambda _: 0.0
    """Returns how long after SIGTERM it may still serve, by its settings."""

    @property
    def entrypoint(self) -> Sequence[str]:
        """The command that its image runs; arguments follow it."""
        return ["/usr/bin/python3", f"/app.runfiles/_main/{self.package}/{self.name}"]

    @property
    def is_service(self) -> bool:
        """Whether it serves gRPC, so that only its own commands ask for its health."""
        return self.package.startswith("services/")


def find_repository(program: str) -> str:
    """Return the repository of an image, as `program_image` in tools/image names it."""
    return f"bazaar/{program}"


def _describe(service: Service[Any]) -> Program:
    name = tls.server_name(service.descriptor.name)
    return Program(
        name,
        f"services/{name}",
        service.load_settings,
        service.descriptor.name.upper(),
        _find_prefixes(service.peers),
        lambda config: config.service_notice_seconds + config.service_grace_seconds,
    )


def _find_prefixes(services: Iterable[str]) -> Mapping[str, str]:
    return {tls.server_name(each): each.upper() for each in services}


_SERVICES: Sequence[Service[Any]] = (USER, PRODUCT, ORDER, PAYMENT)

PROGRAMS: Sequence[Program] = (
    *map(_describe, _SERVICES),
    Program(
        "gateway",
        "gateway",
        partial(gateway_settings.load, [each.descriptor.full_name for each in _SERVICES]),
        "APIGATEWAY",
        _find_prefixes(each.descriptor.name for each in _SERVICES),
        lambda _: GRACEFUL_TIMEOUT_SECONDS,
    ),
    Program("migrations", "migrations", partial(settings.load, MigrationSettings)),
)
