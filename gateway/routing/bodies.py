"""The bodies of a route's requests and responses: whole messages or fields, as JSON or bytes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter

from google.api import http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.protojson.codec import JsonCodec, Merge
from gateway.routing.fields import find_field
from gateway.routing.templates import TemplateError
from gateway.routing.update_mask import UPDATE_MASK, UpdateMask
from gateway.upstream.descriptors import Method

HTTP_BODY = "google.api.HttpBody"
EMPTY = "google.protobuf.Empty"
FIELD_MASK = "google.protobuf.FieldMask"


@dataclass(frozen=True, slots=True)
class BodyBinding:
    """What the body of a request is: the whole message, or one field of it."""

    field: FieldDescriptor | None
    """None for the whole message."""
    raw: bool
    """It is a google.api.HttpBody: any bytes with any content type."""
    merge: Merge
    """Puts a JSON value into the request, which has nothing there yet."""
    update_mask: UpdateMask | None
    """Fills an `update_mask` that is not given, if there is one beside the body."""


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """What the body of a response, or one record of a stream, is: a whole message or one field."""

    field: FieldDescriptor | None
    """None for the whole message."""
    empty: bool
    """The message is google.protobuf.Empty."""
    write: Callable[[Message], bytes]
    """Writes a message as one line of JSON, or as the bytes that it holds."""
    raw_type: Callable[[Message], str] | None
    """Reads the content type of a google.api.HttpBody; None for JSON."""


def compile_request_body(
    rpc: Method, rule: http_pb2.HttpRule, http_method: str, bound: Iterable[str], codec: JsonCodec
) -> BodyBinding | None:
    """Compile the body of a rule, whose path sets the fields `bound`; None if it takes none.

    Raises:
        TemplateError: the rule names no field, or has no body where one is needed.
    """
    request = rpc.descriptor.input_type
    if not rule.body:
        if rpc.client_streaming:
            raise TemplateError("a stream of requests needs a body")
        return None
    if rule.body == "*":
        return BodyBinding(None, request.full_name == HTTP_BODY, codec.merger(request), None)
    field = named_field(request, rule.body)
    kind = field.message_type
    return BodyBinding(
        field=field,
        raw=kind is not None and kind.full_name == HTTP_BODY,
        merge=codec.field_merger(field),
        update_mask=_update_mask(request, field, bound) if http_method == "PATCH" else None,
    )


def compile_response_body(message: Descriptor, name: str, codec: JsonCodec) -> ResponseBody:
    """Compile the body of a response: the field `name` of a message, or all of it without a name.

    Raises:
        TemplateError: there is no such field.
    """
    field = named_field(message, name) if name else None
    shown = message if field is None or field.is_repeated else field.message_type
    if shown is not None and shown.full_name == HTTP_BODY:
        prefix = "" if field is None else f"{field.name}."
        data, content_type = attrgetter(f"{prefix}data"), attrgetter(f"{prefix}content_type")
        return ResponseBody(field, empty=False, write=data, raw_type=content_type)
    write = codec.dumper(message) if field is None else codec.field_dumper(field)
    empty = field is None and message.full_name == EMPTY
    return ResponseBody(field, empty=empty, write=write, raw_type=None)


def named_field(message: Descriptor, name: str) -> FieldDescriptor:
    """Return the field that a rule names.

    Raises:
        TemplateError: there is none.
    """
    field = find_field(message, name)
    if field is None:
        raise TemplateError(f"{message.full_name} has no field {name}")
    return field


def _update_mask(
    request: Descriptor, body: FieldDescriptor, bound: Iterable[str]
) -> UpdateMask | None:
    """Compile the mask of an update whose body is a resource, if the request has one."""
    mask = request.fields_by_name.get(UPDATE_MASK)
    kind = None if mask is None else mask.message_type
    if kind is None or kind.full_name != FIELD_MASK:
        return None
    if body.message_type is None or body.is_repeated:
        return None
    prefix = f"{body.name}."
    within = [path.removeprefix(prefix) for path in bound if path.startswith(prefix)]
    return UpdateMask(body.message_type, within)
