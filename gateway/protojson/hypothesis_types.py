"""Generated message types: a strategy for Hypothesis.

They have fields of every kind and every cardinality, in the three syntaxes of protobuf.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from google.protobuf import (
    any_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    Edition,
    EnumDescriptorProto,
    FeatureSet,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import strategies as st

_IMPORTED = tuple(
    module.DESCRIPTOR
    for module in (
        any_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )
)
_ENUM = FieldDescriptorProto.TYPE_ENUM
_GROUP = FieldDescriptorProto.TYPE_GROUP
_MESSAGE = FieldDescriptorProto.TYPE_MESSAGE
_SCALARS = tuple(
    kind for kind in FieldDescriptorProto.Type.values() if kind not in (_ENUM, _GROUP, _MESSAGE)
)
_NEVER_KEYS = (
    FieldDescriptorProto.TYPE_BYTES,
    FieldDescriptorProto.TYPE_DOUBLE,
    FieldDescriptorProto.TYPE_FLOAT,
)
_KEYS = tuple(kind for kind in _SCALARS if kind not in _NEVER_KEYS)
_ENUMS = (".made.Choice", ".google.protobuf.NullValue")
_MADE = ("Made0", "Made1", "Made2")
_MESSAGES = (
    *(f".made.{name}" for name in _MADE),
    *(f".{kind.full_name}" for file in _IMPORTED for kind in file.message_types_by_name.values()),
)
_FIELD_NAMES = (
    "a",
    "b_c",
    "d_e_f",
    "camelCase",
    "UPPER_CASE",
    "_leading",
    "trailing_",
    "two__under",
    "x_1",
    # Names with a meaning in Python or in the generated functions.
    "class",
    "from",
    "None",
    "message",
    "value",
    "item",
    "get",
    "name",
    "depth",
    "given",
    "type",
)


@st.composite
def message_types(draw: st.DrawFn) -> Descriptor:
    """Draw a message type, in a pool with others that its fields may have."""
    file = FileDescriptorProto(name="made/made.proto", package="made")
    file.dependency.extend(imported.name for imported in _IMPORTED)
    file.syntax = draw(st.sampled_from(("proto2", "proto3", "editions")))
    if file.syntax == "editions":
        file.edition = Edition.EDITION_2023
    file.enum_type.append(_choice())
    file.message_type.extend(draw(_message(name, file.syntax)) for name in _MADE)
    if file.syntax != "proto3":
        _extend(draw, file)
    pool = DescriptorPool()
    for imported in _IMPORTED:
        pool.AddSerializedFile(imported.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindMessageTypeByName("made.Made0")


def _choice() -> EnumDescriptorProto:
    """Return an enum with gaps, and with two names for one number."""
    enum = EnumDescriptorProto(name="Choice")
    enum.options.allow_alias = True
    for name, number in (("NONE", 0), ("ONE", 1), ("UNO", 1), ("some_more", 1000), ("LESS", -1)):
        enum.value.add(name=f"CHOICE_{name}", number=number)
    return enum


@st.composite
def _message(draw: st.DrawFn, name: str, syntax: str) -> DescriptorProto:
    message = DescriptorProto(name=name)
    names = draw(st.lists(st.sampled_from(_FIELD_NAMES), unique=True, min_size=1, max_size=5))
    numbers = draw(st.permutations(range(1, len(names) + 1)))
    for field_name, number in zip(names, numbers, strict=True):
        field = message.field.add(name=field_name, number=number * draw(st.sampled_from((1, 97))))
        field.label = FieldDescriptorProto.LABEL_OPTIONAL
        if draw(st.integers(0, 4)) == 0:
            field.json_name = draw(st.sampled_from("@$é \"'\\")) + field_name
        _shape(draw, message, field, syntax)
    # The oneofs of optional fields come after all others.
    for field in message.field:
        if field.proto3_optional:
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")
    return message


def _shape(
    draw: st.DrawFn, message: DescriptorProto, field: FieldDescriptorProto, syntax: str
) -> None:
    shape = draw(st.sampled_from(("single", "optional", "repeated", "map", "member")))
    if shape == "map":
        _make_map(draw, message, field)
        return
    _give_type(draw, field, syntax)
    is_message = field.type in (_MESSAGE, _GROUP)
    if shape == "repeated":
        field.label = FieldDescriptorProto.LABEL_REPEATED
    elif shape == "member":
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")
        field.oneof_index = 0
    elif shape == "optional":
        field.proto3_optional = syntax == "proto3"
    elif syntax == "editions" and not is_message:
        field.options.features.field_presence = draw(
            st.sampled_from((FeatureSet.IMPLICIT, FeatureSet.EXPLICIT))
        )
    elif syntax == "proto2" and field.type == FieldDescriptorProto.TYPE_STRING:
        field.default_value = "not empty"


def _give_type(draw: st.DrawFn, field: FieldDescriptorProto, syntax: str) -> None:
    field.type = draw(st.sampled_from((*_SCALARS, _ENUM, *[_MESSAGE] * 10)))
    if field.type == _ENUM:
        field.type_name = draw(st.sampled_from(_ENUMS))
    elif field.type == _MESSAGE:
        field.type_name = draw(st.sampled_from(_MESSAGES))
        if syntax == "proto2" and field.type_name.startswith(".made"):
            field.type = draw(st.sampled_from((_MESSAGE, _GROUP)))


def _make_map(draw: st.DrawFn, message: DescriptorProto, field: FieldDescriptorProto) -> None:
    entry = message.nested_type.add(name=f"{_camel(field.name)}Entry")
    entry.options.map_entry = True
    key = entry.field.add(name="key", number=1, label=FieldDescriptorProto.LABEL_OPTIONAL)
    key.type = draw(st.sampled_from(_KEYS))
    value = entry.field.add(name="value", number=2, label=FieldDescriptorProto.LABEL_OPTIONAL)
    _give_type(draw, value, "")
    field.label = FieldDescriptorProto.LABEL_REPEATED
    field.type = _MESSAGE
    field.type_name = f".made.{message.name}.{entry.name}"


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _extend(draw: st.DrawFn, file: FileDescriptorProto) -> None:
    file.message_type[0].extension_range.add(start=20_000, end=20_010)
    for number in range(20_000, 20_000 + draw(st.integers(0, 2))):
        field = file.extension.add(name=f"more_{number}", number=number, extendee=".made.Made0")
        field.label = draw(
            st.sampled_from(
                (FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED)
            )
        )
        _give_type(draw, field, "")
