"""What tests of audit logs need: the RPCs that belong there, by the contract of a service.

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from chassis import access
from chassis.caller import Role

# Its stub has another type for it than the generated code of ours.
_HTTP: Any = annotations_pb2.http


def find_changes_by_staff(service: ServiceDescriptor) -> set[str]:
    """Return the names of the RPCs with which staff or admins change something."""
    rules = access.read_rules(service)
    return {
        rpc.name
        for rpc in service.methods
        if (rule := rules[f"/{service.full_name}/{rpc.name}"]).roles & {Role.STAFF, Role.ADMIN}
        and not rule.is_public
        and _changes_something(rpc)
    }


def _changes_something(rpc: MethodDescriptor) -> bool:
    pattern: str = rpc.GetOptions().Extensions[_HTTP].WhichOneof("pattern")
    return pattern != "get"
