"""Rules for the stack: its programs start with what they get, and what they get is bounded."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from chassis.health import TIMEOUT_SECONDS, Command
from deploy.containers import (
    EVERY_ADDRESS,
    Container,
    Start,
    find_address,
    find_grace_seconds,
    list_variables,
    load_settings,
)
from deploy.programs import PROGRAMS, USER_ID, Program, find_repository
from deploy.stack.stack_file import SECRETS, MissingError, Node, Stack, targets

_SECONDS = re.compile(r"(\d+)s")

_JOB = "migrations"
_EDGE = "nginx"
_NETWORKS = {_EDGE: {"edge"}, "gateway": {"edge", "shop"}}
"""The networks of services; that of all others is `shop`."""
_PRIVILEGES: Mapping[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}
_FORBIDDEN = ("cap_add", "devices", "ipc", "network_mode", "pid", "privileged", "userns_mode")
_LIMITS = {"cpus", "memory", "pids"}
_RESERVATIONS = {"cpus", "memory"}


def load(stack: Stack, program: Program) -> Start:
    """Load the settings of a program as it does in its container."""
    service = stack.services.get(program.name)
    if service is None:
        return Start(None, ["there is no service"])
    try:
        container = stack.container(service)
    except MissingError as error:
        return Start(None, [str(error)])
    return _load(program.name, json.dumps([container.variables, container.folders]))


@cache
def _load(name: str, container: str) -> Start:
    """Load the settings once for all rules, as it takes a tenth of a second."""
    (program,) = (each for each in PROGRAMS if each.name == name)
    return load_settings(program, Container(*json.loads(container)))


def check_start(stack: Stack) -> Iterator[str]:
    """Every program starts: its settings are there, are good, and are spelt as it knows them."""
    for program in PROGRAMS:
        yield from (f"{program.name}: {each}" for each in load(stack, program).problems)


def check_names(stack: Stack) -> Iterator[str]:
    """A program reads each secret that it gets, and some program each variable."""
    settings = [(each, load(stack, each).settings) for each in PROGRAMS]
    known = {each.name: list_variables(config) for each, config in settings if config}
    everybody = set[str]().union(*known.values())
    for name, own in known.items():
        service = stack.services[name]
        secrets = {path.name for _, path in targets(service) if str(path.parent) == SECRETS}
        unread = (secrets - own) | (service["environment"].keys() - everybody)
        yield from (f"{name}: {each} is not read" for each in sorted(unread))


def check_addresses(stack: Stack) -> Iterator[str]:
    """A program listens for other containers, and calls the others by the names of services."""
    listeners: dict[str, tuple[str, int]] = {}
    settings = [(each, load(stack, each).settings) for each in PROGRAMS]
    loaded = [(program, config) for program, config in settings if config]
    for program, config in loaded:
        if program.prefix:
            host, port = find_address(config, program.prefix)
            listeners[program.prefix] = (program.name, port)
            if host != EVERY_ADDRESS:
                yield f"{program.name}: does not listen for other containers"
    for program, config in loaded:
        for name, prefix in program.peers.items():
            if find_address(config, prefix) != listeners.get(prefix):
                yield f"{program.name}: does not call {name} where it listens"


def check_stop(stack: Stack) -> Iterator[str]:
    """A program hears that it is to stop, and is not killed before it has ended by itself.

    Process 1 of a container ignores signals that it has no handlers for, as while it starts.
    """
    for program in PROGRAMS:
        if stack.services.get(program.name, {}).get("init") is not True:
            yield f"{program.name}: is process 1"
        config = load(stack, program).settings
        if config is not None:
            needed = find_grace_seconds(program, config)
            given = _parse(stack.services[program.name].get("stop_grace_period", "10s"))
            if given < timedelta(seconds=needed):
                yield f"{program.name}: needs {needed} s to stop"


def _parse(duration: str) -> timedelta:
    found = _SECONDS.fullmatch(duration)
    return timedelta(seconds=int(found[1])) if found else timedelta()


def check_health(stack: Stack) -> Iterator[str]:
    """A program that serves is asked whether it does, by the command of its image.

    Not whether it is ready: all replicas would be killed while the database is down. But a service
    must have been ready once, so that no update goes on with settings by which it never will be.
    """
    for program in PROGRAMS:
        if program.prefix:
            found = stack.services.get(program.name, {}).get("healthcheck", {})
            command = Command.STARTED if program.is_service else Command.HEALTH
            if found.get("test") != ["CMD", *program.entrypoint, command.value]:
                yield f"{program.name}: is not asked by {command.value}"
            if _parse(found.get("timeout", "")) <= timedelta(seconds=TIMEOUT_SECONDS):
                yield f"{program.name}: the timeout must be longer than {TIMEOUT_SECONDS} s"


def check_replicas(stack: Stack) -> Iterator[str]:
    """There are two of each program, of which one at most is replaced, after the new one serves."""
    for program in PROGRAMS:
        deploy = stack.services.get(program.name, {}).get("deploy", {})
        if program.name == _JOB:
            if deploy.get("mode") != "replicated-job":
                yield f"{program.name}: must run once"
            continue
        if deploy.get("replicas", 1) < 2:
            yield f"{program.name}: has fewer than two replicas"
        for field in ("update_config", "rollback_config"):
            update = deploy.get(field, {})
            if (update.get("order"), update.get("parallelism")) != ("start-first", 1):
                yield f"{program.name}: {field} replaces replicas before others serve"
        if deploy.get("update_config", {}).get("failure_action") != "rollback":
            yield f"{program.name}: does not roll back an update that fails"


def check_isolation(stack: Stack) -> Iterator[str]:
    """Nothing has more of its machine, or of the other services, than it needs."""
    for name, service in stack.services.items():
        for field, value in _PRIVILEGES.items():
            if service.get(field) != value:
                yield f"{name}: {field} must be {value}"
        yield from (f"{name}: must not have {field}" for field in _FORBIDDEN if field in service)
        if service.get("user", str(USER_ID)).partition(":")[0] in ("0", "root"):
            yield f"{name}: is root"
        for volume in service.get("volumes", ()):
            if volume["type"] not in ("tmpfs", "volume"):
                yield f"{name}: mounts {volume['source']} of its machine"
        if set(service.get("networks", ())) != _NETWORKS.get(name, {"shop"}):
            yield f"{name}: is in other networks than {_NETWORKS.get(name, {'shop'})}"
        if "ports" in service and name != _EDGE:
            yield f"{name}: must not publish a port"
        if service["deploy"].get("endpoint_mode") != "dnsrr":
            yield f"{name}: endpoint_mode must be dnsrr"


def check_resources(stack: Stack) -> Iterator[str]:
    """What a container may use is bounded, and what it needs is known to the scheduler."""
    for name, service in stack.services.items():
        resources = service["deploy"].get("resources", {})
        for kind, expected in (("limits", _LIMITS), ("reservations", _RESERVATIONS)):
            missing = expected - resources.get(kind, {}).keys()
            yield from (f"{name}: no {each} among its {kind}" for each in sorted(missing))
        for volume in service.get("volumes", ()):
            if volume["type"] == "tmpfs" and "size" not in volume.get("tmpfs", {}):
                yield f"{name}: {volume['target']} has no size"


def check_images(stack: Stack) -> Iterator[str]:
    """Every program runs from its own image, of the given registry and with the given tag."""
    for program in PROGRAMS:
        image = stack.services.get(program.name, {}).get("image")
        if image != f"registry.example/{find_repository(program.name)}:1":
            yield f"{program.name}: {image} is not ${{REGISTRY}} and ${{TAG}} of its image"


def check_contents(stack: Stack) -> Iterator[str]:
    """Secrets and configs, which a swarm cannot change, get another name with CONFIG_VERSION."""
    for kind in ("configs", "secrets"):
        contents: Mapping[str, Node] = stack.content[kind]
        for name, each in contents.items():
            if each.get("name") != f"bazaar-{name}-2":
                yield f"{name}: its name must be bazaar-{name}-${{CONFIG_VERSION:-1}}"


RULES = (
    check_start,
    check_names,
    check_addresses,
    check_stop,
    check_health,
    check_replicas,
    check_isolation,
    check_resources,
    check_images,
    check_contents,
)
"""Those for a stack with REGISTRY=registry.example/, TAG=1 and CONFIG_VERSION=2."""
