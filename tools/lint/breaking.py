"""Lists what the protos break since a git revision: `./bazelw run //tools/lint:breaking -- main`.

Exits as `buf breaking` does: 0 when the clients of that revision are still served.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

PROTO_ROOTS = ("chassis/proto", "gateway/proto", "proto")


def describe_revision(protoc: Path, revision: str, directory: Path) -> Path:
    """Write the descriptor set of a revision's protos into a directory and return its path."""
    workspace = os.environ["BUILD_WORKSPACE_DIRECTORY"]
    command = ["git", "-C", workspace, "archive", "--format=zip", revision]
    archive = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if archive.returncode != 0:
        raise SystemExit(f"git has no revision {revision}")
    with zipfile.ZipFile(BytesIO(archive.stdout)) as files_then:
        files_then.extractall(directory)
    roots = [root for name in PROTO_ROOTS if (root := directory / name).is_dir()]
    protos = [path.relative_to(root) for root in roots for path in sorted(root.rglob("*.proto"))]
    output = directory / "descriptors.binpb"
    options = ["--include_imports", f"--descriptor_set_out={output}"]
    subprocess.run([protoc, *(f"-I{root}" for root in roots), *options, *protos], check=True)
    return output


def main() -> int:
    """Compare the protos with those of the revision in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buf", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--descriptors", type=Path, required=True)
    parser.add_argument("--protoc", type=Path, required=True)
    parser.add_argument("revision", help="a branch, a tag or a commit")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        before = describe_revision(given.protoc.absolute(), given.revision, Path(directory))
        options = ["--against", before, "--config", given.config]
        options += ["--path", "access", "--path", "audit", "--path", "bazaar", "--path", "rest"]
        command = [given.buf, "breaking", given.descriptors, *options]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
