"""A FileDescriptorSet as what the gateway serves: methods with http rules, and message classes.

Everything is made at run time in a descriptor pool of its own, so that any protos can be served and
no generated code is needed. HTTP, JSON and gRPC calls do not live here.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, cast

from google.api import annotations_pb2, field_behavior_pb2, http_pb2
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
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2

LOCATION_OPTION = "rest.v1.location"

_WELL_KNOWN = (
    *(any_pb2, duration_pb2, empty_pb2, field_mask_pb2),
    *(struct_pb2, timestamp_pb2, wrappers_pb2),
)


class DescriptorSetError(Exception):
    """The descriptor set cannot be served; the message says why and names the element."""


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
    """The option rest.v1.location: where what the RPC creates can be got, or nothing."""


class DescriptorSet:
    """The message types and the methods of a FileDescriptorSet."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        """Build the types.

        Raises:
            DescriptorSetError: a file refers to something that is not in the set.
        """
        self.pool = DescriptorPool()
        self.files = tuple(files.file)
        """The files as they came, with their comments, which the pool does not keep."""
        names = {file.name for file in self.files}
        for file in self.files:
            _check_imports(file, names)
        for file in [*self.files, *_files_in_any(names)]:
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
                    rule = _extension(method.GetOptions(), annotations_pb2.http)
                    if rule.WhichOneof("pattern") is not None:
                        yield self._method(method, rule)

    def message_class(self, descriptor: Descriptor) -> type[Message]:
        """Return the class of a message type."""
        return message_factory.GetMessageClass(descriptor)

    def _method(self, method: MethodDescriptor, rule: http_pb2.HttpRule) -> Method:
        service = method.containing_service.full_name
        return Method(
            name=method.full_name,
            service=service,
            path=f"/{service}/{method.name}",
            descriptor=method,
            rule=rule,
            request_class=self.message_class(method.input_type),
            response_class=self.message_class(method.output_type),
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
            location=self._location(method),
        )

    def _location(self, method: MethodDescriptor) -> str:
        """Read the gateway's own option, by the definition that the set itself brings.

        Extension numbers of this range are anybody's: without that definition, what stands under
        the number is something else.
        """
        try:
            option = self.pool.FindExtensionByName(LOCATION_OPTION)
        except KeyError:
            return ""
        options_class = self.message_class(cast("Descriptor", option.containing_type))
        options = options_class.FromString(method.GetOptions().SerializeToString())
        return str(_extension(options, option))


def _check_imports(file: descriptor_pb2.FileDescriptorProto, present: Collection[str]) -> None:
    missing = [name for name in file.dependency if name not in present]
    if missing:
        raise DescriptorSetError(
            f"{file.name} imports {missing[0]}, which is not in the set:"
            " write it by protoc with --include_imports"
        )


def find_field(message: Descriptor, name: str) -> FieldDescriptor | None:
    """Find a field by its proto name or by its JSON name."""
    named = message.fields_by_name.get(name)
    if named is not None:
        return named
    return next((field for field in message.fields if field.json_name == name), None)


def is_map(field: FieldDescriptor) -> bool:
    """Say whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def behaviors(field: FieldDescriptor) -> frozenset[str]:
    """Return the names of what google.api.field_behavior says of a field (AIP-203)."""
    numbers = _extension(field.GetOptions(), field_behavior_pb2.field_behavior)
    return frozenset(field_behavior_pb2.FieldBehavior.Name(number) for number in numbers)


def is_output_only(field: FieldDescriptor) -> bool:
    """Say whether a field is only ever set by the service (AIP-203)."""
    return "OUTPUT_ONLY" in behaviors(field)


def _extension(options: Any, extension: Any) -> Any:
    """Return an extension of options; Google's generated modules have no types."""
    return options.Extensions[extension]


def _files_in_any(present: set[str]) -> list[descriptor_pb2.FileDescriptorProto]:
    """Return the files of what an Any can hold without an import that tells, less those present.

    These are the standard error details, as in a google.rpc.Status, and the well-known types.
    """
    files = []
    for module in (*_WELL_KNOWN, error_details_pb2):
        if module.DESCRIPTOR.name not in present:
            proto = descriptor_pb2.FileDescriptorProto()
            module.DESCRIPTOR.CopyToProto(proto)
            files.append(proto)
    return files
