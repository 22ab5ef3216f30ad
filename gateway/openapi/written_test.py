"""JSON that the gateway writes fits the schemas, for generated types and values."""

import orjson
from google.protobuf.descriptor import Descriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from probe.v1 import probe_pb2

from gateway.openapi.comments import Comments
from gateway.openapi.schemas import Schemas
from gateway.protojson.codec import JsonCodec
from gateway.protojson.hypothesis_messages import messages
from gateway.protojson.hypothesis_types import message_types
from gateway.testing.harness import descriptor_set
from gateway.upstream.descriptors import DescriptorSet

DESCRIPTORS = DescriptorSet(descriptor_set(probe_pb2.DESCRIPTOR))
PROBE = DESCRIPTORS.pool.FindMessageTypeByName("probe.v1.Probe")


def validator_of(message: Descriptor) -> OAS31Validator:
    schemas = Schemas(Comments([]), requests=[], responses=[message])
    reference = schemas.message(message)
    return OAS31Validator({**reference, "components": {"schemas": schemas.components()}})


VALIDATOR = validator_of(PROBE)
DUMP = JsonCodec(DESCRIPTORS.pool).dumper(PROBE)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(messages(PROBE))
def test_value_fits_the_schema_of_its_type(message: probe_pb2.Probe) -> None:
    VALIDATOR.validate(orjson.loads(DUMP(message)))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_value_of_any_type_fits_its_schema(data: st.DataObject) -> None:
    kind = data.draw(message_types())
    message = data.draw(messages(kind))
    written = JsonCodec(kind.file.pool).dumper(kind)(message)
    validator_of(kind).validate(orjson.loads(written))
