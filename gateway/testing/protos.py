"""Protos that are written in a test itself, compiled with their comments.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import tempfile
from pathlib import Path

from gateway.upstream.descriptors import DescriptorSet
from tools.proto.protoc import run_protoc

_HEAD = """
// A library.
syntax = "proto3";

package library.v1;

import "google/api/annotations.proto";
import "google/api/field_behavior.proto";
import "google/api/httpbody.proto";
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "rest/v1/annotations.proto";
"""
_OPTIONS = Path(__file__).parents[1] / "proto"
"""The root of the gateway's own options."""


def compile_library(text: str) -> DescriptorSet:
    """Compile the definitions of a proto of package library.v1, with the usual imports."""
    return compile_protos({"library/v1/library.proto": _HEAD + text})


def compile_protos(sources: dict[str, str]) -> DescriptorSet:
    """Compile whole protos, by their import paths."""
    with tempfile.TemporaryDirectory() as directory:
        for path, text in sources.items():
            file = Path(directory, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        output = Path(directory, "descriptors.binpb")
        options = (
            f"-I{directory}",
            f"-I{_OPTIONS}",
            "--include_imports",
            "--include_source_info",
        )
        if run_protoc([*options, f"--descriptor_set_out={output}", *sources]) != 0:
            raise ValueError("The protos of the test do not compile.")
        return DescriptorSet.parse(output.read_bytes())
