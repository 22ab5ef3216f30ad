"""The protoc of the grpcio-tools wheel, which finds Google's common protos by itself.

Takes protoc's own arguments. The wheels' protos come last on the path: the caller's files win.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from grpc_tools import protoc


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
    status: int = protoc.main(["protoc", *arguments, f"-I{well_known}", f"-I{common}"])
    return status


if __name__ == "__main__":
    sys.exit(run_protoc(sys.argv[1:]))
