"""The manifests keep to every rule, and every rule catches the faults that it is there for."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from deploy.kubernetes import network_rules, pod_rules, setting_rules
from deploy.kubernetes.manifests import Manifests, Object
from deploy.kubernetes.network_rules import (
    check_callers,
    check_databases,
    check_denial,
    check_edge,
    check_services,
)
from deploy.kubernetes.pod_rules import (
    check_availability,
    check_images,
    check_isolation,
    check_privileges,
    check_probes,
    check_resources,
    check_selectors,
)
from deploy.kubernetes.setting_rules import check_addresses, check_names, check_start, check_stop
from deploy.kubernetes.testing import DIRECTORY, SECRETS

pytest_plugins = ["deploy.kubernetes.testing"]

Rule: TypeAlias = Callable[[Manifests], Iterator[str]]
Fault: TypeAlias = Callable[[Manifests], object]

RULES: list[Rule] = [*pod_rules.RULES, *network_rules.RULES, *setting_rules.RULES]


def find(manifests: Manifests, kind: str, name: str = "order") -> Any:
    found = manifests.find(kind, name)
    assert found is not None
    return found


def spec(manifests: Manifests, kind: str = "Deployment", name: str = "order") -> Any:
    return find(manifests, kind, name)["spec"]


def pod(manifests: Manifests, kind: str = "Deployment", name: str = "order") -> Any:
    return spec(manifests, kind, name)["template"]["spec"]


def container(manifests: Manifests, kind: str = "Deployment", name: str = "order") -> Any:
    return pod(manifests, kind, name)["containers"][0]


def remove(manifests: Manifests, kind: str, name: str) -> None:
    objects: Any = manifests.objects
    objects.remove(find(manifests, kind, name))


def add_policy(manifests: Manifests, **fields: object) -> None:
    objects: Any = manifests.objects
    objects.append({"kind": "NetworkPolicy", "metadata": {"name": "more"}, "spec": fields})


def peers(*names: str) -> list[Object]:
    return [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}} for name in names]


ORDER = {"matchLabels": {"app.kubernetes.io/name": "order"}}
GRPC = [{"port": "grpc"}]

FAULTS: list[tuple[Rule, Fault]] = [
    (check_privileges, lambda m: pod(m)["securityContext"].update(runAsNonRoot=False)),
    (check_privileges, lambda m: pod(m)["securityContext"].update(runAsUser=0)),
    (check_privileges, lambda m: pod(m)["securityContext"].pop("seccompProfile")),
    (check_privileges, lambda m: pod(m, "Job", "migrations").pop("securityContext")),
    (check_privileges, lambda m: container(m).pop("securityContext")),
    (check_privileges, lambda m: container(m)["securityContext"].update(privileged=True)),
    (check_privileges, lambda m: container(m)["securityContext"].update(runAsUser=0)),
    (
        check_privileges,
        lambda m: container(m)["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    (
        check_privileges,
        lambda m: container(m)["securityContext"].update(allowPrivilegeEscalation=True),
    ),
    (
        check_privileges,
        lambda m: container(m)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
    ),
    (
        check_privileges,
        lambda m: pod(m).update(initContainers=[{"name": "first", "image": "bazaar/order"}]),
    ),
    (check_isolation, lambda m: pod(m).update(hostNetwork=True)),
    (check_isolation, lambda m: pod(m).pop("automountServiceAccountToken")),
    (check_isolation, lambda m: pod(m).pop("enableServiceLinks")),
    (
        check_isolation,
        lambda m: pod(m)["volumes"].append({"name": "node", "hostPath": {"path": "/"}}),
    ),
    (check_isolation, lambda m: container(m)["ports"][0].update(hostPort=50053)),
    (check_resources, lambda m: container(m).pop("resources")),
    (check_resources, lambda m: container(m)["resources"]["limits"].pop("memory")),
    (check_resources, lambda m: container(m)["resources"]["requests"].pop("cpu")),
    (check_resources, lambda m: pod(m)["volumes"][2].update(emptyDir={})),
    (check_probes, lambda m: container(m).pop("startupProbe")),
    (check_probes, lambda m: container(m, name="gateway").pop("livenessProbe")),
    (check_probes, lambda m: container(m)["readinessProbe"].pop("timeoutSeconds")),
    (check_probes, lambda m: container(m)["readinessProbe"]["exec"]["command"].pop()),
    (check_probes, lambda m: container(m)["livenessProbe"].pop("exec")),
    (
        check_probes,
        lambda m: container(m, name="gateway")["livenessProbe"]["httpGet"].update(path="/readyz"),
    ),
    (check_availability, lambda m: spec(m, "HorizontalPodAutoscaler").update(minReplicas=1)),
    (check_availability, lambda m: remove(m, "HorizontalPodAutoscaler", "user")),
    (check_availability, lambda m: remove(m, "PodDisruptionBudget", "user")),
    (check_availability, lambda m: spec(m, "PodDisruptionBudget").update(maxUnavailable=2)),
    (check_availability, lambda m: spec(m).update(replicas=1)),
    (check_availability, lambda m: spec(m)["strategy"]["rollingUpdate"].update(maxUnavailable=1)),
    (check_availability, lambda m: pod(m)["topologySpreadConstraints"].pop()),
    (
        check_availability,
        lambda m: pod(m)["topologySpreadConstraints"][0].update(labelSelector={}),
    ),
    (check_selectors, lambda m: spec(m)["selector"]["matchLabels"].clear()),
    (check_selectors, lambda m: spec(m)["template"]["metadata"]["labels"].clear()),
    (check_selectors, lambda m: spec(m, "Service").update(selector={})),
    (check_selectors, lambda m: remove(m, "Deployment", "payment")),
    (check_selectors, lambda m: remove(m, "Job", "migrations")),
    (check_denial, lambda m: remove(m, "NetworkPolicy", "default-deny")),
    (
        check_denial,
        lambda m: spec(m, "NetworkPolicy", "default-deny").update(policyTypes=["Ingress"]),
    ),
    (check_denial, lambda m: spec(m, "NetworkPolicy")["ingress"].append({"ports": GRPC})),
    (check_denial, lambda m: spec(m, "NetworkPolicy")["egress"][0].pop("ports")),
    (
        check_denial,
        lambda m: spec(m, "NetworkPolicy").update(podSelector={"matchExpressions": []}),
    ),
    (check_callers, lambda m: remove(m, "NetworkPolicy", "payment")),
    (check_callers, lambda m: spec(m, "NetworkPolicy", "user")["ingress"][0]["from"].pop()),
    (check_callers, lambda m: spec(m, "NetworkPolicy")["egress"].pop()),
    (
        check_callers,
        lambda m: spec(m, "NetworkPolicy")["ingress"][0].update(ports=[{"port": 5005}]),
    ),
    (
        check_callers,
        lambda m: spec(m, "NetworkPolicy")["ingress"][0]["from"].extend(peers("payment")),
    ),
    (
        check_callers,
        lambda m: add_policy(
            m,
            podSelector=ORDER,
            policyTypes=["Ingress"],
            ingress=[{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": GRPC}],
        ),
    ),
    (
        check_callers,
        lambda m: spec(m, "NetworkPolicy", "payment")["egress"].append(
            {"to": peers("order"), "ports": GRPC}
        ),
    ),
    (check_databases, lambda m: remove(m, "NetworkPolicy", "databases")),
    (check_databases, lambda m: spec(m, "NetworkPolicy", "databases").update(podSelector=ORDER)),
    (check_databases, lambda m: spec(m, "NetworkPolicy", "dns")["egress"][0]["ports"].pop()),
    (
        check_edge,
        lambda m: spec(m, "NetworkPolicy", "gateway")["ingress"][0]["from"].extend(peers("order")),
    ),
    (
        check_edge,
        lambda m: spec(m, "NetworkPolicy", "gateway")["ingress"][0].update(
            {"from": [{"namespaceSelector": {}}]}
        ),
    ),
    (check_services, lambda m: spec(m, "Service").pop("clusterIP")),
    (check_services, lambda m: spec(m, "Service")["ports"][0].update(port=443)),
    (check_services, lambda m: spec(m, "Service")["ports"][0].update(targetPort="https")),
    (check_services, lambda m: container(m, name="gateway")["ports"][0].update(name="web")),
    (check_start, lambda m: find(m, "ConfigMap", "settings")["data"].pop("POSTGRES_HOST")),
    (check_start, lambda m: find(m, "ConfigMap", "settings")["data"].update(LOG_LEVEL="loud")),
    (
        check_start,
        lambda m: find(m, "ConfigMap", "settings")["data"].update(ORDERSERVICE_CAPTURE="x"),
    ),
    (check_start, lambda m: find(m, "ConfigMap", "settings")["data"].pop("USERSERVICE_PORT")),
    (
        check_start,
        lambda m: find(m, "ConfigMap", "settings")["data"].update(
            USERSERVICE_KEY_SECRET="in the environment, where it is seen"
        ),
    ),
    (check_start, lambda m: remove(m, "ConfigMap", "settings")),
    (check_start, lambda m: remove(m, "Secret", "payment-secrets")),
    (
        check_start,
        lambda m: find(m, "Secret", "user-secrets")["stringData"].pop(
            "USERSERVICE_DATABASE_PASSWORD"
        ),
    ),
    (check_start, lambda m: container(m)["env"].pop(1)),
    (check_start, lambda m: container(m)["volumeMounts"].pop(0)),
    (check_start, lambda m: pod(m)["volumes"][0]["secret"].update(secretName="user-tls")),
    (
        check_names,
        lambda m: container(m)["env"].append({"name": "APIGATEWAY_PORT", "value": "1"}),
    ),
    (check_names, lambda m: find(m, "ConfigMap", "settings")["data"].update(SHOP_NAME="x")),
    (
        check_names,
        lambda m: find(m, "Secret", "order-secrets")["stringData"].update(SHOP_KEY="x"),
    ),
    (
        check_names,
        lambda m: find(m, "Secret", "order-secrets")["stringData"].update(
            USERSERVICE_DATABASE_PASSWORD="that of another program"
        ),
    ),
    (check_addresses, lambda m: container(m)["env"][0].update(value="127.0.0.1")),
    (check_addresses, lambda m: container(m)["ports"][0].update(containerPort=50051)),
    (
        check_addresses,
        lambda m: find(m, "ConfigMap", "settings")["data"].update(USERSERVICE_HOST="users"),
    ),
    (
        check_addresses,
        lambda m: find(m, "ConfigMap", "settings")["data"].update(APIGATEWAY_PORT="8081"),
    ),
    (check_stop, lambda m: pod(m).pop("shareProcessNamespace")),
    (check_stop, lambda m: pod(m, "Job", "migrations").pop("shareProcessNamespace")),
    (check_stop, lambda m: pod(m).update(terminationGracePeriodSeconds=20)),
    (
        check_stop,
        lambda m: find(m, "ConfigMap", "settings")["data"].update(SERVICE_GRACE_SECONDS="60"),
    ),
    (
        check_stop,
        lambda m: container(m, name="gateway")["lifecycle"]["preStop"]["sleep"].update(seconds=9),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_manifests_keep_to_the_rule(manifests: Manifests, rule: Rule) -> None:
    assert list(rule(manifests)) == []


@pytest.mark.parametrize(
    ("rule", "fault"), FAULTS, ids=[f"{rule.__name__}-{i}" for i, (rule, _) in enumerate(FAULTS)]
)
def test_a_rule_catches_a_seeded_fault(manifests: Manifests, rule: Rule, fault: Fault) -> None:
    fault(manifests)
    assert list(rule(manifests))


def test_every_rule_is_shown_to_catch_a_fault() -> None:
    assert {rule for rule, _ in FAULTS} == set(RULES)


@pytest.mark.parametrize(
    "image",
    [
        "registry.example/bazaar/order:latest",
        "registry.example/bazaar/order",
        "registry.example:5000/bazaar/order",
        "registry.example/bazaar/user:1",
        "bazaar/order@sha256:1",
    ],
)
def test_an_image_without_a_version_or_of_another_program_is_caught(
    manifests: Manifests, image: str
) -> None:
    for name, _, each in manifests.containers():
        each["image"] = f"registry.example:5000/bazaar/{name}:1"
    assert list(check_images(manifests)) == []
    container(manifests)["image"] = image
    (line,) = check_images(manifests)
    assert line.startswith(f"order: {image} ")


def test_the_readme_lists_the_secrets_of_production() -> None:
    rows = (DIRECTORY / "README.md").read_text().splitlines()
    for name, keys in SECRETS.items():
        (row,) = (row for row in rows if row.startswith(f"| `{name}-secrets` |"))
        assert [key for key in keys if f"`{key}`" not in row] == []
