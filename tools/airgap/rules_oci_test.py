"""What the stand-in of rules_oci makes and runs, with made-up packages, engines and registries."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

PRIVATE = Path("tools/airgap/rules_oci/oci/private").resolve()
OPTIONS = {
    "architecture": "",
    "cmd": [],
    "entrypoint": [],
    "env": {},
    "os": "",
    "user": "",
    "workdir": "",
}


def run(*command: object, path: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a program; with a `path`, nothing else is on PATH than that and the shell's own."""
    environment = {"PATH": f"{path or os.environ['PATH']}"}
    arguments = [str(argument) for argument in command]
    return subprocess.run(
        arguments, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def make_layer(path: Path, name: str) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return path


def make_image(output: Path, layer: Path, *arguments: object, **options: object) -> Path:
    """Write a layout, with its digest beside it."""
    file = output.with_suffix(".json")
    file.write_text(json.dumps(OPTIONS | options))
    digest = output.with_suffix(".digest")
    command = ["image", "--digest", digest, "--options", file, "--output", output, *arguments]
    result = run(PRIVATE / "layout", *command, layer)
    assert result.returncode == 0, result.stderr
    return output


def read(layout: Path, digest: str) -> bytes:
    content = (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
    return content


def read_manifest(layout: Path) -> Any:
    return json.loads(read(layout, layout.with_suffix(".digest").read_text()))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    layer = make_layer(tmp_path / "base.tar", "base")
    options = {"env": {"A": "1", "B": "2"}, "cmd": ["sh"], "user": "0"}
    return make_image(tmp_path / "base", layer, os="linux", architecture="amd64", **options)


def test_an_image_is_what_its_base_is_and_more(tmp_path: Path, base: Path) -> None:
    labels = tmp_path / "labels"
    labels.write_text("a.b=c=d\n")
    layer = make_layer(tmp_path / "top.tar", "top")
    options = {"env": {"B": "3"}, "entrypoint": ["/top"], "user": "1", "workdir": "/"}
    layout = make_image(tmp_path / "top", layer, "--base", base, "--labels", labels, **options)
    manifest = read_manifest(layout)
    config = json.loads(read(layout, manifest["config"]["digest"]))
    assert config["config"] == {
        "Entrypoint": ["/top"],
        "Env": ["A=1", "B=3"],
        "Labels": {"a.b": "c=d"},
        "User": "1",
        "WorkingDir": "/",
    }
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    (lowest,) = read_manifest(base)["layers"]
    assert manifest["layers"][0] == lowest
    # They are not compressed, so that they are what they unpack to.
    digests = [descriptor["digest"] for descriptor in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == digests
    assert b"top" in read(layout, digests[1])
    # Nothing else is in it: no configuration of the base.
    assert len(list((layout / "blobs" / "sha256").iterdir())) == 4


def test_the_same_image_has_the_same_bytes(tmp_path: Path, base: Path) -> None:
    layer = make_layer(tmp_path / "top.tar", "top")
    first, second = (make_image(tmp_path / name, layer, "--base", base) for name in ("1", "2"))
    for path in first.rglob("*"):
        copy = second / path.relative_to(first)
        assert path.is_dir() or path.read_bytes() == copy.read_bytes()


def make_engine(directory: Path, name: str) -> None:
    """Make a program that prints its name and its arguments."""
    directory.mkdir(exist_ok=True)
    program = directory / name
    program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
    program.chmod(0o755)


def test_an_archive_has_the_tags_and_the_layers(tmp_path: Path, base: Path) -> None:
    tags, archive = tmp_path / "tags", tmp_path / "archive.tar"
    tags.write_text("shop/program:1\nshop/program:2\n")
    packed = ["archive", "--image", base, "--output", archive, "--repo_tags", tags]
    assert run(PRIVATE / "layout", *packed).returncode == 0
    with tarfile.open(archive) as members:
        names = members.getnames()
        manifest = members.extractfile("manifest.json")
        assert manifest is not None
        (image,) = json.load(manifest)
    assert image["RepoTags"] == ["shop/program:1", "shop/program:2"]
    assert {image["Config"], *image["Layers"]} <= set(names)
    # By its index, podman would load it without tags.
    assert not {"index.json", "oci-layout"} & set(names)


@pytest.mark.parametrize(
    ("engines", "engine"), [(("docker", "podman"), "docker"), (("podman",), "podman")]
)
def test_an_image_is_loaded_into_the_engine_of_the_machine(
    tmp_path: Path, engines: tuple[str, ...], engine: str
) -> None:
    for name in engines:
        make_engine(tmp_path / "bin", name)
    result = run(PRIVATE / "load.sh", "image.tar", path=tmp_path / "bin")
    assert result.stdout == f"{engine} load --input image.tar\n"


def test_a_machine_without_an_engine_is_told(tmp_path: Path) -> None:
    result = run(PRIVATE / "load.sh", "image.tar", path=tmp_path)
    assert result.returncode == 1
    assert "no container engine is on PATH" in result.stderr


@pytest.fixture
def tags(tmp_path: Path) -> Path:
    make_engine(tmp_path / "bin", "skopeo")
    (tmp_path / "bin" / "cat").symlink_to(str(shutil.which("cat")))
    (tmp_path / "tags").write_text("abc\n")
    return tmp_path / "tags"


def push(tags: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [PRIVATE / "push.sh", "layout", tags, "here/program", *arguments]
    return run(*command, path=tags.with_name("bin"))


def test_an_image_is_pushed_with_its_tags(tags: Path) -> None:
    assert push(tags).stdout == "skopeo copy oci:layout docker://here/program:abc\n"
    elsewhere = push(tags, "--repository", "there/program", "--tag", "1.0")
    assert elsewhere.stdout.splitlines() == [
        "skopeo copy oci:layout docker://there/program:abc",
        "skopeo copy oci:layout docker://there/program:1.0",
    ]


@pytest.mark.parametrize("arguments", [["--tag"], ["--force", "yes"]])
def test_a_wrong_command_line_pushes_nothing(tags: Path, arguments: list[str]) -> None:
    result = push(tags, *arguments)
    assert result.returncode == 2
    assert result.stdout == ""


CONTROL = "Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: b\n"
FILES = {
    "c-library": ("lib/machine/libc.so", "usr/share/doc/c-library/{copyright,changelog}"),
    "ca": ("usr/share/ca-certificates/mozilla/{b,a}.crt", "usr/sbin/update"),
    "python": ("usr/bin/python3.11", "usr/bin/pdb3.11", "usr/lib/python3.11/os.py", "bin/ls"),
}


def make_package(directory: Path, name: str) -> None:
    root = directory / name
    for pattern in FILES[name]:
        before, _, rest = pattern.partition("{")
        alternatives, _, after = rest.partition("}")
        for middle in alternatives.split(","):
            file = root / f"{before}{middle}{after}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{file.stem}\n")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN" / "control").write_text(CONTROL.format(name=name))
    build = ["dpkg-deb", "--root-owner-group", "--build", root, directory / f"{name}.deb"]
    assert run(*build).returncode == 0


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="this is not a Debian system")
def test_a_base_image_has_libraries_certificates_and_python_only(tmp_path: Path) -> None:
    for name in FILES:
        make_package(tmp_path, name)
    layers = [tmp_path / "first.tar.gz", tmp_path / "second.tar.gz"]
    for layer in layers:
        command = [PRIVATE / "debian_base.py", tmp_path, layer, "/opt/python/bin/python3.11"]
        result = run(sys.executable, *command)
        assert result.returncode == 0, result.stderr
    assert layers[0].read_bytes() == layers[1].read_bytes()
    with tarfile.open(layers[0]) as archive:
        files = {member.name for member in archive if member.isfile()}
        links = {member.name: member.linkname for member in archive if member.issym()}
        bundle = archive.extractfile("etc/ssl/certs/ca-certificates.crt")
        assert bundle is not None
        assert bundle.read() == b"a\nb\n"
        assert archive.getmember("tmp").mode == 0o1777
        assert {member.mtime for member in archive} == {0}
    assert files == {
        "etc/group",
        "etc/nsswitch.conf",
        "etc/passwd",
        "etc/ssl/certs/ca-certificates.crt",
        "usr/bin/python3.11",
        "usr/lib/machine/libc.so",
        "usr/lib/python3.11/os.py",
        "usr/share/doc/c-library/copyright",
    }
    assert links == {
        "bin": "usr/bin",
        "lib": "usr/lib",
        "lib64": "usr/lib64",
        "opt/python/bin/python3.11": "/usr/bin/python3",
        "sbin": "usr/sbin",
        "usr/bin/python3": "python3.11",
    }
