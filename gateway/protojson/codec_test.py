import json
import traceback
from typing import Any

import pytest
from google.protobuf import json_format, message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from probe.v1 import probe_pb2

from gateway.protojson.codec import JsonCodec
from gateway.protojson.errors import InvalidJsonError, Violation
from gateway.protojson.text import parse_json
from gateway.testing.harness import descriptor_set
from gateway.upstream.descriptors import DescriptorSet

DESCRIPTORS = DescriptorSet(descriptor_set(probe_pb2.DESCRIPTOR))
CODEC = JsonCodec(DESCRIPTORS.pool)
DESCRIPTOR = DESCRIPTORS.pool.FindMessageTypeByName("probe.v1.Probe")
PROBE = message_factory.GetMessageClass(DESCRIPTOR)
MERGE, DUMP = CODEC.merger(DESCRIPTOR), CODEC.dumper(DESCRIPTOR)


def read(text: str | bytes) -> probe_pb2.Probe:
    message = PROBE()
    MERGE(parse_json(text if isinstance(text, bytes) else text.encode()), message)
    return probe_pb2.Probe.FromString(message.SerializeToString())


def violation(text: str | bytes) -> Violation:
    with pytest.raises(Violation) as caught:
        read(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("null", ""),
        ("[]", ""),
        ('"a"', ""),
        ("1", ""),
        ("true", ""),
        ('{"is_admin": true}', "is_admin"),
        ('{"nested": {"x": 1}}', "nested.x"),
        ('{"items": [{}, {"x": 1}]}', "items[1].x"),
        ('{"ID": "a"}', "ID"),
        ('{"id": 1}', "id"),
        ('{"id": true}', "id"),
        ('{"id": ["a"]}', "id"),
        ('{"id": {}}', "id"),
        ('{"id": "a\\u0000b"}', "id"),
        ('{"id": "\\ud800"}', "id"),
        ('{"id": "\\udc00a"}', "id"),
        ('{"int32_value": true}', "int32_value"),
        ('{"int32Value": 1.5}', "int32Value"),
        ('{"int32_value": 1.0}', "int32_value"),
        ('{"int32_value": 1e2}', "int32_value"),
        ('{"int32_value": ""}', "int32_value"),
        ('{"int32_value": " 1"}', "int32_value"),
        ('{"int32_value": "1.0"}', "int32_value"),
        ('{"int32_value": "٣"}', "int32_value"),
        ('{"int32_value": [1]}', "int32_value"),
        ('{"bool_value": 1}', "bool_value"),
        ('{"bool_value": "true"}', "bool_value"),
        ('{"double_value": true}', "double_value"),
        ('{"double_value": 1e999}', "double_value"),
        ('{"double_value": "1e999"}', "double_value"),
        ('{"double_value": "nan"}', "double_value"),
        ('{"double_value": ""}', "double_value"),
        ('{"kind": "KIND_THREE"}', "kind"),
        ('{"kind": true}', "kind"),
        ('{"kind": 1.0}', "kind"),
        ('{"bytes_value": "*"}', "bytes_value"),
        ('{"bytes_value": "A"}', "bytes_value"),
        ('{"bytes_value": "AA=A"}', "bytes_value"),
        ('{"bytes_value": 1}', "bytes_value"),
        ('{"nested": 1}', "nested"),
        ('{"nested": []}', "nested"),
        ('{"items": {}}', "items"),
        ('{"numbers": 1}', "numbers"),
        ('{"numbers": [1, "x"]}', "numbers[1]"),
        ('{"numbers": [null]}', "numbers[0]"),
        ('{"items": [null]}', "items[0]"),
        ('{"counts": []}', "counts"),
        ('{"counts": {"a": "b"}}', "counts.a"),
        ('{"counts": {"a": null}}', "counts.a"),
        ('{"by_number": {"x": {}}}', "by_number.x"),
        ('{"by_number": {"1.0": {}}}', "by_number.1.0"),
        ('{"by_boolean": {"1": "a"}}', "by_boolean.1"),
        ('{"by_number": {"1": {"x": 1}}}', "by_number.1.x"),
        ('{"by_number": {"1": 1}}', "by_number.1"),
        ('{"counts": {"\\u0000": 1}}', "counts.(not a name)"),
        ('{"counts": {"\\ud800": 1}}', "counts.(not a name)"),
        ('{"moment": 1}', "moment"),
        ('{"moment": "yesterday"}', "moment"),
        ('{"moment": "2020-01-01"}', "moment"),
        ('{"moment": "2020-13-01T00:00:00Z"}', "moment"),
        ('{"span": "1"}', "span"),
        ('{"span": "xs"}', "span"),
        ('{"span": 1}', "span"),
        ('{"mask": "a_b"}', "mask"),
        ('{"mask": ["a"]}', "mask"),
        ('{"attributes": []}', "attributes"),
        ('{"attributes": {"a": 1e999}}', "attributes.a"),
        ('{"attributes": {"a": {"b": ["\\u0000"]}}}', "attributes.a.b[0]"),
        ('{"list": {}}', "list"),
        ('{"attributes": {"\\u0000": 1}}', "attributes.(not a name)"),
        ('{"any": []}', "any"),
        ('{"anything": 1e999}', "anything"),
        ('{"any": {"id": "a"}}', "any.@type"),
        ('{"any": {"@type": 1}}', "any.@type"),
        ('{"any": {"@type": "x/none.Such"}}', "any.@type"),
        ('{"any": {"@type": "x/probe.v1.Probe", "x": 1}}', "any.x"),
        ('{"any": {"@type": "x/google.protobuf.Duration", "x": 1}}', "any"),
        ('{"any": {"@type": "x/google.protobuf.Duration", "value": 1}}', "any"),
        ('{"wrapped_int32": true}', "wrapped_int32"),
        ('{"wrapped_int32": {}}', "wrapped_int32"),
        ('{"wrapped_bool": 1}', "wrapped_bool"),
        ('{"wrapped_text": 1}', "wrapped_text"),
        ('{"empty": {"a": 1}}', "empty.a"),
        ('{"empty": 1}', "empty"),
        ('{"text": "a", "number": 1}', "number"),
        ('{"otherName": "a", "renamed": "a"}', "renamed"),
        ('{"int32Value": 1, "int32_value": 1}', "int32_value"),
        ('{"moments": [1]}', "moments[0]"),
    ],
)
def test_violation_has_the_path_to_the_value(text: str, field: str) -> None:
    found = violation(text)
    assert (found.path(), found.reason) in {(field, "INVALID_FIELD"), (field, "UNKNOWN_FIELD")}
    found.path().encode()


@pytest.mark.parametrize(
    "name", ["", "4242424242424242", "ada@example.com", "correct horse", "a" * 101, "\ud800"]
)
def test_a_name_that_no_field_could_have_is_not_repeated(name: str) -> None:
    assert violation(json.dumps({name: 1})).path() == "(not a name)"


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        *((f"{kind}_value", -(2**31), 2**31 - 1) for kind in ("int32", "sint32", "sfixed32")),
        *((f"{kind}_value", -(2**63), 2**63 - 1) for kind in ("int64", "sint64", "sfixed64")),
        *((f"{kind}_value", 0, 2**32 - 1) for kind in ("uint32", "fixed32")),
        *((f"{kind}_value", 0, 2**64 - 1) for kind in ("uint64", "fixed64")),
    ],
)
def test_integer_is_accepted_up_to_its_bounds(name: str, lowest: int, highest: int) -> None:
    for value in (lowest, highest):
        assert getattr(read(f'{{"{name}": {value}}}'), name) == value
        assert getattr(read(f'{{"{name}": "{value}"}}'), name) == value
    for value in (lowest - 1, highest + 1):
        for text in (f'{{"{name}": {value}}}', f'{{"{name}": "{value}"}}'):
            found = violation(text)
            assert (found.path(), found.reason) == (name, "OUT_OF_RANGE")


@pytest.mark.parametrize("text", ['{"float_value": 1e39}', '{"kind": 2147483648}'])
def test_number_out_of_range_has_a_reason_of_its_own(text: str) -> None:
    assert violation(text).reason == "OUT_OF_RANGE"


@pytest.mark.parametrize(("levels", "taken"), [(33, True), (34, False), (500, False)])
def test_nesting_stops_where_protobuf_stops_reading(levels: int, taken: bool) -> None:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    text = json.dumps({"attributes": value})
    if taken:
        read(text)
    else:
        assert violation(text).reason == "INVALID_FIELD"


def test_recursive_messages_nest_as_deep_as_protobuf_reads() -> None:
    def nested(levels: int) -> str:
        return '{"nested": ' + '{"child": ' * (levels - 2) + "{}" + "}" * (levels - 1)

    read(nested(100))
    assert violation(nested(101)).rule == "must not nest deeper than 100 messages"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"id": null}',
        '{"id": "é\\u0001😀"}',
        '{"otherName": "a"}',
        '{"renamed": "a"}',
        '{"int32Value": "7"}',
        '{"maybe": 0}',
        '{"number": 0}',
        '{"text": null, "number": 1}',
        '{"double_value": "NaN"}',
        '{"double_value": "-Infinity"}',
        '{"double_value": "1.5e3"}',
        '{"double_value": 1}',
        '{"float_value": 0.1}',
        '{"double_value": 1e-999}',
        '{"kind": "KIND_TWO"}',
        '{"kind": 2}',
        '{"kind": 77}',
        '{"kinds": ["KIND_ONE", 2]}',
        '{"bytes_value": "+/8="}',
        '{"bytes_value": "-_8"}',
        '{"bytes_value": ""}',
        '{"counts": {"": -1, "b": "2"}}',
        '{"by_number": {"-1": {"name": "a"}}}',
        '{"by_boolean": {"true": "a", "false": "b"}}',
        '{"moment": "2020-01-01T00:00:00.5+01:00"}',
        '{"span": "-1.5s"}',
        '{"mask": "a.bC,d"}',
        '{"attributes": {"a": [1, {"b": null}]}}',
        '{"anything": null}',
        '{"anything": [1, "a", {}]}',
        '{"list": [null, 1]}',
        '{"empty": {}}',
        '{"nothing": null}',
        '{"wrapped_int32": 0}',
        '{"wrapped_uint64": "18446744073709551615"}',
        '{"any": {}}',
        '{"any": {"@type": "a/probe.v1.Probe", "id": "x", "maybe": 0}}',
        '{"any": {"@type": "a/google.protobuf.Duration", "value": "1s"}}',
        '{"any": {"@type": "a/google.protobuf.Any", "value": {"@type": "a/probe.v1.Probe"}}}',
        '{"any": {"@type": "a/google.rpc.ErrorInfo", "reason": "R"}}',
    ],
)
def test_agrees_with_json_format(text: str) -> None:
    expected = json_format.Parse(text, probe_pb2.Probe(), descriptor_pool=DESCRIPTORS.pool)
    assert read(text) == expected
    message = PROBE.FromString(expected.SerializeToString())
    assert json.loads(DUMP(message)) == json_format.MessageToDict(
        expected, descriptor_pool=DESCRIPTORS.pool
    )


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from([field.json_name for field in probe_pb2.Probe.DESCRIPTOR.fields])


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(FIELDS, JSON_VALUES, max_size=3))
def test_any_json_is_read_as_json_format_does_or_rejected(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    try:
        message = read(text)
    except (InvalidJsonError, Violation):
        pass
    else:
        assert message == json_format.Parse(text, probe_pb2.Probe())
        DUMP(PROBE.FromString(message.SerializeToString()))


def test_traceback_of_compiled_code_shows_its_source() -> None:
    with pytest.raises(Violation) as caught:
        MERGE({"id": 1}, PROBE())
    assert "raise violation.within(" in "".join(traceback.format_exception(caught.value))


def test_source_of_a_codec_has_both_functions() -> None:
    source = CODEC.source(DESCRIPTOR.nested_types_by_name["Nested"])
    assert "value['name'] = item" in source
    assert "message.size = item if type(item) is int" in source


def test_fields_are_written_alone_and_in_full() -> None:
    fields = DESCRIPTOR.fields_by_name
    message = PROBE(tags=["a"], int64_value=7)
    assert CODEC.field_dumper(fields["tags"])(message) == b'["a"]'
    assert CODEC.field_dumper(fields["int64_value"])(message) == b'"7"'
    assert CODEC.field_dumper(fields["numbers"])(message) == b"[]"
    assert CODEC.field_dumper(fields["counts"])(message) == b"{}"
    assert CODEC.field_dumper(fields["nested"])(message) == b"{}"
    assert CODEC.field_dumper(fields["int32_value"])(message) == b"0"
    assert CODEC.field_dumper(fields["kind"])(message) == b'"KIND_UNSPECIFIED"'
