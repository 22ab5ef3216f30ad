"""What kustomize makes of the overlays keeps to the rules and the schemas as well.

It needs kubectl on PATH: `./bazelw test --config=kubectl //deploy/...`.
"""

import shutil
import subprocess

import kubernetes_validate
import pytest

from deploy.kubernetes import network_rules, pod_rules, setting_rules
from deploy.kubernetes.manifests import Manifests, name_of, parse, read_files
from deploy.kubernetes.network_rules import check_databases
from deploy.kubernetes.pod_rules import check_images
from deploy.kubernetes.setting_rules import load
from deploy.kubernetes.testing import DIRECTORY, OVERLAYS, VERSIONS, make_secrets
from deploy.programs import PROGRAMS

(MIGRATIONS,) = (each for each in PROGRAMS if each.name == "migrations")
RULES = [*pod_rules.RULES, check_images, *network_rules.RULES, *setting_rules.RULES]


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def rendered(overlay: str, tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    # Bazel's files are links to others, which kustomize does not follow.
    copied = shutil.copytree(DIRECTORY, tmp_path_factory.mktemp("deploy") / "kubernetes")
    command = ["kubectl", "kustomize", str(copied / overlay)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return Manifests([*parse(result.stdout), *make_secrets(overlay)])


def test_it_keeps_to_the_rules(rendered: Manifests) -> None:
    assert [line for rule in RULES for line in rule(rendered)] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_strictly_valid(rendered: Manifests, version: str) -> None:
    for each in rendered.objects:
        assert kubernetes_validate.validate(each, version, strict=True) == version, name_of(each)


def test_it_has_the_objects_of_the_files_and_no_others(overlay: str, rendered: Manifests) -> None:
    expected = Manifests([*read_files(DIRECTORY / overlay).objects, *make_secrets(overlay)])
    assert len(rendered.objects) == len(expected.objects)
    for each in expected.objects:
        if each["kind"] not in ("ConfigMap", "Secret"):
            assert rendered.find(each["kind"], name_of(each)), name_of(each)


def test_what_the_migrations_need_can_be_applied_before_the_rest(
    overlay: str, rendered: Manifests
) -> None:
    label = ("app.kubernetes.io/component", "migrations")
    first = [
        each for each in rendered.objects if label in each["metadata"].get("labels", {}).items()
    ]
    given = [] if overlay == "development" else make_secrets(overlay)
    outcome = load(Manifests([*first, *given]), MIGRATIONS)
    assert not outcome.problems
    kinds = {each["kind"] for each in first}
    assert {"ConfigMap", "Job", "Namespace", "NetworkPolicy"} <= kinds
    assert not kinds & {"Deployment", "HorizontalPodAutoscaler", "Ingress"}
    allowed = [line for line in check_databases(Manifests(first)) if "migrations" in line]
    assert allowed == []
