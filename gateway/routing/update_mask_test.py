import json

from probe.v1 import probe_pb2

from gateway.routing.update_mask import UpdateMask


def test_mask_has_the_given_leaves_in_proto_names() -> None:
    value = json.loads(
        '{"id": null, "otherName": "a",'
        ' "nested": {"name": "a", "child": {"size": 1, "child": {}}},'
        ' "items": [{"name": "a"}], "counts": {"a": 1}, "moment": "2020-01-01T00:00:00Z",'
        ' "attributes": {"a": {"b": 1}}, "wrappedInt32": 1}'
    )
    request = probe_pb2.UpdateProbeRequest()
    UpdateMask(probe_pb2.Probe.DESCRIPTOR, ["id"]).complete(request, value)
    assert list(request.update_mask.paths) == [
        "renamed",
        "nested.name",
        "nested.child.size",
        "nested.child.child",
        "items",
        "counts",
        "moment",
        "attributes",
        "wrapped_int32",
    ]
