"""The gateway's settings: its own, and a target for each service of its descriptor set."""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, NoReturn

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from chassis import settings
from chassis.database import CONNECTIONS
from chassis.targets import Target, find_target, target_fields
from chassis.tls import Certificates
from chassis.tls_settings import find_certificates, tls_fields
from gateway.docstrings import field_docstrings
from gateway.http.client_address import Network
from gateway.rates.quotas import parse_quotas
from gateway.server.tls import CertificateError, ServerCertificate
from gateway.upstream.descriptors import DescriptorSet, DescriptorSetError

DESCRIPTOR_SET = Path(__file__).parents[1] / "proto" / "bazaar_descriptors.binpb"
"""The descriptor set that the build puts beside the program."""

_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^\s/?#@A-Z]+")

Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _split_names(text: str | frozenset[str]) -> frozenset[str]:
    parts = text.split(",") if isinstance(text, str) else text
    return frozenset(part.strip() for part in parts if part.strip())


def _split_origins(text: str | frozenset[str]) -> frozenset[str]:
    """Read a list of origins as browsers write them (RFC 6454 §6.1)."""
    origins = _split_names(text)
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("must be origins such as https://shop.example, separated by commas, or *")
    return origins


def _split_networks(text: str | frozenset[Network]) -> frozenset[Network]:
    """Read a list of networks in CIDR notation, or of single addresses."""
    if not isinstance(text, str):
        return text
    try:
        return frozenset(map(ip_network, _split_names(text)))
    except ValueError as error:
        message = "must be networks such as 10.0.0.0/8, separated by commas, without host bits"
        raise ValueError(message) from error


def _check_rates(text: str) -> str:
    parse_quotas("", text)
    return text


def _check_store(url: SecretStr) -> SecretStr:
    """Check the URL of a store; Valkey speaks the protocol of Redis, whose client it gets."""
    text = url.get_secret_value()
    for name, meant in (("valkey://", "redis://"), ("valkeys://", "rediss://")):
        text = meant + text.removeprefix(name) if text.startswith(name) else text
    if text and not text.startswith(("redis://", "rediss://")):
        raise ValueError("must be a URL of redis, rediss, valkey or valkeys")
    return SecretStr(text)


def _check_key(key: Path | None, info: ValidationInfo) -> Path | None:
    certificate: Path | None = info.data.get("apigateway_certificate")
    if (key is None) is not (certificate is None):
        raise ValueError("must be set where APIGATEWAY_CERTIFICATE is, and only there")
    if key is not None and certificate is not None:
        try:
            ServerCertificate(certificate, key)
        except CertificateError as error:
            raise ValueError(str(error)) from error
    return key


EdgeKey = Annotated[Path | None, AfterValidator(_check_key)]
Rates = Annotated[str, AfterValidator(_check_rates)]
RateLimitUrl = Annotated[SecretStr, AfterValidator(_check_store)]
Networks = Annotated[frozenset[Network], NoDecode, BeforeValidator(_split_networks)]
Origins = Annotated[frozenset[str], NoDecode, BeforeValidator(_split_origins)]
Names = Annotated[frozenset[str], NoDecode, BeforeValidator(_split_names)]

_PREFIX = "apigateway"

ALL = "*"
"""In place of names: all of them."""


class _DescriptorSetSettings(BaseSettings):
    model_config = SettingsConfigDict(env_file_encoding="utf-8", extra="ignore")

    apigateway_descriptor_set: Path = DESCRIPTOR_SET
    """The file with the FileDescriptorSet to serve."""


class GatewaySettings(_DescriptorSetSettings, settings.DatabaseSettings):
    """The settings of every gateway, independent of its services."""

    own_prefix = "APIGATEWAY_"

    apigateway_host: settings.Host
    """The address to listen on."""
    apigateway_port: settings.Port
    """The port to listen on."""
    apigateway_certificate: Path | None = None
    """The file with the certificate that clients see, followed by those that it is issued by, in
    PEM. Without it the gateway speaks plain HTTP, for a proxy that terminates TLS."""
    apigateway_key: EdgeKey = Field(default=None, validate_default=True)
    """The file with the private key of that certificate."""
    apigateway_workers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many worker processes serve."""
    apigateway_database_connections: Annotated[int, Field(ge=1, le=1_000)] = CONNECTIONS
    """How many connections to its own database one worker may have, besides one for readiness."""
    apigateway_call_timeout_seconds: Seconds = 10.0
    """The deadline of a unary call whose client does not set one."""
    apigateway_max_requests: Annotated[int, Field(ge=1, le=100_000)] = 128
    """How many requests one worker may work on that began within the last second; streams and
    health do not count."""
    apigateway_max_client_requests: Annotated[int, Field(ge=1, le=100_000)] = 100
    """How many of them may be of one client address, unless it is a trusted proxy."""
    apigateway_max_calls: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """How many unary calls one worker may have in flight, and how many requests whose bodies have
    not arrived yet."""
    apigateway_max_method_calls: Annotated[int, Field(ge=1, le=100_000)] = 500
    """How many of those calls may be of one method."""
    apigateway_max_client_bodies: Annotated[int, Field(ge=1, le=100_000)] = 50
    """How many of those bodies may be of one client address."""
    apigateway_max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 4_000
    """How many connections one worker may have at once."""
    apigateway_max_client_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """How many of them may be of one client address, unless it is a trusted proxy."""
    apigateway_connection_seconds: Seconds = 3_600.0
    """How long a connection takes requests; after that it is closed as soon as it is idle."""
    apigateway_max_streams: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """How many streams one worker may have open at once."""
    apigateway_max_client_streams: Annotated[int, Field(ge=1, le=100_000)] = 100
    """How many of them may be of one client address, and how many of one account."""
    apigateway_stream_idle_seconds: Seconds = 60.0
    """How long there may be no activity on a stream; a heartbeat of an event stream is activity."""
    apigateway_idempotency_seconds: Annotated[float, Field(ge=60, le=30 * 86_400)] = 86_400.0
    """How long the response to a request with an Idempotency-Key is stored."""
    apigateway_compression: bool = True
    """Whether responses are compressed with gzip for clients that accept it."""
    apigateway_trusted_proxies: Networks = frozenset()
    """The networks of proxies whose X-Forwarded-For names the client, separated by commas."""
    apigateway_rate_limit: Rates = "1000/second"
    """How many requests each client address may make of one worker, or of all gateways that share
    APIGATEWAY_RATE_LIMIT_URL: numbers per time such as `50/second; 1000/minute`; empty for any."""
    apigateway_account_rate_limit: Rates = "1000/second"
    """The same for each account, from any address."""
    apigateway_method_rate_limits: bool = True
    """Whether the limits that protos declare for methods apply, such as that of a login."""
    apigateway_rate_limit_url: RateLimitUrl = SecretStr("")
    """The URL of a Redis or Valkey in which several gateways count together, for example
    `redis://127.0.0.1:6379/0`; without it, each worker counts in its own memory."""
    apigateway_cors_origins: Origins = frozenset()
    """The web origins that may read responses, separated by commas, or `*` for all."""
    apigateway_ready_services: Names = frozenset({ALL})
    """Which services must serve for the gateway to be ready: full names, separated by commas, or
    `*` for all. A service without the gRPC health service counts as serving if it is reachable."""
    etcd_target: Target = "127.0.0.1:2379"
    """Where etcd is, if a target is such as `etcd:///user`. It is called as services are, with
    mutual TLS, and the name in its certificate is `etcd`."""
    postgres_database: Annotated[str, Field(min_length=1)] = "gatewaydb"
    """The name of the gateway's own database."""
    apigateway_database_password: settings.Password | None = None
    """The password of the role that the gateway connects as, which is named after its database:
    `gatewaydb_app`."""
    database_url: settings.DatabaseUrl = settings.own_database("apigateway_database_password")
    """The URL of the gateway's own database, in place of POSTGRES_* and this password."""

    def edge_certificate(self) -> ServerCertificate | None:
        """Load what clients see; None without TLS."""
        certificate, key = self.apigateway_certificate, self.apigateway_key
        if certificate is None or key is None:
            return None
        return ServerCertificate(certificate, key)

    def targets(self, services: Iterable[str]) -> Mapping[str, str]:
        """Return the targets of services by their full names."""
        return {
            service: find_target(self, prefix) for service, prefix in _prefixes(services).items()
        }

    def certificates(self) -> Certificates | None:
        """Return the gateway's certificates; None if services are called in plain text."""
        return find_certificates(self, _PREFIX)

    def required_services(self, services: Iterable[str]) -> frozenset[str]:
        """Return the services that must serve for the gateway to be ready."""
        required = self.apigateway_ready_services
        return frozenset(services) if ALL in required else required


def load_descriptor_set() -> DescriptorSet:
    """Read the descriptor set that is to be served, or end the program with status 78."""
    path = _DescriptorSetSettings(_env_file=settings.dotenv_path()).apigateway_descriptor_set
    try:
        return DescriptorSet.parse(path.read_bytes())
    except OSError as error:
        refuse_descriptor_set(f"{path} cannot be read: {error.strerror}")
    except DescriptorSetError as error:
        refuse_descriptor_set(str(error))


def load(services: Iterable[str]) -> GatewaySettings:
    """Read the settings, or end the program with status 78 and a line for each bad variable.

    Where a service is comes from variables that are named after its simple name, for example
    USERSERVICE_HOST and USERSERVICE_PORT, or USERSERVICE_TARGET in their place (see
    `chassis.targets`); or after its full name, if the simple one is ambiguous.
    """
    names = frozenset(services)
    fields: dict[str, tuple[object, object]] = {
        "apigateway_ready_services": (
            Annotated[Names, AfterValidator(partial(_check_names, names))],
            GatewaySettings.model_fields["apigateway_ready_services"],
        )
    }
    prefixes = _prefixes(names).values()
    for prefix in prefixes:
        fields |= target_fields(prefix)
    fields |= tls_fields(_PREFIX, prefixes)
    model: type[GatewaySettings] = create_model(  # type: ignore[call-overload]
        "Settings", __base__=GatewaySettings, **fields
    )
    return settings.load(model)


def _check_names(known: frozenset[str], given: frozenset[str]) -> frozenset[str]:
    if not given <= known | {ALL}:
        raise ValueError(f"must be {ALL} or some of {', '.join(sorted(known))}")
    return given


def explain_variables() -> Iterator[tuple[str, str]]:
    """Yield the name of each variable and its description, the required ones first."""
    yield (
        "<SERVICE>_HOST, <SERVICE>_PORT",
        "The address of each service of the descriptor set, by its simple name: USERSERVICE_HOST."
        " Two with the same simple name go by their full names: USER_V1_USERSERVICE_HOST.",
    )
    yield (
        "<SERVICE>_TARGET",
        "The gRPC target of a service, in place of its address: dns:///name:port for all addresses"
        " of a name, ipv4:address:port,address:port, ipv6:[address]:port, unix:/path, or"
        " etcd:///name for what is registered in etcd.",
    )
    tls = {name: field for name, (_, field) in tls_fields(_PREFIX, ()).items()}
    fields = {**_DescriptorSetSettings.model_fields, **GatewaySettings.model_fields, **tls}
    docstrings = field_docstrings(GatewaySettings)
    for name, field in sorted(fields.items(), key=lambda item: not item[1].is_required()):
        yield name.upper(), _explain(field, field.description or docstrings[name])


def _explain(field: FieldInfo, text: str) -> str:
    if field.is_required() or field.default in (None, "", DESCRIPTOR_SET, frozenset()):
        return text
    default = ",".join(field.default) if isinstance(field.default, frozenset) else field.default
    return f"{text} Default: {str(default).lower()}."


def refuse_descriptor_set(why: str) -> NoReturn:
    """End the program with status 78, and print why the descriptor set cannot be served."""
    print(f"APIGATEWAY_DESCRIPTOR_SET: {why}", file=sys.stderr)
    raise SystemExit(settings.EX_CONFIG)


_OWN_NAMES = GatewaySettings.model_fields.keys()


def _prefixes(services: Iterable[str]) -> dict[str, str]:
    """Return the prefix of each service's variables, in lower case, by its full name.

    It is the simple name, or the full name if the simple one is ambiguous or belongs to the
    gateway, to PostgreSQL or to etcd.
    """
    simple = {service: service.rpartition(".")[2].lower() for service in services}
    owners = Counter(simple.values())
    return {
        service: name
        if owners[name] == 1 and not _OWN_NAMES & {f"{name}_host", f"{name}_target"}
        else service.replace(".", "_").lower()
        for service, name in simple.items()
    }
