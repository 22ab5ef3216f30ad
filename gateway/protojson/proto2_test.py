"""Features of proto2 and editions, and how deep messages of every kind may nest."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from gateway.protojson.codec import JsonCodec
from gateway.protojson.errors import UnwritableError, Violation
from gateway.protojson.text import parse_json
from gateway.testing.protos import compile_protos

TREES = compile_protos(
    {
        "tree/v1/tree.proto": """
            syntax = "proto2";
            package tree.v1;
            import "google/protobuf/any.proto";
            import "google/protobuf/duration.proto";
            import "google/protobuf/struct.proto";
            import "google/protobuf/wrappers.proto";

            message Tree {
              extensions 100 to 199;
              enum Kind { option allow_alias = true; FIR = 1; OAK = 2; SPRUCE = 1; }

              optional Tree child = 1;
              repeated Tree children = 2;
              map<string, int32> counts = 3;
              map<string, Tree> named = 4;
              optional google.protobuf.Any any = 5;
              optional google.protobuf.Duration age = 6;
              optional google.protobuf.ListValue list = 7;
              optional google.protobuf.Struct struct = 8;
              optional google.protobuf.Value value = 9;
              optional google.protobuf.Int32Value height = 10;
              optional int32 rings = 11 [default = 7];
              optional Kind kind = 12 [default = OAK];
              repeated group Leaf = 13 { optional string colour = 1; }
              optional string from = 14 [json_name = "class"];
              optional string class = 15 [json_name = "from"];
            }

            message Certified { required string by = 1; }

            extend Tree {
              optional int64 owner = 100;
              repeated string birds = 101;
              optional Certified certified = 102;
              optional google.protobuf.Value note = 103;
            }
        """
    }
)
CODEC = JsonCodec(TREES.pool)


def kind_of(name: str) -> Descriptor:
    return TREES.pool.FindMessageTypeByName(f"tree.v1.{name}")


def new(name: str = "Tree") -> Any:
    return message_factory.GetMessageClass(kind_of(name))()


def read(value: Any, name: str = "Tree") -> Message:
    message: Message = new(name)
    CODEC.merger(kind_of(name))(parse_json(json.dumps(value).encode()), message)
    return message


def written(message: Any) -> bytes:
    return CODEC.dumper(message.DESCRIPTOR)(message)


@pytest.mark.parametrize(
    "text",
    [
        '{"rings":0}',
        '{"rings":7}',
        '{"kind":"FIR"}',
        '{"leaf":[{"colour":""},{}]}',
        '{"from":"a"}',
        '{"class":"a"}',
        '{"class":"a","from":"b"}',
        '{"[tree.v1.owner]":"5"}',
        '{"[tree.v1.birds]":["a",""]}',
        '{"[tree.v1.note]":null}',
        '{"rings":1,"[tree.v1.certified]":{"by":"a"}}',
        '{"any":{"@type":"a/tree.v1.Certified","by":"a"}}',
    ],
)
def test_messages_of_proto2_are_written_as_they_were_read(text: str) -> None:
    message = read(json.loads(text))
    assert written(message).decode() == text
    assert message == json_format.Parse(text, new(), descriptor_pool=TREES.pool)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"kind": 3}, "kind"),
        ({"kind": "3"}, "kind"),
        ({"rings": "x"}, "rings"),
        ({"[tree.v1.owner]": "x"}, "[tree.v1.owner]"),
        ({"[tree.v1.none]": 1}, "[tree.v1.none]"),
        ({"(tree.v1.owner)": 1}, "(not a name)"),
        ({"child": {"class": 1}}, "child.class"),
        ({"[tree.v1.certified]": {"x": 1}}, "[tree.v1.certified].x"),
        ({"[tree.v1.birds]": ["a", 1]}, "[tree.v1.birds][1]"),
        ({"any": {"@type": "a/tree.v1.Certified"}}, "any"),
    ],
)
def test_values_that_break_a_rule_of_proto2_are_refused(value: Any, field: str) -> None:
    with pytest.raises(Violation) as caught:
        read(value)
    assert caught.value.path() == field
    with pytest.raises(json_format.ParseError):
        json_format.Parse(json.dumps(value), new(), descriptor_pool=TREES.pool)


def test_first_of_two_names_for_a_number_is_written_and_either_is_read() -> None:
    assert written(read({"kind": "SPRUCE"})) == b'{"kind":"FIR"}'


def test_extension_of_another_type_is_unknown() -> None:
    with pytest.raises(Violation):
        read({"by": "a", "[tree.v1.owner]": 5}, "Certified")


def test_string_that_is_not_utf_8_is_unwritable() -> None:
    message = type(new()).FromString(b"\x72\x01\xff")
    with pytest.raises(UnwritableError):
        written(message)


def nest_value(value: Any, levels: int) -> Any:
    for _ in range(levels - 1):
        value = {"child": value}
    return value


def nest_wire(data: bytes, levels: int) -> bytes:
    for _ in range(levels - 1):
        length = len(data)
        assert length < 2**14
        data = b"\x0a" + bytes((length % 128 | 128, length // 128)) + data
    return data


def is_read(read_it: Callable[[Any], object], value: Any) -> bool:
    try:
        read_it(value)
    except (Violation, DecodeError):
        return False
    return True


@pytest.mark.parametrize(
    "leaf",
    [
        {"rings": 1},
        {"counts": {"a": 1}},
        {"named": {"a": {}}},
        {"children": [{}]},
        {"leaf": [{}]},
        {"age": "1s"},
        {"height": 1},
        {"list": []},
        {"list": [1]},
        {"list": [[1]]},
        {"any": {}},
        {"struct": {}},
        {"struct": {"a": 1}},
        {"struct": {"a": {"b": [{}]}}},
        {"value": "x"},
        {"value": None},
        {"value": [1]},
        {"[tree.v1.certified]": {"by": "a"}},
        {"[tree.v1.note]": None},
    ],
)
def test_messages_nest_one_level_less_than_protobuf_reads(leaf: dict[str, Any]) -> None:
    wire = read(leaf).SerializeToString()
    for levels in range(90, 103):
        is_readable = is_read(type(new()).FromString, nest_wire(wire, levels + 1))
        assert is_read(read, nest_value(leaf, levels)) == is_readable


def test_nesting_within_any_counts() -> None:
    def nest(levels: int) -> Any:
        value: Any = {"@type": "a/tree.v1.Tree"}
        for _ in range(levels):
            value = {"@type": "a/google.protobuf.Any", "value": value}
        return {"any": value}

    # The tree, what is in the Any, and each Any.
    assert is_read(read, nest(97))
    assert not is_read(read, nest(98))
    assert not is_read(read, nest(400))


def test_extension_of_a_type_with_many_fields_is_written() -> None:
    fields = " ".join(f"optional int32 field{number} = {number};" for number in range(1, 31))
    source = f"""
        syntax = "proto2";
        package wide.v1;
        message Wide {{ {fields} extensions 100 to 199; }}
        extend Wide {{ optional int32 more = 100; }}
    """
    descriptors = compile_protos({"wide/v1/wide.proto": source})
    wide = descriptors.pool.FindMessageTypeByName("wide.v1.Wide")
    message = message_factory.GetMessageClass(wide)()
    codec = JsonCodec(descriptors.pool)
    text = b'{"field7":0,"[wide.v1.more]":1}'
    codec.merger(wide)(parse_json(text), message)
    assert codec.dumper(wide)(message) == text
