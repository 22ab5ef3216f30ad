"""Violations as clients receive them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from chassis import errors, rules
from chassis.status import MAX_VIOLATIONS
from tools.proto.protoc import run_protoc

PROTO = """
syntax = "proto3";
package test.v1;
import "buf/validate/validate.proto";
message Parcel {
  string id = 1 [(buf.validate.field) = {ignore: IGNORE_IF_ZERO_VALUE string: {uuid: true}}];
  string label = 2 [(buf.validate.field).string = {max_len: 1000 not_contains: "\\000"}];
  string password = 3 [
    (buf.validate.field) = {ignore: IGNORE_IF_ZERO_VALUE string: {min_len: 8}}
  ];
  repeated Parcel parcels = 4 [(buf.validate.field).repeated.max_items = 3000];
  int32 weight = 5 [(buf.validate.field).int32 = {gte: 0 lte: 20}];
  int32 delta = 6 [
    (buf.validate.field) = {ignore: IGNORE_IF_ZERO_VALUE int32: {not_in: [7, 8]}}
  ];
  repeated string codes = 7 [
    (buf.validate.field) = {
      ignore: IGNORE_IF_ZERO_VALUE repeated: {min_items: 2 items: {string: {min_len: 1}}}
    }
  ];
}
"""

NewParcel = Callable[..., Message]


@pytest.fixture(scope="module")
def parcel(tmp_path_factory: pytest.TempPathFactory) -> NewParcel:
    directory = tmp_path_factory.mktemp("protos")
    (directory / "parcel.proto").write_text(PROTO)
    described = directory / "parcel.binpb"
    options = [f"-I{directory}", "--include_imports", f"--descriptor_set_out={described}"]
    assert run_protoc([*options, "parcel.proto"]) == 0
    return _message_class(described)


def _message_class(described: Path) -> type[Message]:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes()).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.v1.Parcel"))


def refusal(message: Message) -> errors.InvalidArgument:
    with pytest.raises(errors.InvalidArgument) as raised:
        rules.check(message)
    return raised.value


def test_a_message_that_keeps_every_rule_is_accepted(parcel: NewParcel) -> None:
    rules.check(parcel(id="0199AAAA-0000-7000-8000-000000000000", weight=20, codes=["a", "b"]))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"label": "x" * 1_001}, "label must have at most 1,000 characters"),
        ({"label": "\x00"}, "label must not contain NUL"),
        ({"password": "secret"}, "password must have at least 8 characters"),
        (
            {"weight": 21},
            "weight must be greater than or equal to 0 and less than or equal to 20",
        ),
        ({"delta": 7}, "delta must not be 7 or 8"),
        ({"codes": ["a"]}, "codes must have at least 2 items"),
        ({"codes": ["a", ""]}, "codes[1] must have at least 1 character"),
    ],
)
def test_a_violation_describes_the_rule_and_not_the_value(
    parcel: NewParcel, fields: dict[str, Any], rule: str
) -> None:
    refused = refusal(parcel(**fields))
    assert (refused.reason, refused.message) == ("INVALID_FIELD", rule)
    assert refused.http_status == 422


def test_every_violation_has_the_path_of_its_field(parcel: NewParcel) -> None:
    inner = parcel(weight=-1, parcels=[parcel(), parcel(label="\x00", weight=21)])
    refused = refusal(parcel(parcels=[parcel(), parcel(), inner]))
    assert [violation.field for violation in refused.violations] == [
        "parcels[2].parcels[1].label",
        "parcels[2].parcels[1].weight",
        "parcels[2].weight",
    ]


@pytest.mark.parametrize("spelling", ["7", "{0199aaaa-0000-7000-8000-000000000000}", "٣"])
def test_a_malformed_uuid_is_an_invalid_id(parcel: NewParcel, spelling: str) -> None:
    refused = refusal(parcel(id=spelling, weight=21))
    assert (refused.reason, refused.http_status) == ("INVALID_ID", None)
    assert refused.violations[0] == errors.Violation("id", "must be a UUID")
    assert len(refused.violations) == 2


def test_no_more_violations_are_described_than_a_status_can_have(parcel: NewParcel) -> None:
    parcels = [parcel(weight=21)] * MAX_VIOLATIONS
    refused = refusal(parcel(parcels=[*parcels, parcel(id="7")]))
    assert refused.reason == "INVALID_ID"
    assert [violation.field for violation in refused.violations] == [
        f"parcels[{index}].weight" for index in range(MAX_VIOLATIONS)
    ]


def test_only_the_first_violation_of_a_large_message_is_reported(parcel: NewParcel) -> None:
    parcels = [parcel(weight=21)] * 1_000
    assert len(refusal(parcel(parcels=parcels)).violations) == MAX_VIOLATIONS
    assert parcel(parcels=parcels * 2).ByteSize() > rules.MAX_BYTES_FOR_ALL_VIOLATIONS
    assert len(refusal(parcel(parcels=parcels * 2)).violations) == 1
