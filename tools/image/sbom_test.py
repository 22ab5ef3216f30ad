"""The bills of materials: valid CycloneDX, of the wheels that are in the images and no others."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools.image import sbom

METADATA = "Metadata-Version: 2.4\nName: Typing_Extensions\nVersion: {}\nLicense-Expression: MIT\n"
LOCK = "typing-extensions[a]==1.2 \\\n    --hash=sha256:00\n    # via somebody==3\n"


def read_components(file: str) -> dict[str, str]:
    document = json.loads(Path(file).read_text(encoding="utf-8"))
    return {component["name"]: component["version"] for component in document["components"]}


@pytest.mark.parametrize("file", os.environ["SBOMS"].split(), ids=os.path.dirname)
def test_the_bill_of_an_image_is_valid(file: str) -> None:
    document = Path(file).read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None


@pytest.mark.parametrize("file", os.environ["SBOMS"].split(), ids=os.path.dirname)
def test_the_bill_of_an_image_has_what_it_runs_and_no_tool_of_the_build(file: str) -> None:
    found = read_components(file)
    assert "pydantic" in found
    assert ("grpcio" in found) is ("services" in file or file.startswith("gateway"))
    assert ("falcon" in found) is file.startswith("gateway")
    assert not {"pytest", "mypy", "cyclonedx-python-lib"} & found.keys()


def write_bill(directory: Path, version: str) -> str:
    layer, lock, output = directory / "layer.tar", directory / "lock", directory / "output"
    content = METADATA.format(version).encode()
    with tarfile.open(layer, "w") as archive:
        member = tarfile.TarInfo("a/site-packages/typing_extensions-1.dist-info/METADATA")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        archive.addfile(tarfile.TarInfo("a/site-packages/other/METADATA"))
    lock.write_text(LOCK)
    arguments = ["--image=shop", f"--lock={lock}", f"--output={output}", str(layer)]
    sbom.main(arguments)
    return output.read_text()


def test_a_wheel_has_its_name_version_and_licence(tmp_path: Path) -> None:
    first, second = write_bill(tmp_path, "1.2"), write_bill(tmp_path, "1.2")
    assert first == second
    (component,) = json.loads(first)["components"]
    assert component == {
        "bom-ref": "pkg:pypi/typing-extensions@1.2",
        "licenses": [{"license": {"id": "MIT"}}],
        "name": "typing-extensions",
        "purl": "pkg:pypi/typing-extensions@1.2",
        "type": "library",
        "version": "1.2",
    }


def test_a_wheel_that_is_not_the_locked_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        write_bill(tmp_path, "1.3")
    assert raised.value.code == "typing-extensions 1.3 is in the image, and 1.2 in the lock."
