"""Objects of Kubernetes, read from the files of an overlay or from what kustomize makes of them."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

Object: TypeAlias = dict[str, Any]

WORKLOADS = ("Deployment", "StatefulSet", "Job")
LABEL = "app.kubernetes.io/name"
"""The label by which pods are selected: the name of their workload."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """All objects of one deployment."""

    objects: Sequence[Object]

    def of_kind(self, *kinds: str) -> Iterator[Object]:
        """Yield the objects of some kinds."""
        return (each for each in self.objects if each["kind"] in kinds)

    def find(self, kind: str, name: str) -> Object | None:
        """Return an object by its name."""
        return next((each for each in self.of_kind(kind) if name_of(each) == name), None)

    def workloads(self) -> Iterator[tuple[str, Object]]:
        """Yield the name of each workload, and the template of its pods."""
        for each in self.of_kind(*WORKLOADS):
            yield name_of(each), each["spec"]["template"]

    def containers(self) -> Iterator[tuple[str, Object, Object]]:
        """Yield the name of the workload, the spec of its pod, and the container."""
        for name, template in self.workloads():
            pod = template["spec"]
            for container in [*pod.get("initContainers", ()), *pod["containers"]]:
                yield name, pod, container

    def values(self, kind: str, name: str) -> Mapping[str, str] | None:
        """Return what a ConfigMap or a Secret has in it; None if there is none of the name."""
        found = self.find(kind, name)
        if found is None:
            return None
        data = found.get("data", {})
        if kind == "Secret":
            data = {key: base64.b64decode(value).decode() for key, value in data.items()}
        return {**data, **found.get("stringData", {})}


def name_of(each: Object) -> str:
    """Return the name of an object."""
    name: str = each["metadata"]["name"]
    return name


def parse(text: str) -> Iterator[Object]:
    """Yield the objects of a YAML file."""
    return (each for each in yaml.safe_load_all(text) if each is not None)


def read_files(directory: Path) -> Manifests:
    """Return the objects of a kustomization as its files have them, and those that it generates.

    kustomize is not needed for it: images have no tags yet, and generated names no hashes.
    """
    objects = {(each["kind"], name_of(each)): each for each in _read_kustomization(directory)}
    return Manifests(list(objects.values()))


def _read_kustomization(directory: Path) -> list[Object]:
    (kustomization,) = parse((directory / "kustomization.yaml").read_text())
    objects: list[Object] = []
    for resource in kustomization["resources"]:
        path = directory / resource
        objects += _read_kustomization(path) if path.is_dir() else parse(path.read_text())
    for kind in ("ConfigMap", "Secret"):
        field = f"{kind[0].lower()}{kind[1:]}Generator"
        for generator in kustomization.get(field, ()):
            values = dict(_read_lines(_generator_lines(directory, generator)))
            if generator.get("behavior") == "merge":
                values = {**_find_values(objects, kind, generator["name"]), **values}
            objects.append(make_values(kind, generator["name"], values))
    return objects


def make_values(kind: str, name: str, values: Mapping[str, str]) -> Object:
    """Make a ConfigMap or a Secret."""
    field = "stringData" if kind == "Secret" else "data"
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name},
        field: dict(values),
    }


def _find_values(objects: Sequence[Object], kind: str, name: str) -> Mapping[str, str]:
    return Manifests(objects[::-1]).values(kind, name) or {}


def _generator_lines(directory: Path, generator: Object) -> Iterator[str]:
    for file in generator.get("envs", ()):
        yield from (directory / file).read_text().splitlines()
    yield from generator.get("literals", ())


def _read_lines(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name, value
