"""Writes the software bill of materials of an image, as CycloneDX 1.6 in JSON.

It has the wheels that are in the image, with the versions of the lock, and says nothing about when
it was made: the same image has the same one.
"""

import argparse
import json
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from email import message_from_bytes
from email.message import Message
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s\\;]+)", re.MULTILINE)
_METADATA = re.compile(r"/site-packages/[^/]+\.dist-info/METADATA$")


def read_lock(text: str) -> dict[str, str]:
    """Return the versions of a requirements lock by normalised names."""
    return {normalise(name): version for name, version in _PIN.findall(text)}


def normalise(name: str) -> str:
    """Return the name of a package as it is compared (PyPA specifications, name normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_metadata(layer: Path) -> Iterator[Message]:
    """Yield the core metadata of each wheel in a layer."""
    with tarfile.open(layer) as archive:
        for member in archive:
            content = archive.extractfile(member) if _METADATA.search(member.name) else None
            if content is not None:
                yield message_from_bytes(content.read())


def make_component(metadata: Message, locked: dict[str, str]) -> Component:
    """Describe a wheel; end the program with status 1 if it is not the locked one."""
    name, version = normalise(metadata["Name"]), metadata["Version"]
    if locked.get(name) != version:
        sys.exit(f"{name} {version} is in the image, and {locked.get(name)} in the lock.")
    url = PackageURL("pypi", name=name, version=version)
    license_text = metadata["License-Expression"] or metadata["License"]
    # Some have the whole text of a licence there.
    is_named = license_text and "\n" not in license_text
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=str(url),
        purl=url,
        licenses=[LicenseFactory().make_from_string(license_text)] if is_named else [],
    )


def write_bom(image: str, components: Iterable[Component]) -> str:
    """Return the document."""
    root = Component(name=image, type=ComponentType.CONTAINER, bom_ref=image)
    bom = Bom(components=components)
    bom.metadata.component = root
    bom.register_dependency(root, bom.components)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["serialNumber"], document["metadata"]["timestamp"]
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def main(command_line: Sequence[str] | None = None) -> None:
    """Write the document that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", required=True)
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("layers", type=Path, nargs="+")
    arguments = parser.parse_args(command_line)
    locked = read_lock(arguments.lock.read_text(encoding="utf-8"))
    wheels = [wheel for layer in arguments.layers for wheel in read_metadata(layer)]
    document = write_bom(arguments.image, [make_component(wheel, locked) for wheel in wheels])
    arguments.output.write_text(document, encoding="utf-8")


if __name__ == "__main__":
    main()
