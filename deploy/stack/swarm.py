"""The stack on the swarm of this machine, by commands of Docker."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent
SERVICES = ("gateway", "user", "product", "order", "payment")
"""The services that have replicas."""
START_SECONDS = 180.0
"""How long the stack may take to start, or to end."""
UPDATE_SECONDS = 300.0
"""How long the update of one service may take."""
_POLL_SECONDS = 1.0


class SwarmError(Exception):
    """A command of Docker failed, or what it began did not end in time."""


def docker(
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    stdin: str = "",
    seconds: float = START_SECONDS,
) -> str:
    """Run a command of Docker, and return what it prints.

    Raises:
        SwarmError: it failed, or took too long.
    """
    command, environment = ["docker", *arguments], {**os.environ, **(variables or {})}
    try:
        result = subprocess.run(
            command,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds,
        )
    except subprocess.CalledProcessError as error:
        raise SwarmError(f"{' '.join(command)}: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise SwarmError(f"{' '.join(command)}: took more than {seconds:g} s") from error
    return result.stdout.strip()


@dataclass(frozen=True)
class Swarm:
    """One deployment of the stack."""

    stack: str
    variables: Mapping[str, str]
    """Those that the stack file takes."""

    def deploy(self, tag: str) -> None:
        """Deploy images with a tag; return when every service has all its replicas.

        Raises:
            SwarmError: that takes too long.
        """
        file = str((DIRECTORY / "stack.yaml").resolve())
        command = ["stack", "deploy", "--resolve-image", "never", "--detach=true"]
        variables = {**self.variables, "TAG": tag}
        docker(*command, "--compose-file", file, self.stack, variables=variables)
        _wait_until(lambda: not self._find_missing(), "start")

    def _find_missing(self) -> list[str]:
        """Return the services that have fewer replicas than they want."""
        columns = "{{.Name}} {{.Replicas}}"
        missing = []
        for line in docker("stack", "services", self.stack, "--format", columns).splitlines():
            name, replicas, *completed = line.split(" ")
            running, _, wanted = replicas.partition("/")
            if running != wanted and completed != ["(1/1", "completed)"]:
                missing.append(name)
        return missing

    def update(self, tag: str) -> Mapping[str, str]:
        """Update one service after the other, the migrations first; return how each update ended.

        Raises:
            SwarmError: a command failed, or took too long.
        """
        states = {}
        for name in ("migrations", *SERVICES):
            options = ["--no-resolve-image", "--detach=false", "--quiet"]
            image, service = f"bazaar/{name}:{tag}", f"{self.stack}_{name}"
            docker("service", "update", *options, "--image", image, service, seconds=UPDATE_SECONDS)
            found: Any = json.loads(docker("service", "inspect", service))[0]
            states[name] = found.get("UpdateStatus", {}).get("State", "completed")
        return states

    def kill_oldest(self, service: str) -> bool:
        """Kill the replica of a service that has run longest; False if no other one is healthy."""
        running = self._find_containers(service, "--filter", "health=healthy")
        if len(running) < 2:
            return False
        docker("kill", "--signal", "KILL", running[-1])
        return True

    def find_host(self, service: str) -> str:
        """Return the address at which only this machine reaches the replica of a service."""
        (container,) = self._find_containers(service, "--no-trunc")
        (network,) = json.loads(docker("network", "inspect", "docker_gwbridge"))
        address: str = network["Containers"][container]["IPv4Address"]
        return address.partition("/")[0]

    def _find_containers(self, service: str, *options: str) -> list[str]:
        """Return the ids of the containers that run, the newest first."""
        label = f"label=com.docker.swarm.service.name={self.stack}_{service}"
        return docker("ps", "--quiet", "--filter", label, *options).splitlines()

    def remove(self) -> None:
        """Remove the stack and its volumes; return when everything is gone.

        Raises:
            SwarmError: that takes too long.
        """
        docker("stack", "rm", self.stack)
        mine = ["--quiet", "--filter", f"label=com.docker.stack.namespace={self.stack}"]
        _wait_until(lambda: not docker("ps", *mine), "stop")
        _wait_until(lambda: not docker("network", "ls", *mine), "go")
        # Those of jobs are left behind.
        for container in docker("ps", "--all", *mine).splitlines():
            docker("rm", "--force", container)
        for volume in docker("volume", "ls", *mine).splitlines():
            docker("volume", "rm", volume)


def _wait_until(condition: Callable[[], bool], purpose: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SwarmError(f"the stack did not {purpose} within {START_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)
