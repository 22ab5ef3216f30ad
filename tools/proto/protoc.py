"""The protoc of the grpcio-tools wheel, which finds the common protos that wheels bring by itself.

Takes protoc's own arguments. Google's protos come last on the path: the caller's files win.
buf/validate/validate.proto is read from its descriptor, which is all that its wheel has of it.
"""

import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc
from protovalidate import ViolationPb


def find_package(name: str) -> Path:
    """Return the directory of an installed package, namespace packages included."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(name)
    return Path(spec.submodule_search_locations[0])


def run_protoc(arguments: Sequence[str]) -> int:
    """Run protoc and return its exit status."""
    well_known = find_package("grpc_tools") / "_proto"
    common = find_package("google.api").parents[1]
    with tempfile.NamedTemporaryFile(suffix=".binpb") as rules:
        rules.write(_describe_rules())
        rules.flush()
        places = [f"-I{well_known}", f"-I{common}", f"--descriptor_set_in={rules.name}"]
        status: int = protoc.main(["protoc", *arguments, *places])
    return status


def _describe_rules() -> bytes:
    described = FileDescriptorSet()
    described.file.add().ParseFromString(ViolationPb.desc().file.proto.to_binary())
    return described.SerializeToString()


if __name__ == "__main__":
    sys.exit(run_protoc(sys.argv[1:]))
