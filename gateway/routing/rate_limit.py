"""The limit of one RPC: how often a client may call it, and how often with the same field value."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message

from gateway.http.client_address import network_of
from gateway.rates.quotas import Quota, Subject, digest, parse_quotas
from gateway.routing.fields import find_string
from gateway.upstream.descriptors import DescriptorSetError, Method


@dataclass(frozen=True, slots=True)
class RpcLimit:
    """The option rest.v1.rate_limit of an RPC."""

    rpc: str
    client_quotas: Sequence[Quota]
    field: str
    """A field of the request; empty if its values are not counted."""
    field_quotas: Sequence[Quota]

    def client(self, address: str) -> Subject:
        """Return the client at an address as a caller of the RPC."""
        return Subject(self.client_quotas, digest(self.rpc, "client", network_of(address)))

    def value(self, request: Message) -> Subject | None:
        """Return the value of the field in a request, if it has one."""
        if not self.field:
            return None
        value = attrgetter(self.field)(request).strip().casefold()
        return Subject(self.field_quotas, digest(self.rpc, self.field, value)) if value else None


def compile_rate_limit(rpc: Method) -> RpcLimit | None:
    """Compile the option of an RPC; None if it has none.

    Raises:
        DescriptorSetError: the option names no quota, or a field that cannot be counted.
    """
    option: Any = rpc.rate_limit
    if option is None or not option.ByteSize():
        return None
    if bool(option.field) is not bool(option.field_limit):
        raise _refusal(rpc, "field and field_limit go together")
    if option.field and (rpc.client_streaming or rpc.server_streaming):
        raise _refusal(rpc, "fields of streams are not counted")
    if option.field and find_string(rpc.descriptor.input_type, option.field) is None:
        raise _refusal(rpc, f"there is no string field {option.field}")
    name = rpc.descriptor.name
    try:
        return RpcLimit(
            rpc=rpc.name,
            client_quotas=parse_quotas(f"{name}-client", option.client_limit),
            field=option.field,
            field_quotas=parse_quotas(f"{name}-{option.field}", option.field_limit),
        )
    except ValueError as error:
        raise _refusal(rpc, str(error)) from error


def _refusal(rpc: Method, why: str) -> DescriptorSetError:
    return DescriptorSetError(f"{rpc.name}: rate_limit: {why}")
