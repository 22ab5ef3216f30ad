"""Programs are described as their images are."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from deploy.programs import PROGRAMS, USER_ID, Program

LAYOUTS = {str(Path(each).parent): Path(each) for each in os.environ["IMAGES"].split()}


def read_config(layout: Path) -> Any:
    """Read the config of the image in an OCI image layout (image-spec 1.1)."""
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    blobs = layout / "blobs"
    manifest = json.loads((blobs / entry["digest"].replace(":", "/")).read_bytes())
    digest = manifest["config"]["digest"].replace(":", "/")
    return json.loads((blobs / digest).read_bytes())["config"]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_is_what_its_image_runs(program: Program) -> None:
    config = read_config(LAYOUTS[program.package])
    assert config["Entrypoint"] == list(program.entrypoint)
    assert config["User"] == f"{USER_ID}:{USER_ID}"


def test_every_image_is_of_a_program() -> None:
    assert set(LAYOUTS) == {each.package for each in PROGRAMS}
