"""Compose takes the stack, and reads it as the rules do.

It needs docker-compose 2 on PATH: `./bazelw test --config=compose //deploy/...`.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from deploy.stack.stack_file import SECRETS, Stack, read_files, targets

DIRECTORY = Path(__file__).parent
DEVELOPMENT = [DIRECTORY / "stack.yaml"]
PRODUCTION = [*DEVELOPMENT, DIRECTORY / "production.yaml"]
VARIABLES = {
    "CONFIG_VERSION": "2",
    "REGISTRY": "registry.example/",
    "SECRETS_DIRECTORY": "/secrets",
    "TAG": "1",
}


def run_compose(files: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    options = [f"--file={file}" for file in files]
    command = ["docker-compose", *options, "config", "--format=json"]
    variables = {"PATH": os.environ["PATH"], **VARIABLES}
    return subprocess.run(
        command, env=variables, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(scope="module", params=[DEVELOPMENT, PRODUCTION], ids=["development", "production"])
def files(request: pytest.FixtureRequest) -> Sequence[Path]:
    paths: Sequence[Path] = request.param
    return paths


@pytest.fixture(scope="module")
def found(files: Sequence[Path]) -> dict[str, Any]:
    result = run_compose(files)
    assert result.returncode == 0, result.stderr
    content: dict[str, Any] = json.loads(result.stdout)
    return content


@pytest.fixture(scope="module")
def stack(files: Sequence[Path]) -> Stack:
    return read_files(files, VARIABLES)


def test_services_are_what_the_rules_read(found: dict[str, Any], stack: Stack) -> None:
    # Compose leaves out services that have no replicas.
    replicas = {name: each["deploy"].get("replicas") for name, each in stack.services.items()}
    assert found["services"].keys() >= {name for name, count in replicas.items() if count != 0}
    for name, each in found["services"].items():
        service = stack.services[name]
        assert each["image"] == service["image"]
        assert each.get("environment", {}) == service.get("environment", {})
        assert each["networks"].keys() == set(service["networks"])
        assert each.get("init") == service.get("init")
        mounted = {(one["source"], _find_target(one)) for one in each["secrets"]}
        assert mounted == set(targets(service))


def _find_target(secret: dict[str, str]) -> PurePosixPath:
    return PurePosixPath(SECRETS, secret.get("target") or secret["source"])


@pytest.mark.parametrize("kind", ["configs", "secrets"])
def test_files_are_what_the_rules_read(found: dict[str, Any], stack: Stack, kind: str) -> None:
    for name, each in found[kind].items():
        expected = stack.content[kind][name]
        assert each["name"] == expected["name"]
        assert each["file"] == str(stack.directory / expected["file"])


def test_a_misspelt_field_is_refused(tmp_path: Path) -> None:
    content = (DIRECTORY / "stack.yaml").read_text()
    assert "stop_grace_period:" in content
    misspelt = tmp_path / "stack.yaml"
    misspelt.write_text(content.replace("stop_grace_period:", "stop_grace_seconds:"))
    assert "stop_grace_seconds" in run_compose([misspelt]).stderr
