"""Compares what Python sources import with the deps of their Bazel targets.

Bazel puts the deps of a target's deps on its path too, so an import may work only because another
target needs the same module, until that target changes. Here each module that a target imports has
to come from its own srcs or its direct deps, and each dep has to be imported.
"""

import ast
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

# Who provides a module, where it is not a target with the module's file or a wheel of its name.
_PROVIDERS = {
    "argon2": {"@pydeps//argon2_cffi"},
    "cyclonedx": {"@pydeps//cyclonedx_python_lib"},
    "google": {"@pydeps//googleapis_common_protos"},
    "google.protobuf": {"@pydeps//protobuf"},
    "grpc": {"@pydeps//grpcio"},
    "dns": {"@pydeps//dnspython"},
    "grpc_health": {"@pydeps//grpcio_health_checking"},
    "grpc_reflection": {"@pydeps//grpcio_reflection"},
    "grpc_tools": {"@pydeps//grpcio_tools"},
    "jwt": {"@pydeps//pyjwt"},
    "packageurl": {"@pydeps//packageurl_python"},
    "pytest": {"@pydeps//pytest", "//tools/testing:pytest"},
    "pytest_asyncio": {"@pydeps//pytest_asyncio", "//tools/testing:pytest"},
    "yaml": {"@pydeps//pyyaml"},
}

Providers: TypeAlias = Mapping[str, set[str]]
"""The labels of the targets that provide a module, by the module's name."""


@dataclass(frozen=True, slots=True)
class Target:
    """A py_library, py_binary or py_test, with the labels of its direct deps."""

    label: str
    srcs: list[Path]
    deps: list[str]

    @property
    def modules(self) -> list[str]:
        """The modules of the srcs; for those of a py_grpc_library, their package."""
        if self.label.endswith("_py_grpc"):
            package = self.label.partition(":")[0].rpartition("/proto/")[2]
            return [package.replace("/", ".")]
        return [".".join(source.with_suffix("").parts) for source in self.srcs]


def read_targets(files: Iterable[str]) -> list[Target]:
    """Read the JSON files that lint_sources writes, one for each package."""
    return [
        Target(target["label"], [Path(src) for src in target["srcs"]], target["deps"])
        for file in files
        for target in json.loads(Path(file).read_text(encoding="utf-8"))
    ]


def find_providers(targets: Iterable[Target]) -> Providers:
    """Return the providers of each module, but for wheels with the name of their module."""
    providers = defaultdict[str, set[str]](set, _PROVIDERS)
    for target in targets:
        for module in target.modules:
            providers[module].add(target.label)
    return providers


def find_missing(target: Target, providers: Providers) -> Iterator[str]:
    """Yield a line for each import of what neither the srcs nor the direct deps provide."""
    direct = {target.label, *target.deps}
    for source in target.srcs:
        for line, name in _find_imports(source):
            labels = _resolve(name, providers)
            if labels and not labels & direct:
                dep = " or ".join(sorted(labels))
                yield f"{source}:{line}: {target.label} imports {name} without the dep {dep}"


def find_superfluous(target: Target, providers: Providers) -> Iterator[str]:
    """Yield each dep of a target that no source of it imports anything from."""
    imports = [name for source in target.srcs for _, name in _find_imports(source)]
    used = set[str]().union(*(_resolve(name, providers) for name in imports))
    return (dep for dep in target.deps if dep not in used)


def _find_imports(source: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of each import, within functions and blocks too."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)
            case ast.Assign(targets=[ast.Name(id="pytest_plugins")], value=plugins):
                yield from ((node.lineno, name) for name in ast.literal_eval(plugins))


def _resolve(name: str, providers: Providers) -> set[str]:
    """Return the labels that provide an imported module or the module of an imported name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if labels := providers.get(".".join(parts[:length])):
            return labels
    return set() if parts[0] in sys.stdlib_module_names else {f"@pydeps//{parts[0]}"}
