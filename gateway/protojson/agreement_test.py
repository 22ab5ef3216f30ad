"""The codec compared with google.protobuf.json_format, on generated messages and types."""

import json

import orjson
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from probe.v1 import probe_pb2

from gateway.protojson.codec import JsonCodec
from gateway.protojson.encoding import Encoders
from gateway.protojson.errors import InvalidJsonError, Violation
from gateway.protojson.hypothesis_json import objects
from gateway.protojson.hypothesis_messages import messages
from gateway.protojson.hypothesis_types import message_types
from gateway.protojson.text import parse_json
from gateway.testing.harness import descriptor_set
from gateway.upstream.descriptors import DescriptorSet

PROBE = DescriptorSet(descriptor_set(probe_pb2.DESCRIPTOR)).pool.FindMessageTypeByName(
    "probe.v1.Probe"
)
KINDS = st.just(PROBE) | message_types()
MANY = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    # Large messages take minutes to shrink.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SOME = settings(MANY, max_examples=50)


def new(kind: Descriptor) -> Message:
    return message_factory.GetMessageClass(kind)()


def read(kind: Descriptor, text: bytes) -> Message:
    message = new(kind)
    JsonCodec(kind.file.pool).merger(kind)(parse_json(text), message)
    return message


def read_with_json_format(kind: Descriptor, text: bytes) -> Message:
    return json_format.Parse(text, new(kind), descriptor_pool=kind.file.pool)


def wire(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def assert_agree(kind: Descriptor, text: bytes) -> None:
    try:
        expected = read_with_json_format(kind, text)
    except json_format.ParseError:
        with pytest.raises((InvalidJsonError, Violation)):
            read(kind, text)
    else:
        assert wire(read(kind, text)) == wire(expected)


@MANY
@given(st.data(), KINDS)
def test_messages_are_written_as_json_format_does(data: st.DataObject, kind: Descriptor) -> None:
    message = data.draw(messages(kind))
    written = JsonCodec(kind.file.pool).dumper(kind)(message)
    expected = json_format.MessageToDict(message, descriptor_pool=kind.file.pool)
    # The order is the same too, except for extensions.
    assert orjson.loads(written) == expected
    if not kind.is_extendable:
        assert written == orjson.dumps(expected)


@MANY
@given(messages(PROBE))
def test_wide_types_are_written_as_narrow_ones_are(message: Message) -> None:
    pool = PROBE.file.pool
    write_narrow = Encoders(pool)._compile(PROBE)
    assert orjson.dumps(write_narrow(message)) == JsonCodec(pool).dumper(PROBE)(message)


@MANY
@given(st.data(), KINDS, st.booleans())
def test_messages_are_read_as_json_format_does(
    data: st.DataObject, kind: Descriptor, with_proto_names: bool
) -> None:
    message = data.draw(messages(kind))
    text = json_format.MessageToJson(
        message,
        descriptor_pool=kind.file.pool,
        preserving_proto_field_name=with_proto_names,
        use_integers_for_enums=data.draw(st.booleans()),
    )
    assert_agree(kind, text.encode())


@MANY
@given(st.data(), KINDS)
def test_json_that_may_be_wrong_is_read_or_refused_as_json_format_does(
    data: st.DataObject, kind: Descriptor
) -> None:
    assert_agree(kind, json.dumps(data.draw(objects(kind))).encode())


@SOME
@given(st.data())
def test_fields_are_written_alone_as_within_their_message(data: st.DataObject) -> None:
    message = data.draw(messages(PROBE))
    codec = JsonCodec(PROBE.file.pool)
    whole = orjson.loads(codec.dumper(PROBE)(message))
    for field in PROBE.fields:
        if field.json_name in whole:
            assert orjson.loads(codec.field_dumper(field)(message)) == whole[field.json_name]


@SOME
@given(st.data())
def test_fields_are_read_alone_as_within_their_message(data: st.DataObject) -> None:
    message = data.draw(messages(PROBE))
    codec = JsonCodec(PROBE.file.pool)
    whole = orjson.loads(codec.dumper(PROBE)(message))
    for field in PROBE.fields:
        value = whole.get(field.json_name)
        if value is not None:
            alone = new(PROBE)
            codec.field_merger(field)(value, alone)
            assert wire(alone) == wire(read(PROBE, orjson.dumps({field.json_name: value})))
