"""The methods with http rules and the message classes of a FileDescriptorSet.

They are made at run time in a descriptor pool of their own, so that any protos can be served and no
generated code is needed.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from google.api import annotations_pb2, http_pb2
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2

ACCESS_OPTION = "access.v1.access"
COOKIE_OPTION = "rest.v1.cookie"
LOCATION_OPTION = "rest.v1.location"
MAY_BE_ACCEPTED_OPTION = "rest.v1.may_be_accepted"
NOT_RECORDED_OPTION = "rest.v1.not_recorded"
RATE_LIMIT_OPTION = "rest.v1.rate_limit"
REQUEST_HEADERS_OPTION = "rest.v1.request_headers"

_IMPLICIT = (
    any_pb2,
    duration_pb2,
    empty_pb2,
    error_details_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
"""Messages of these files may be in an Any although nothing imports them."""


class DescriptorSetError(Exception):
    """The descriptor set cannot be served; the message names the element and the reason."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC that has http rules."""

    name: str
    """The full name, for example `library.v1.LibraryService.GetBook`."""
    service: str
    """The full name of the service."""
    path: str
    """The gRPC path, for example `/library.v1.LibraryService/GetBook`."""
    descriptor: MethodDescriptor
    rule: http_pb2.HttpRule
    request_class: type[Message]
    response_class: type[Message]
    client_streaming: bool
    server_streaming: bool
    location: str
    """The option rest.v1.location: the path of the resource that the RPC creates, or nothing."""
    may_be_accepted: bool
    """The option rest.v1.may_be_accepted: whether the RPC may return before it is done."""
    request_headers: Sequence[str]
    """The option rest.v1.request_headers: the names of headers that become metadata."""
    callers: Sequence[str]
    """The option access.v1.access: the clients that may call the RPC, as full names of its enum's
    values such as `access.v1.Caller.STAFF`; empty if it is not declared."""
    cookie: Message | None
    """The option rest.v1.cookie, a rest.v1.Cookie."""
    not_recorded: bool
    """The option rest.v1.not_recorded: whether responses may hold secrets."""
    rate_limit: Message | None
    """The option rest.v1.rate_limit, a rest.v1.RateLimit."""


class DescriptorSet:
    """The message types and the methods of a FileDescriptorSet."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        """Build the types.

        Raises:
            DescriptorSetError: a file refers to something that is not in the set.
        """
        self.pool = DescriptorPool()
        self.files = tuple(files.file)
        """The files with their comments, which the pool drops."""
        names = {file.name for file in self.files}
        for file in self.files:
            _check_imports(file, names)
        for file in [*self.files, *_implicit_files(names)]:
            try:
                self.pool.Add(file)
                self.pool.FindFileByName(file.name)
            except (TypeError, KeyError) as error:
                raise DescriptorSetError(f"{file.name}: {error}") from error

    @classmethod
    def parse(cls, serialized: bytes) -> "DescriptorSet":
        """Build the types of a serialized FileDescriptorSet.

        Raises:
            DescriptorSetError: it is not one, or is incomplete.
        """
        try:
            files = descriptor_pb2.FileDescriptorSet.FromString(serialized)
        except DecodeError as error:
            raise DescriptorSetError("not a FileDescriptorSet") from error
        return cls(files)

    def methods(self) -> Iterator[Method]:
        """Yield the methods that have http rules, in the order of the files."""
        for file in self.files:
            for service in self.pool.FindFileByName(file.name).services_by_name.values():
                for method in service.methods:
                    options: Any = method.GetOptions()  # Google's generated modules have no types.
                    rule = options.Extensions[annotations_pb2.http]
                    if rule.WhichOneof("pattern") is not None:
                        yield self._method(method, rule)

    def _method(self, method: MethodDescriptor, rule: http_pb2.HttpRule) -> Method:
        service = method.containing_service.full_name
        return Method(
            name=method.full_name,
            service=service,
            path=f"/{service}/{method.name}",
            descriptor=method,
            rule=rule,
            request_class=message_factory.GetMessageClass(method.input_type),
            response_class=message_factory.GetMessageClass(method.output_type),
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
            location=read_option(method.GetOptions(), self.pool, LOCATION_OPTION) or "",
            may_be_accepted=bool(
                read_option(method.GetOptions(), self.pool, MAY_BE_ACCEPTED_OPTION)
            ),
            request_headers=tuple(
                read_option(method.GetOptions(), self.pool, REQUEST_HEADERS_OPTION) or ()
            ),
            callers=_read_callers(method.GetOptions(), self.pool),
            cookie=read_option(method.GetOptions(), self.pool, COOKIE_OPTION),
            not_recorded=bool(read_option(method.GetOptions(), self.pool, NOT_RECORDED_OPTION)),
            rate_limit=read_option(method.GetOptions(), self.pool, RATE_LIMIT_OPTION),
        )


def read_option(options: Message, pool: DescriptorPool, name: str) -> Any:
    """Return the value of an option by its definition in a pool, or None without a definition.

    Anybody may use extension numbers of its range: without the definition, an option with this
    number is another one.
    """
    try:
        option = pool.FindExtensionByName(name)
    except KeyError:
        return None
    options_class: Any = message_factory.GetMessageClass(cast("Descriptor", option.containing_type))
    return options_class.FromString(options.SerializeToString()).Extensions[option]


def _read_callers(options: Message, pool: DescriptorPool) -> Sequence[str]:
    option = read_option(options, pool, ACCESS_OPTION)
    if option is None:
        return ()
    enum = option.DESCRIPTOR.fields_by_name["allow"].enum_type
    names = (enum.values_by_number[number].name for number in option.allow)
    return tuple(f"{enum.full_name}.{name}" for name in names)


def _check_imports(file: descriptor_pb2.FileDescriptorProto, present: Collection[str]) -> None:
    missing = [name for name in file.dependency if name not in present]
    if missing:
        raise DescriptorSetError(
            f"{file.name} imports {missing[0]}, which is not in the set:"
            " write it by protoc with --include_imports"
        )


def _implicit_files(present: set[str]) -> list[descriptor_pb2.FileDescriptorProto]:
    """Return the well-known types and the standard error details, except files that are present."""
    return [
        descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for module in _IMPLICIT
        if module.DESCRIPTOR.name not in present
    ]
