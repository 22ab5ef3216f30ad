"""The proto3 JSON mapping as it is published (protobuf.dev, "ProtoJSON Format"), case by case."""

from typing import Any

import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.message import DecodeError, Message
from probe.v1 import probe_pb2

from gateway.protojson.codec import JsonCodec
from gateway.protojson.errors import UnwritableError, Violation
from gateway.protojson.text import parse_json
from gateway.testing.harness import descriptor_set
from gateway.upstream.descriptors import DescriptorSet

POOL = DescriptorSet(descriptor_set(probe_pb2.DESCRIPTOR)).pool
CODEC = JsonCodec(POOL)


def new(kind: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(kind))()


def read(text: str, kind: str = "probe.v1.Probe") -> Message:
    message: Message = new(kind)
    CODEC.merger(POOL.FindMessageTypeByName(kind))(parse_json(text.encode()), message)
    return message


def written(message: Any) -> str:
    return CODEC.dumper(message.DESCRIPTOR)(message).decode()


@pytest.mark.parametrize(
    "text",
    [
        # Scalars.
        '{"int32Value":-2147483648}',
        '{"uint32Value":4294967295}',
        '{"fixed32Value":1}',
        '{"int64Value":"-9223372036854775808"}',
        '{"uint64Value":"18446744073709551615"}',
        '{"sfixed64Value":"1"}',
        '{"floatValue":0.1}',
        '{"floatValue":1.1754944e-38}',
        '{"floatValue":8590400000.0}',
        '{"floatValue":16777216.0}',
        '{"floatValue":"NaN"}',
        '{"doubleValue":1.7976931348623157e+308}',
        '{"doubleValue":5e-324}',
        '{"doubleValue":"NaN"}',
        '{"doubleValue":"Infinity"}',
        '{"floatValue":"-Infinity"}',
        '{"doubleValue":-0.0}',
        '{"floatValue":-0.0}',
        '{"boolValue":true}',
        '{"id":"a\\u0001\\n\\"\\\\é😀"}',
        '{"bytesValue":"+/8="}',
        '{"bytesValue":"AQI="}',
        '{"kind":"KIND_TWO"}',
        '{"kind":77}',
        '{"kind":-1}',
        '{"kinds":["KIND_ONE",9]}',
        # Fields with presence are written with their defaults.
        '{"maybe":0}',
        '{"text":""}',
        '{"number":0}',
        '{"nested":{}}',
        '{"empty":{}}',
        '{"nested":{"child":{"child":{}}}}',
        '{"items":[{},{"name":"a"}]}',
        '{"otherName":"a"}',
        # Maps.
        '{"counts":{"":0}}',
        '{"byNumber":{"-1":{"size":1}}}',
        '{"byBoolean":{"true":""}}',
        # Timestamp and Duration: 0, 3, 6 or 9 digits.
        '{"moment":"1970-01-01T00:00:00Z"}',
        '{"moment":"0001-01-01T00:00:00Z"}',
        '{"moment":"9999-12-31T23:59:59.999999999Z"}',
        '{"moment":"1969-12-31T23:59:59.001Z"}',
        '{"moment":"2024-02-29T12:34:56.000100Z"}',
        '{"moment":"2000-01-01T00:00:00.000000001Z"}',
        '{"span":"0s"}',
        '{"span":"-0.500s"}',
        '{"span":"1.000001s"}',
        '{"span":"-1.000000001s"}',
        '{"span":"315576000000s"}',
        '{"span":"-315576000000.999999999s"}',
        # Other well-known types.
        '{"mask":"a,bC.dE"}',
        '{"mask":""}',
        '{"attributes":{}}',
        '{"attributes":{"a":[null,true,-0.5,"x",{},[]]}}',
        '{"anything":null}',
        '{"list":[]}',
        '{"anything":0.0}',
        '{"anything":""}',
        '{"anything":false}',
        '{"anything":[{"a":{}}]}',
        '{"wrappedInt32":0}',
        '{"wrappedUint64":"0"}',
        '{"wrappedText":""}',
        '{"wrappedBool":false}',
        '{"wrappedDouble":"NaN"}',
        '{"wrappedBytes":""}',
        '{"any":{}}',
        '{"any":{"@type":"a/probe.v1.Probe","id":"x","maybe":0}}',
        '{"any":{"@type":"a/google.protobuf.Duration","value":"1s"}}',
        '{"any":{"@type":"a/google.protobuf.Int64Value","value":"1"}}',
        '{"any":{"@type":"a/google.protobuf.Value","value":null}}',
        '{"any":{"@type":"a/google.protobuf.Struct","value":{"@type":"b"}}}',
        '{"any":{"@type":"a/google.protobuf.Any","value":{"@type":"a/google.protobuf.Empty"}}}',
    ],
)
def test_canonical_json_is_written_as_it_was_read(text: str) -> None:
    assert written(read(text)) == text
    assert written(json_format.Parse(text, new("probe.v1.Probe"), descriptor_pool=POOL)) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        # Proto names are read too, and nulls are defaults.
        ('{"int32_value": 1, "renamed": "a"}', '{"int32Value":1,"otherName":"a"}'),
        ('{"id": null, "nested": null, "tags": null, "counts": null, "moment": null}', "{}"),
        ('{"text": null, "number": 1}', '{"number":1}'),
        ('{"number": 1, "text": null}', '{"number":1}'),
        ('{"id": "", "int32Value": 0, "boolValue": false, "doubleValue": 0.0}', "{}"),
        ('{"tags": [], "counts": {}, "kind": 0, "nothing": null, "floatValue": 0}', "{}"),
        # Fields are written in the order of their numbers.
        ('{"tags": ["b"], "id": "a"}', '{"id":"a","tags":["b"]}'),
        # Numbers are read from strings, strings with any escapes, and bytes in both alphabets.
        ('{"int32Value": "-7"}', '{"int32Value":-7}'),
        ('{"int64Value": 9007199254740993}', '{"int64Value":"9007199254740993"}'),
        ('{"uint64Value": 18446744073709551615}', '{"uint64Value":"18446744073709551615"}'),
        ('{"doubleValue": "-1.5e3"}', '{"doubleValue":-1500.0}'),
        ('{"doubleValue": 1}', '{"doubleValue":1.0}'),
        ('{"doubleValue": 12345678901234567890123}', '{"doubleValue":1.2345678901234568e+22}'),
        ('{"floatValue": 0.10000000149011612}', '{"floatValue":0.1}'),
        ('{"floatValue": 16777217}', '{"floatValue":16777216.0}'),
        ('{"floatValue": 1.0000001}', '{"floatValue":1.0000001}'),
        ('{"id": "\\u00e9\\ud83d\\ude00\\/"}', '{"id":"é😀/"}'),
        ('{"bytesValue": "-_8"}', '{"bytesValue":"+/8="}'),
        ('{"bytesValue": "+/8"}', '{"bytesValue":"+/8="}'),
        # Enums are read by number too, and written by name if there is one.
        (
            '{"kinds": [1, "2", "KIND_UNSPECIFIED"]}',
            '{"kinds":["KIND_ONE","KIND_TWO","KIND_UNSPECIFIED"]}',
        ),
        # Any offset and up to nine digits are read.
        ('{"moment": "2020-01-01T00:30:00+01:00"}', '{"moment":"2019-12-31T23:30:00Z"}'),
        ('{"moment": "2019-12-31T18:30:00.12-05:30"}', '{"moment":"2020-01-01T00:00:00.120Z"}'),
        ('{"moment": "2020-01-01T00:00:00.1234Z"}', '{"moment":"2020-01-01T00:00:00.123400Z"}'),
        (
            '{"moment": "2020-01-01T00:00:00.12345678Z"}',
            '{"moment":"2020-01-01T00:00:00.123456780Z"}',
        ),
        ('{"span": "00.5s"}', '{"span":"0.500s"}'),
        ('{"span": "-0.000000001s"}', '{"span":"-0.000000001s"}'),
        ('{"anything": 1}', '{"anything":1.0}'),
        ('{"list": [1, null]}', '{"list":[1.0,null]}'),
        (
            '{"any": {"id": "x", "@type": "/probe.v1.Probe"}}',
            '{"any":{"@type":"/probe.v1.Probe","id":"x"}}',
        ),
    ],
)
def test_other_representations_are_read_and_the_canonical_one_is_written(
    text: str, canonical: str
) -> None:
    assert written(read(text)) == canonical
    assert (
        written(json_format.Parse(text, new("probe.v1.Probe"), descriptor_pool=POOL)) == canonical
    )


@pytest.mark.parametrize(
    "text",
    [
        # An integer has neither fraction nor exponent.
        '{"int32Value": 1.0}',
        '{"int32Value": 1e2}',
        '{"int32Value": "1.0"}',
        '{"kind": 1.5}',
        '{"kind": true}',
        '{"doubleValue": true}',
        '{"doubleValue": "inf"}',
        '{"doubleValue": " 1"}',
        '{"doubleValue": "1_0"}',
        '{"doubleValue": "1e999"}',
        '{"int32Value": "1_0"}',
        '{"int64Value": "٣"}',
        '{"numbers": [1.0]}',
        # Nothing is ignored.
        '{"bytesValue": "A*A="}',
        '{"nested": ""}',
        '{"nested": []}',
        '{"bytesValue": "A A="}',
        '{"any": {"@type": "a/google.protobuf.Duration", "value": "1s", "more": 1}}',
        # Nothing is given twice.
        '{"otherName": "a", "renamed": "b"}',
        '{"byNumber": {"1": {}, "01": {}}}',
        # Strings have the format of RFC 3339 and of the mapping.
        '{"moment": "2020-1-1T0:0:0Z"}',
        '{"moment": "2020-01-01T00:00:00+99:99"}',
        '{"span": "+1s"}',
        '{"span": "1.0000000001s"}',
        '{"span": "1_0s"}',
        '{"span": " 1s"}',
        # Databases cannot store NUL.
        '{"id": "\\u0000"}',
        '{"attributes": {"\\u0000": 1}}',
    ],
)
def test_gateway_is_stricter_than_json_format(text: str) -> None:
    json_format.Parse(text, new("probe.v1.Probe"), descriptor_pool=POOL)
    with pytest.raises(Violation):
        read(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("FloatValue", "0.1"),
        ("FloatValue", '"-Infinity"'),
        ("DoubleValue", "-0.0"),
        ("Int64Value", '"-1"'),
        ("UInt32Value", "4294967295"),
        ("BytesValue", '"AA=="'),
        ("Struct", '{"a":{"b":[1.5]}}'),
        ("ListValue", "[[],{}]"),
        ("Value", "null"),
        ("Timestamp", '"2020-01-01T00:00:00Z"'),
        ("FieldMask", '"aB"'),
        ("Empty", "{}"),
    ],
)
def test_well_known_types_are_bodies_of_their_own(kind: str, text: str) -> None:
    assert written(read(text, f"google.protobuf.{kind}")) == text


@pytest.mark.parametrize(
    "text",
    [
        '{"moment": "0000-12-31T23:59:59Z"}',
        '{"moment": "10000-01-01T00:00:00Z"}',
        '{"moment": "0001-01-01T00:59:59+01:00"}',
        '{"moment": "9999-12-31T23:59:59-00:01"}',
        '{"moment": "2023-02-29T00:00:00Z"}',
        '{"moment": "2020-01-01T24:00:00Z"}',
        '{"moment": "2020-01-01T00:60:00Z"}',
        '{"moment": "2020-01-01T00:00:60Z"}',
        '{"moment": "2020-01-01t00:00:00Z"}',
        '{"moment": "2020-01-01T00:00:00z"}',
        '{"moment": "2020-01-01 00:00:00Z"}',
        '{"moment": "2020-01-01T00:00:00"}',
        '{"moment": "2020-01-01T00:00:00.Z"}',
        '{"moment": "2020-01-01T00:00:00,5Z"}',
        '{"moment": "2020-01-01T00:00:00.1234567890Z"}',
        '{"moment": "20200101T000000Z"}',
        '{"moment": "2020-W01-1T00:00:00Z"}',
        '{"moment": "2020-01-01T00:00:00+0100"}',
        '{"span": "315576000001s"}',
        '{"span": "-315576000001s"}',
        '{"span": "1.s"}',
        '{"span": "1S"}',
        '{"span": ".5s"}',
        '{"span": "1.5"}',
        '{"span": "--1s"}',
        '{"mask": "a_b"}',
        '{"nothing": 1.5}',
        '{"kinds": [null]}',
        '{"list": [1e999]}',
    ],
)
def test_value_outside_the_mapping_is_refused(text: str) -> None:
    with pytest.raises(Violation) as caught:
        read(text)
    assert caught.value.reason == "INVALID_FIELD"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("moment", {"seconds": 253_402_300_800}),
        ("moment", {"seconds": -62_135_596_801}),
        ("moment", {"nanos": -1}),
        ("moment", {"nanos": 1_000_000_000}),
        ("span", {"seconds": 315_576_000_001}),
        ("span", {"seconds": -315_576_000_001}),
        ("span", {"nanos": 1_000_000_000}),
        ("span", {"seconds": 1, "nanos": -1}),
        ("mask", {"paths": ["aB"]}),
        ("mask", {"paths": ["a_"]}),
        ("mask", {"paths": ["a__b"]}),
        ("mask", {"paths": ["a_1"]}),
        ("anything", {"number_value": float("nan")}),
        ("list", {"values": [{"number_value": float("-inf")}]}),
        ("any", {"value": b"x"}),
        ("any", {"type_url": "x/none.Such"}),
        ("any", {"type_url": "probe.v1.Probe", "value": b"x"}),
    ],
)
def test_message_that_json_cannot_represent_is_unwritable(
    field: str, value: dict[str, Any]
) -> None:
    message = type(new("probe.v1.Probe"))(**{field: value})
    with pytest.raises(UnwritableError, match=r".+"):
        written(message)
    with pytest.raises(UnwritableError, match=r".+"):
        CODEC.field_dumper(message.DESCRIPTOR.fields_by_name[field])(message)
    with pytest.raises((ValueError, TypeError, json_format.Error, DecodeError)):
        json_format.MessageToDict(message, descriptor_pool=POOL)


def test_largest_float_is_read_as_it_is_written_though_json_format_cannot() -> None:
    text = '{"floatValue":3.4028235e+38}'
    assert written(read(text)) == text
    with pytest.raises(Violation) as caught:
        read('{"floatValue": 3.4028236e38}')
    assert caught.value.reason == "OUT_OF_RANGE"


def test_message_that_nests_too_deep_is_unwritable() -> None:
    inner = new("google.protobuf.Any")
    for _ in range(2000):
        outer = new("google.protobuf.Any")
        outer.type_url = "a/google.protobuf.Any"
        outer.value = inner.SerializeToString()
        inner = outer
    with pytest.raises(UnwritableError):
        written(inner)


def test_deepest_message_of_the_wire_is_written() -> None:
    text = '{"nested":' + '{"child":' * 98 + "{}" + "}" * 99
    assert written(read(text)) == text
