"""Rules for pods: what they may do, what they may use, and how it is known that they serve."""

import re
from collections.abc import Iterator, Mapping

from chassis.health import TIMEOUT_SECONDS, Command
from deploy.kubernetes.manifests import LABEL, Manifests, Object, name_of
from deploy.programs import PROGRAMS, USER_ID, Program, find_repository

# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
_POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_VOLUMES = {"emptyDir", "projected", "secret"}
_HOST_FIELDS = {"hostIPC", "hostNetwork", "hostPID"}
_RESOURCES = {"cpu", "ephemeral-storage", "memory"}
_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
_ACTIONS = {"exec", "grpc", "httpGet", "tcpSocket"}
_STRATEGY = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
_TOPOLOGY = ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
_IMAGE = re.compile(
    r"(?P<repository>(?:[^/@]+/)*[^/:@]+)(?::(?P<tag>[\w.-]+))?(?P<digest>@sha256:[0-9a-f]{64})?"
)


def check_privileges(manifests: Manifests) -> Iterator[str]:
    """Programs are not root, have no capabilities, and write to no file but in their volumes."""
    for name, template in manifests.workloads():
        if template["spec"].get("securityContext") != _POD_SECURITY:
            yield f"{name}: the security context of its pods must be {_POD_SECURITY}"
    for name, _, container in manifests.containers():
        if container.get("securityContext") != _CONTAINER_SECURITY:
            context = f"the security context of {container['name']}"
            yield f"{name}: {context} must be {_CONTAINER_SECURITY}"


def check_isolation(manifests: Manifests) -> Iterator[str]:
    """Pods see nothing of their node, and nothing of the cluster but what they ask DNS for."""
    for name, template in manifests.workloads():
        pod = template["spec"]
        yield from (f"{name}: {field} must not be set" for field in sorted(_HOST_FIELDS & set(pod)))
        for field in ("automountServiceAccountToken", "enableServiceLinks"):
            if pod.get(field) is not False:
                yield f"{name}: {field} must be false"
        for volume in pod.get("volumes", ()):
            if not _VOLUMES & set(volume):
                yield f"{name}: the volume {volume['name']} must be one of {sorted(_VOLUMES)}"
    for name, _, container in manifests.containers():
        if any("hostPort" in port for port in container.get("ports", ())):
            yield f"{name}: hostPort must not be set"


def check_resources(manifests: Manifests) -> Iterator[str]:
    """What a container may use is bounded, and what it needs is known to the scheduler."""
    for name, pod, container in manifests.containers():
        for kind in ("requests", "limits"):
            missing = _RESOURCES - set(container.get("resources", {}).get(kind, {}))
            if missing:
                yield f"{name}: {container['name']} has no {kind} of {sorted(missing)}"
        for volume in pod.get("volumes", ()):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{name}: the volume {volume['name']} has no sizeLimit"


def check_probes(manifests: Manifests) -> Iterator[str]:
    """What serves is asked for its health, as its image can say it."""
    expected = {each.name: _make_actions(each) for each in PROGRAMS if each.prefix}
    for each in manifests.of_kind("Deployment", "StatefulSet"):
        (container, *_), name = each["spec"]["template"]["spec"]["containers"], name_of(each)
        for field in _PROBES:
            probe = container.get(field, {})
            action = {key: value for key, value in probe.items() if key in _ACTIONS}
            if not action or action != expected.get(name, {}).get(field, action):
                yield f"{name}: its {field} is wrong or missing"
            elif name in expected and probe.get("timeoutSeconds", 1) < TIMEOUT_SECONDS:
                yield f"{name}: the timeout of its {field} is less than {TIMEOUT_SECONDS} s"


def _make_actions(program: Program) -> Mapping[str, Object]:
    """Return by what a program is asked whether it serves, and whether it is ready."""
    health, ready = (
        {"exec": {"command": [*program.entrypoint, command.value]}}
        if program.is_service
        else {"httpGet": {"path": path, "port": "http"}}
        for command, path in ((Command.HEALTH, "/healthz"), (Command.READY, "/readyz"))
    )
    return dict(zip(_PROBES, (health, health, ready), strict=True))


def check_images(manifests: Manifests) -> Iterator[str]:
    """Every image has a version, and is that of its program."""
    for name, _, container in manifests.containers():
        image = container["image"]
        parts = _IMAGE.fullmatch(image)
        if parts is None or not (parts["digest"] or (parts["tag"] or "latest") != "latest"):
            yield f"{name}: {image} needs a digest or a tag that is not latest"
        elif not f"/{parts['repository']}".endswith(f"/{find_repository(name)}"):
            yield f"{name}: {image} is not an image of {find_repository(name)}"


def check_availability(manifests: Manifests) -> Iterator[str]:
    """Programs have two replicas at least, apart from each other, of which one at most is away."""
    scalers = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]
        for each in manifests.of_kind("HorizontalPodAutoscaler")
    }
    for each in manifests.of_kind("Deployment"):
        name, spec = name_of(each), each["spec"]
        if scalers.get(name, {}).get("minReplicas", 1) < 2:
            yield f"{name}: no HorizontalPodAutoscaler keeps two replicas of it"
        if "replicas" in spec:
            yield f"{name}: replicas are for its HorizontalPodAutoscaler to say"
        if spec.get("strategy") != _STRATEGY:
            yield f"{name}: its strategy must be {_STRATEGY}"
        if _find_spread(spec["template"]["spec"], name) != set(_TOPOLOGY):
            yield f"{name}: its replicas must be spread over {_TOPOLOGY}"
        budget = manifests.find("PodDisruptionBudget", name)
        if budget is None or budget["spec"] != {"maxUnavailable": 1, "selector": _select(name)}:
            yield f"{name}: no PodDisruptionBudget lets only one replica of it be evicted"


def _find_spread(pod: Object, name: str) -> set[str]:
    constraints = pod.get("topologySpreadConstraints", ())
    return {each["topologyKey"] for each in constraints if each["labelSelector"] == _select(name)}


def _select(name: str) -> Object:
    return {"matchLabels": {LABEL: name}}


def check_selectors(manifests: Manifests) -> Iterator[str]:
    """Workloads and Services select the pods of their own name, and no others."""
    for each in manifests.of_kind("Deployment", "StatefulSet"):
        name, spec = name_of(each), each["spec"]
        if spec["selector"] != _select(name):
            yield f"{name}: its selector must be {_select(name)}"
    for name, template in manifests.workloads():
        if template["metadata"]["labels"].get(LABEL) != name:
            yield f"{name}: its pods need the label {LABEL}"
    names = {name for name, _ in manifests.workloads()}
    for each in manifests.of_kind("Service"):
        if each["spec"]["selector"] != {LABEL: name_of(each)} or name_of(each) not in names:
            yield f"{name_of(each)}: a Service must select the workload of its name"
    for program in PROGRAMS:
        if program.name not in names:
            yield f"{program.name}: there is no workload of this name"


RULES = (
    check_privileges,
    check_isolation,
    check_resources,
    check_probes,
    check_availability,
    check_selectors,
)
"""Those for manifests as they are in files; check_images is for what kustomize makes of them."""
