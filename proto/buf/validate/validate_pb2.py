"""Registers buf/validate/validate.proto, which the generated modules of protos with rules import.

The wheel of protovalidate has the descriptor of that file and not its source. Nothing needs its
messages in Python: protovalidate reads the rules out of the descriptors of what it checks.
"""

from google.protobuf import (  # noqa: F401  A file is registered after those that it imports.
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    timestamp_pb2,
)
from protovalidate import ViolationPb

DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(ViolationPb.desc().file.proto.to_binary())
