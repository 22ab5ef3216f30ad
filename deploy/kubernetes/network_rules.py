"""Rules for the network: programs call those that they are made to call, and no others."""

from collections.abc import Iterator, Mapping

from deploy.kubernetes.manifests import LABEL, Manifests, Object, name_of
from deploy.programs import PROGRAMS

CALLERS: Mapping[str, set[str]] = {
    program.name: {each.name for each in PROGRAMS if program.name in each.peers}
    for program in PROGRAMS
}
"""Who calls each program."""
_DNS = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
_POSTGRES_PORT = 5432


def check_denial(manifests: Manifests) -> Iterator[str]:
    """What no policy allows is denied to every pod."""
    denial = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if not any(each["spec"] == denial for each in manifests.of_kind("NetworkPolicy")):
        yield "No NetworkPolicy denies everything by default"
    for each in manifests.of_kind("NetworkPolicy"):
        if each["spec"]["podSelector"].keys() - {"matchLabels"}:
            yield f"{name_of(each)}: selects pods by something else than labels"
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in each["spec"].get(direction, ()):
                if not rule.get(peers) or not rule.get("ports"):
                    yield f"{name_of(each)}: its {direction} must name {peers} and ports"


def check_callers(manifests: Manifests) -> Iterator[str]:
    """Each program may be called by its callers, on its port, and may call what it calls."""
    for program in PROGRAMS:
        callers = CALLERS[program.name]
        allowed = {
            (source, str(port["port"]))
            for rule in _find_rules(manifests, program.name, "ingress")
            for source in _names(rule["from"])
            for port in rule["ports"]
        }
        if callers and allowed != {(caller, "grpc") for caller in callers}:
            yield f"{program.name}: ingress must be from {sorted(callers)}, to the port grpc"
        called = {
            target
            for rule in _find_rules(manifests, program.name, "egress")
            for target in _names(rule["to"])
            if {"port": "grpc"} in rule["ports"]
        }
        if called != set(program.peers):
            yield f"{program.name}: egress must be to {sorted(program.peers)}"


def check_databases(manifests: Manifests) -> Iterator[str]:
    """Each program reaches its database and the name servers."""
    for program in PROGRAMS:
        rules = list(_find_rules(manifests, program.name, "egress"))
        if not any({"port": _POSTGRES_PORT} in rule["ports"] for rule in rules):
            yield f"{program.name}: no egress to a database"
        if not any(rule["ports"] == _DNS for rule in rules):
            yield f"{program.name}: no egress to name servers"


def check_edge(manifests: Manifests) -> Iterator[str]:
    """The gateway is called from another namespace, which is named."""
    sources = [rule["from"] for rule in _find_rules(manifests, "gateway", "ingress")]
    selected = [each.get("namespaceSelector") for peers in sources for each in peers]
    if not selected or not all(selected):
        yield "gateway: ingress must be from pods of a namespace that has a label"


def check_services(manifests: Manifests) -> Iterator[str]:
    """The Service of a program has its port; those of gRPC have the addresses of all replicas."""
    for service in manifests.of_kind("Service"):
        name, spec = name_of(service), service["spec"]
        ports = _find_ports(manifests, name)
        for port in spec["ports"]:
            if port["targetPort"] not in ports:
                yield f"{name}: {port['targetPort']} is no port of its containers"
            elif spec.get("clusterIP") == "None" and port["port"] != ports[port["targetPort"]]:
                yield f"{name}: without an address of its own, its port is that of its containers"
        if CALLERS.get(name) and spec.get("clusterIP") != "None":
            yield f"{name}: clusterIP must be None, or one replica gets all calls of a connection"


def _find_rules(manifests: Manifests, name: str, direction: str) -> Iterator[Object]:
    """Yield the rules of all policies that are for the pods of a workload."""
    for policy in manifests.of_kind("NetworkPolicy"):
        spec = policy["spec"]
        wanted = spec["podSelector"].get("matchLabels", {LABEL: name})
        if wanted == {LABEL: name} and direction.capitalize() in spec["policyTypes"]:
            yield from spec.get(direction, ())


def _names(peers: list[Object]) -> Iterator[str]:
    """Yield the names of the workloads whose pods are peers, and `*` for any other peers."""
    for peer in peers:
        labels = peer.get("podSelector", {}).get("matchLabels", {})
        yield labels.get(LABEL, "*") if "namespaceSelector" not in peer else "*"


def _find_ports(manifests: Manifests, workload: str) -> Mapping[str, int]:
    return {
        port["name"]: port["containerPort"]
        for name, _, container in manifests.containers()
        if name == workload
        for port in container.get("ports", ())
    }


RULES = (check_denial, check_callers, check_databases, check_edge, check_services)
