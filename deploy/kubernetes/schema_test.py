"""Every file of a manifest is strictly valid for the versions of Kubernetes that we support."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from deploy.kubernetes.manifests import Object, name_of, parse
from deploy.kubernetes.testing import DIRECTORY, VERSIONS

FILES = sorted(path for path in DIRECTORY.glob("*/*.yaml") if path.name != "kustomization.yaml")


def read(path: Path) -> list[Object]:
    return list(parse(path.read_text()))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_has_objects_of_known_kinds_and_no_unknown_field(path: Path, version: str) -> None:
    objects = read(path)
    assert objects
    for each in objects:
        assert kubernetes_validate.validate(each, version, strict=True) == version, name_of(each)


FAULTS: list[Callable[[Any], object]] = [
    lambda deployment: deployment["spec"]["template"]["spec"].update(hostNetworks=False),
    lambda deployment: deployment["spec"].update(replicas="two"),
    lambda deployment: deployment["spec"].pop("selector"),
    lambda deployment: deployment["spec"]["template"]["spec"]["containers"][0].pop("name"),
    lambda deployment: deployment.update(spce={}),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_misspelt_wrong_or_missing_field_is_caught(
    version: str, fault: Callable[[Any], object]
) -> None:
    order = read(DIRECTORY / "base/order.yaml")
    (deployment,) = (copy.deepcopy(each) for each in order if each["kind"] == "Deployment")
    fault(deployment)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, version, strict=True)


def test_a_kind_that_a_version_does_not_have_is_caught() -> None:
    gone = {"apiVersion": "policy/v1beta1", "kind": "PodSecurityPolicy", "metadata": {"name": "x"}}
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        kubernetes_validate.validate(gone, VERSIONS[0], strict=True)


@pytest.mark.parametrize("overlay", ["base", "development", "production"])
def test_every_file_is_in_the_kustomization(overlay: str) -> None:
    (kustomization,) = read(DIRECTORY / overlay / "kustomization.yaml")
    resources = {each for each in kustomization["resources"] if not each.startswith("..")}
    assert resources == {path.name for path in FILES if path.parent.name == overlay}
