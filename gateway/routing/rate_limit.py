"""The limit of one RPC: how often a client may call it, and how often with the same field value."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import idna
from google.protobuf.message import Message

from gateway.http.client_address import network_of
from gateway.rates.quotas import Quota, Subject, digest, parse_quotas
from gateway.routing.fields import find_string
from gateway.upstream.descriptors import DescriptorSetError, Method

_MAX_DOMAIN_LENGTH = 253
"""The longest domain that is decoded (RFC 1035 section 2.3.4)."""


@dataclass(frozen=True, slots=True)
class RpcLimit:
    """The option rest.v1.rate_limit of an RPC."""

    rpc: str
    client_quotas: Sequence[Quota]
    field: str
    """A field of the request; empty if its values are not counted."""
    field_quotas: Sequence[Quota]
    """What a client may do with a value of the field."""
    field_total_quotas: Sequence[Quota]
    """What all clients together may do with a value of the field."""
    account_quotas: Sequence[Quota]

    def client(self, address: str) -> Subject:
        """Return the client at an address as a caller of the RPC."""
        return self._subject(self.client_quotas, "client", network_of(address))

    def account(self, name: str) -> Subject:
        """Return an account as a caller of the RPC."""
        return self._subject(self.account_quotas, "account", name)

    def values(self, request: Message, address: str) -> Iterator[Subject]:
        """Yield the value of the field in a request, if it has one, as the client's and anybody's.

        In this order, so that a client that is refused uses up nothing of what anybody may do.
        """
        value = _normalize(attrgetter(self.field)(request)) if self.field else ""
        if value:
            client = network_of(address)
            yield self._subject(self.field_quotas, self.field, value, client)
            if self.field_total_quotas:
                yield self._subject(self.field_total_quotas, self.field, value)

    def _subject(self, quotas: Sequence[Quota], *identity: str) -> Subject:
        return Subject(quotas, digest(self.rpc, *identity), of_method=True)


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
    if option.field_total_limit and not option.field:
        raise _refusal(rpc, "field_total_limit needs a field")
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
            field_total_quotas=parse_quotas(
                f"{name}-{option.field}-total", option.field_total_limit
            ),
            account_quotas=parse_quotas(f"{name}-account", option.account_limit),
        )
    except ValueError as error:
        raise _refusal(rpc, str(error)) from error


def _normalize(value: str) -> str:
    """Return what different spellings of one value have in common, also of an e-mail address."""
    local, at, domain = unicodedata.normalize("NFKC", value).strip().rpartition("@")
    text = f"{local}{at}{_decode_domain(domain) if at else domain}"
    return unicodedata.normalize("NFKC", text.casefold())


def _decode_domain(domain: str) -> str:
    """Return a domain in Unicode, mapped as UTS #46 says; what is none stays as it is."""
    if len(domain) > _MAX_DOMAIN_LENGTH:
        return domain
    try:
        return idna.decode(domain, uts46=True)
    except UnicodeError:
        return domain


def _refusal(rpc: Method, why: str) -> DescriptorSetError:
    return DescriptorSetError(f"{rpc.name}: rate_limit: {why}")
