"""What every image of ours keeps to, seen in the OCI layouts that the build makes."""

import gzip
import hashlib
import json
import os
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

APPLICATION_BYTES = 1_000_000
"""What a change of code may move: the uppermost layer, compressed."""
SHELLS = {"ash", "bash", "busybox", "dash", "sh", "toybox", "zsh"}


@dataclass(frozen=True)
class Image:
    """The image of an OCI image layout (image-spec 1.1), with its layers unpacked in memory."""

    directory: Path

    @cached_property
    def manifest(self) -> Any:
        (entry,) = json.loads((self.directory / "index.json").read_bytes())["manifests"]
        return json.loads(self.read(entry))

    @cached_property
    def config(self) -> Any:
        return json.loads(self.read(self.manifest["config"]))

    @cached_property
    def files(self) -> dict[str, tarfile.TarInfo]:
        """What a container sees, by paths without a leading slash."""
        found = {}
        for descriptor in self.manifest["layers"]:
            path = self.blob(descriptor)
            with tarfile.open(path) as archive:
                found.update({member.name: member for member in archive})
        return found

    def blob(self, descriptor: Any) -> Path:
        digest: str = descriptor["digest"]
        return self.directory / "blobs" / digest.replace(":", "/")

    def read(self, descriptor: Any) -> bytes:
        """Return a blob, which has the digest and the size of its descriptor."""
        content = self.blob(descriptor).read_bytes()
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
        assert len(content) == descriptor["size"]
        return content

    def find(self, path: str) -> tarfile.TarInfo:
        """Follow symbolic links as a container does."""
        parts, found = PurePosixPath(path.strip("/")).parts, PurePosixPath()
        for index, part in enumerate(parts):
            member = self.files.get(str(found / part))
            if member is not None and member.issym():
                target = os.path.normpath(str(PurePosixPath("/") / found / member.linkname))
                return self.find(str(PurePosixPath(target, *parts[index + 1 :])))
            found /= part
        return self.files[str(found)]


@pytest.fixture(scope="module", params=os.environ["IMAGES"].split(), ids=os.path.dirname)
def image(request: pytest.FixtureRequest) -> Image:
    return Image(Path(request.param))


def test_blobs_are_those_that_the_manifest_names(image: Image) -> None:
    layers = [image.read(descriptor) for descriptor in image.manifest["layers"]]
    digests = [hashlib.sha256(gzip.decompress(layer)).hexdigest() for layer in layers]
    assert image.config["rootfs"]["diff_ids"] == [f"sha256:{digest}" for digest in digests]


def test_the_entrypoint_is_an_interpreter_and_a_program(image: Image) -> None:
    interpreter, program = image.config["config"]["Entrypoint"]
    assert image.find(interpreter).mode & 0o111
    assert image.find(program).mode & 0o111
    assert "Cmd" not in image.config["config"]


def test_the_user_is_not_root_and_has_no_name_to_look_up(image: Image) -> None:
    uid, _, gid = image.config["config"]["User"].partition(":")
    assert int(uid) > 0
    assert int(gid) > 0


def test_no_image_that_ships_has_a_shell(image: Image) -> None:
    if image.directory.parts[:2] == ("tools", "postgres"):
        pytest.skip("It is for tests, and initdb needs a shell.")
    files = {PurePosixPath(name).name for name, file in image.files.items() if not file.isdir()}
    assert not files & SHELLS


def test_nobody_but_root_may_write_what_is_not_temporary(image: Image) -> None:
    writable = {
        name
        for name, file in image.files.items()
        if not file.issym() and (file.mode & 0o002 or (file.mode & 0o020 and file.gid))
    }
    assert writable <= {"tmp", "var/tmp", "var/local", "var/lock", "var/mail"}


def test_no_image_has_compiled_modules(image: Image) -> None:
    assert not [name for name in image.files if name.endswith(".pyc") or "__pycache__" in name]


def test_layers_have_no_times(image: Image) -> None:
    assert {file.mtime for file in image.files.values()} == {0}


def test_a_change_of_code_moves_little(image: Image) -> None:
    *_, application = image.manifest["layers"]
    assert application["size"] < APPLICATION_BYTES
    with tarfile.open(image.blob(application)) as archive:
        assert "app.runfiles/_main/chassis/settings.py" in archive.getnames()


def test_the_label_of_an_image_is_its_commit(image: Image) -> None:
    revision = image.config["config"]["Labels"]["org.opencontainers.image.revision"]
    commit, _, _ = revision.partition("-")
    assert commit == "unknown" or (len(commit) == 40 and int(commit, 16))
