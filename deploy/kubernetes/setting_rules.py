"""Rules for settings: each program reads those that it gets, as it does when it starts."""

from collections.abc import Iterator, Mapping

from deploy.containers import (
    EVERY_ADDRESS,
    Container,
    Start,
    find_address,
    find_grace_seconds,
    list_variables,
    load_settings,
)
from deploy.kubernetes.manifests import Manifests, Object
from deploy.programs import PROGRAMS, Program


class _MissingError(Exception):
    """A container refers to something that there is not."""


def load(manifests: Manifests, program: Program) -> Start:
    """Load the settings of a program as it does in its container."""
    for name, pod, container in manifests.containers():
        if name == program.name:
            try:
                return load_settings(program, _describe(manifests, pod, container))
            except _MissingError as error:
                return Start(None, [str(error)])
    return Start(None, ["there is no container"])


def _describe(manifests: Manifests, pod: Object, container: Object) -> Container:
    """Return what a container hands to its program.

    Raises:
        _MissingError: it refers to something that there is not.
    """
    variables: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        variables |= _find_values(manifests, "ConfigMap", source["configMapRef"]["name"])
    volumes = {each["name"]: each for each in pod.get("volumes", ())}
    folders = {
        mount["mountPath"]: _find_files(manifests, volumes[mount["name"]])
        for mount in container.get("volumeMounts", ())
    }
    return Container({**variables, **_own_variables(container)}, folders)


def _find_files(manifests: Manifests, volume: Object) -> Mapping[str, str]:
    """Return the contents of the files of a volume by their names, which are those of keys."""
    files: dict[str, str] = {}
    sources = [each["secret"] for each in volume.get("projected", {}).get("sources", ())]
    if "secret" in volume:
        sources.append({"name": volume["secret"]["secretName"]})
    for source in sources:
        values = _find_values(manifests, "Secret", source["name"])
        for item in source.get("items", [{"key": key, "path": key} for key in values]):
            if item["key"] not in values:
                raise _MissingError(f"the Secret {source['name']} has no {item['key']}")
            files[item["path"]] = values[item["key"]]
    return files


def _find_values(manifests: Manifests, kind: str, name: str) -> Mapping[str, str]:
    values = manifests.values(kind, name)
    if values is None:
        raise _MissingError(f"there is no {kind} {name}")
    return values


def _own_variables(container: Object) -> Mapping[str, str]:
    return {each["name"]: each["value"] for each in container.get("env", ())}


def check_start(manifests: Manifests) -> Iterator[str]:
    """Every program starts: its settings are there, are good, and are spelt as it knows them."""
    for program in PROGRAMS:
        yield from (f"{program.name}: {each}" for each in load(manifests, program).problems)


def check_names(manifests: Manifests) -> Iterator[str]:
    """A container has no variable and no secret that its program does not read."""
    settings = [(each.name, load(manifests, each).settings) for each in PROGRAMS]
    known = {name: list_variables(config) for name, config in settings if config}
    for name, pod, container in manifests.containers():
        if name in known:
            given = _own_variables(container).keys() | _find_secrets(manifests, pod)
            yield from (f"{name}: does not read {each}" for each in sorted(given - known[name]))
    for config in manifests.of_kind("ConfigMap"):
        unread = set(config["data"]).difference(*known.values())
        yield from (f"No program reads {each}" for each in sorted(unread))


def _find_secrets(manifests: Manifests, pod: Object) -> set[str]:
    volumes = [each for each in pod["volumes"] if each["name"] == "secrets"]
    return {name for volume in volumes for name in _find_files(manifests, volume)}


def check_addresses(manifests: Manifests) -> Iterator[str]:
    """A program listens on its port for all pods, and calls others at the name of their Service."""
    for program in PROGRAMS:
        config = load(manifests, program).settings
        if config is None or not program.prefix:
            continue
        expected = (EVERY_ADDRESS, _find_port(manifests, program.name))
        if find_address(config, program.prefix) != expected:
            yield f"{program.name}: does not listen on its port for all pods"
        for name, prefix in program.peers.items():
            service = manifests.find("Service", name)
            ports = [port["port"] for port in service["spec"]["ports"]] if service else []
            if find_address(config, prefix) not in [(name, port) for port in ports]:
                yield f"{program.name}: does not call {name} at the address of its Service"


def _find_port(manifests: Manifests, workload: str) -> int | None:
    for name, _, container in manifests.containers():
        if name == workload and container.get("ports"):
            port: int = container["ports"][0]["containerPort"]
            return port
    return None


def check_stop(manifests: Manifests) -> Iterator[str]:
    """A program hears that it is to stop, and is not killed before it has ended by itself.

    Process 1 ignores signals that it has no handlers for, as while it starts. In a namespace that
    is shared, it is that of the pod.
    """
    for program in PROGRAMS:
        config = load(manifests, program).settings
        for name, pod, container in manifests.containers():
            if name == program.name and pod.get("shareProcessNamespace") is not True:
                yield f"{name}: is process 1"
            if name == program.name and config is not None:
                hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
                needed = hook.get("seconds", 0) + find_grace_seconds(program, config)
                if pod.get("terminationGracePeriodSeconds", 30) < needed:
                    yield f"{name}: needs {needed} s to stop"


RULES = (check_start, check_names, check_addresses, check_stop)
