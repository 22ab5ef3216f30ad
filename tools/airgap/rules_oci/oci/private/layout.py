"""Writes OCI image layouts (image-spec 1.1) and the archives that container engines load.

Two commands: `image` makes a layout from layers over an optional base, `archive` packs a layout for
`docker load`. Everything is reproducible: no clock, no machine and no order of a file system shows
in the output.
"""

import argparse
import gzip
import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

Json = dict[str, Any]

CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
GZIP_MAGIC = b"\x1f\x8b"
EPOCH = "1970-01-01T00:00:00Z"

# Attributes of oci_image and the configuration's keys that they replace.
REPLACED = {"cmd": "Cmd", "entrypoint": "Entrypoint", "user": "User", "workdir": "WorkingDir"}
PLATFORM = ("architecture", "os")


class Layout:
    """One OCI image layout directory; its index.json is written last."""

    def __init__(self, directory: Path) -> None:
        """Open a layout, or begin an empty one."""
        self.directory = directory
        self.blobs = directory / "blobs" / "sha256"
        self.blobs.mkdir(parents=True, exist_ok=True)

    def read(self, descriptor: Json) -> Any:
        """Read a JSON blob."""
        return json.loads(self.blob(descriptor).read_bytes())

    def blob(self, descriptor: Json) -> Path:
        """Return where a blob lies."""
        digest: str = descriptor["digest"]
        return self.blobs / digest.removeprefix("sha256:")

    def entries(self) -> list[Json]:
        """Return the descriptors of the layout's index."""
        index: Json = json.loads((self.directory / "index.json").read_bytes())
        return list(index["manifests"])

    def add_json(self, document: Json, media_type: str) -> Json:
        """Add a JSON blob and return its descriptor."""
        content = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
        digest = hashlib.sha256(content).hexdigest()
        (self.blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def add_layer(self, tar: Path) -> tuple[Json, str]:
        """Add a tar, compressed or not; return its descriptor and its uncompressed digest."""
        with tar.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            compressed = file.read(2) == GZIP_MAGIC
        diff = digest
        if compressed:
            with gzip.open(tar, "rb") as file:
                diff = hashlib.file_digest(file, "sha256").hexdigest()
        shutil.copyfile(tar, self.blobs / digest)
        media_type = LAYER + ("+gzip" if compressed else "")
        descriptor = {
            "mediaType": media_type,
            "digest": f"sha256:{digest}",
            "size": tar.stat().st_size,
        }
        return descriptor, f"sha256:{diff}"

    def copy_blobs(self, other: "Layout") -> None:
        """Take over every blob of another layout."""
        for blob in other.blobs.iterdir():
            shutil.copyfile(blob, self.blobs / blob.name)

    def finish(self, manifests: list[Json]) -> None:
        """Write the layout's index and its mark."""
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        (self.directory / "index.json").write_text(json.dumps(index, indent=2, sort_keys=True))
        (self.directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def merge_environment(inherited: list[str], added: dict[str, str]) -> list[str]:
    """Add variables to those of an image; a new value replaces an old one."""
    merged = dict(variable.split("=", 1) for variable in inherited) | added
    return [f"{name}={value}" for name, value in merged.items()]


def read_labels(file: Path) -> dict[str, str]:
    """Read a file with a line NAME=VALUE for each label."""
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if line)


def apply_options(config: Json, options: Json, labels: dict[str, str]) -> None:
    """Change an image's configuration by the attributes of oci_image that were given."""
    run = config.setdefault("config", {})
    if options["entrypoint"]:
        run.pop("Cmd", None)  # A base's arguments are not this program's.
    for option, key in REPLACED.items():
        if options[option]:
            run[key] = options[option]
    if labels:
        run["Labels"] = {**run.get("Labels", {}), **labels}
    if options["env"]:
        run["Env"] = merge_environment(run.get("Env", []), options["env"])
    config.update({key: options[key] for key in PLATFORM if options[key]})


def write_image(arguments: argparse.Namespace) -> None:
    """Write the layout of one image: a base's layers, then the given ones."""
    options: Json = json.loads(arguments.options.read_text())
    layout = Layout(arguments.output)
    config: Json = {"rootfs": {"type": "layers", "diff_ids": []}, "history": []}
    layers: list[Json] = []
    if arguments.base:
        base = Layout(arguments.base)
        (entry,) = base.entries()
        layout.copy_blobs(base)
        manifest = layout.read(entry)
        layers, config = manifest["layers"], layout.read(manifest["config"])
        for stale in (entry, manifest["config"]):
            layout.blob(stale).unlink()
    config["created"] = EPOCH
    apply_options(config, options, read_labels(arguments.labels) if arguments.labels else {})
    for tar in arguments.layers:
        descriptor, diff = layout.add_layer(tar)
        layers.append(descriptor)
        config["rootfs"]["diff_ids"].append(diff)
        step = {"created": EPOCH, "created_by": "bazel"}
        config.setdefault("history", []).append(step)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.add_json(config, CONFIG),
        "layers": layers,
    }
    platform = {key: config[key] for key in PLATFORM if key in config}
    entry = layout.add_json(manifest, MANIFEST)
    layout.finish([{**entry, "platform": platform}])
    arguments.digest.write_text(entry["digest"])


def write_archive(arguments: argparse.Namespace) -> None:
    """Write a tar for docker and podman: blobs and Docker's manifest.json, which has the tags.

    With the index of the layout as well, podman would read that, and load an image without tags.
    """
    image = Layout(arguments.image)
    (entry,) = image.entries()
    manifest = image.read(entry)
    tags = [line for line in arguments.repo_tags.read_text().splitlines() if line]
    names = [str(image.blob(each).relative_to(image.directory)) for each in manifest["layers"]]
    config = str(image.blob(manifest["config"]).relative_to(image.directory))
    docker = arguments.output.with_name(arguments.output.name + ".manifest.json")
    docker.write_text(json.dumps([{"Config": config, "RepoTags": tags, "Layers": names}]))
    members = {
        path.relative_to(image.directory): path for path in image.directory.glob("blobs/*/*")
    }
    members[Path("manifest.json")] = docker
    with tarfile.open(arguments.output, "w") as archive:
        for name, path in sorted(members.items()):
            if path.is_file():
                add_file(archive, str(name), path)
    docker.unlink()


def add_file(archive: tarfile.TarFile, name: str, path: Path) -> None:
    """Add a file with nothing of this machine in its header."""
    header = tarfile.TarInfo(name)
    header.size = path.stat().st_size
    header.mode = 0o644
    with path.open("rb") as content:
        archive.addfile(header, content)


def main() -> None:
    """Run the command in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    image = commands.add_parser("image")
    image.add_argument("--base", type=Path)
    image.add_argument("--digest", type=Path, required=True)
    image.add_argument("--labels", type=Path)
    image.add_argument("--options", type=Path, required=True)
    image.add_argument("--output", type=Path, required=True)
    image.add_argument("layers", type=Path, nargs="*")
    image.set_defaults(run=write_image)
    archive = commands.add_parser("archive")
    archive.add_argument("--image", type=Path, required=True)
    archive.add_argument("--output", type=Path, required=True)
    archive.add_argument("--repo_tags", type=Path, required=True)
    archive.set_defaults(run=write_archive)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
