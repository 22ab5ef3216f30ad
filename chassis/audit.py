"""The audit log of a service: what staff and admins changed, who, when and from where.

The table audit_events, to which services can only add, is the same in every database that has it.
What is recorded is committed with the change, or neither is.

It is kept for ever, also after the user who was changed is deleted. So it has neither secrets nor
personal data of that user: such fields have the option `debug_redact`. The log tells who changed
them and when, but not their values.
"""

import datetime as dt
import ipaddress
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, LiteralString, Protocol, TypeVar, cast
from urllib.parse import unquote

import orjson
from audit.v1 import audit_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from psycopg.types.json import Jsonb

from chassis import call_context, conversion, paging
from chassis.caller import Caller
from chassis.database import Connection, Database, fetch

_INSERT: LiteralString = """
INSERT INTO audit_events
    (user_id, role, session_id, client_address, request_id, method, resource, before, after)
SELECT %(user_id)s, %(role)s, %(session_id)s, %(client_address)s, %(request_id)s, %(method)s,
    resource, before, after
FROM unnest(%(resources)b::text[], %(befores)b::jsonb[], %(afters)b::jsonb[])
    WITH ORDINALITY AS changes (resource, before, after, number)
ORDER BY number
"""
_SELECT: LiteralString = """
SELECT audit_event_id, create_time, user_id, role, session_id,
    coalesce(host(client_address), '') AS client_address, request_id, method, resource,
    before, after
FROM audit_events WHERE (%(before)s::uuid IS NULL OR audit_event_id < %(before)s)
    AND (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
    AND (%(resource)s = '' OR resource = %(resource)s)
ORDER BY audit_event_id DESC LIMIT %(limit)s
"""


REDACTED = "[redacted]"
"""What is recorded in place of a value."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a resource, whose messages lose their fields with `debug_redact`.

    Of these, fields of the resource itself that it changes are recorded as REDACTED.
    """

    resource: str
    """Its name, such as `products/0199aaaa-0000-7000-8000-000000000000`."""
    before: Message | None
    """None if it was created."""
    after: Message | None
    """None if it was deleted."""


async def record(
    connection: Connection, changes: Iterable[Change], *, actor: Caller | None = None
) -> None:
    """Record changes in the transaction that makes them, if staff or an admin makes them.

    That is whoever calls, or the actor where something else than a token of a session proves who
    acts. For anybody else, and outside of a call, the changes are not even read.
    """
    caller = actor or call_context.find_caller()
    if caller is None or not caller.is_staff:
        return
    made = list(changes)
    if not made:
        return
    parameters = {
        "user_id": caller.user_id,
        "role": caller.role,
        "session_id": caller.session_id,
        "client_address": _parse_address(call_context.client.get()),
        "request_id": call_context.request_id.get(),
        "method": call_context.method.get(),
        "resources": [change.resource for change in made],
        "befores": [_to_json(change.before, change.after) for change in made],
        "afters": [_to_json(change.after, change.before) for change in made],
    }
    await connection.execute(_INSERT, parameters)


@dataclass(frozen=True, slots=True)
class Query:
    """Which events are listed: those of a user and of a resource; empty is any."""

    user_id: str
    resource: str


class Page(Protocol):
    """A response with audit events."""

    next_page_token: str

    @property
    def audit_events(self) -> Any:
        """The repeated field."""


PageT = TypeVar("PageT", bound=Page)


async def read_page(
    database: Database, query: Query, progress: paging.Progress, page: PageT
) -> PageT:
    """Fill an empty response with the next events, newest first, and return it."""
    parameters = {
        "before": progress.last_id,
        "user_id": uuid.UUID(query.user_id) if query.user_id else None,
        "resource": query.resource,
        "limit": progress.limit + 1,
    }
    found = await database.read(fetch, _to_message, _SELECT, parameters)
    add = page.audit_events.add
    count = paging.fill(add, found[: progress.limit], audit_pb2.AuditEvent.CopyFrom)
    progress.advance(found, count, lambda event: [event.audit_event_id])
    page.next_page_token = progress.next_page_token
    return page


def _to_message(
    audit_event_id: uuid.UUID,
    create_time: dt.datetime,
    user_id: uuid.UUID,
    role: str,
    session_id: uuid.UUID,
    client_address: str,
    request_id: str,
    method: str,
    resource: str,
    before: Any,
    after: Any,
) -> audit_pb2.AuditEvent:
    event = audit_pb2.AuditEvent(
        audit_event_id=str(audit_event_id),
        create_time=conversion.to_timestamp(create_time),
        user_id=str(user_id),
        role=role,
        session_id=str(session_id),
        client_address=client_address,
        request_id=request_id,
        method=method,
        resource=resource,
    )
    for found, struct in ((before, event.before), (after, event.after)):
        if found is not None:
            json_format.ParseDict(found, struct)
    return event


def _parse_address(client: str) -> str | None:
    """Return the IP address in a client's address, which gRPC writes as `ipv4:ADDRESS:PORT`."""
    if client.startswith(("ipv4:", "ipv6:")):
        client = unquote(client[len("ipv4:") :]).rpartition(":")[0].strip("[]")
    try:
        return str(ipaddress.ip_address(client))
    except ValueError:
        return None


def _to_json(message: Message | None, other: Message | None) -> Jsonb | None:
    """Convert the message before or after a change; `other` is the other one of the two."""
    if message is None:
        return None
    kind = cast("Descriptor", message.DESCRIPTOR)
    shown = json_format.MessageToDict(message)
    changed = [
        field.json_name
        for field in _find_sensitive(kind)
        if field.json_name in shown and _is_secret(field) and _differs(field, message, other)
    ]
    _redact(shown, kind)
    return Jsonb(shown | dict.fromkeys(changed, REDACTED), dumps=orjson.dumps)


def _differs(field: FieldDescriptor, message: Message, other: Message | None) -> bool:
    return other is None or getattr(message, field.name) != getattr(other, field.name)


def _redact(shown: dict[str, Any], kind: Descriptor) -> None:
    """Remove the fields with the option `debug_redact`, at any depth."""
    for field in _find_sensitive(kind):
        if _is_secret(field):
            shown.pop(field.json_name, None)
        else:
            parts = shown.get(field.json_name, [])
            for part in parts if isinstance(parts, list) else [parts]:
                _redact(part, cast("Descriptor", field.message_type))


@cache
def _find_sensitive(kind: Descriptor) -> Sequence[FieldDescriptor]:
    """Return the fields with the option `debug_redact`, or with messages that have such fields."""
    return [field for field in kind.fields if _has_secrets(field)]


def _has_secrets(field: FieldDescriptor, *visited: Descriptor) -> bool:
    kind = field.message_type
    if kind is None or kind in visited or kind.GetOptions().map_entry:
        return _is_secret(field)
    return _is_secret(field) or any(_has_secrets(part, kind, *visited) for part in kind.fields)


def _is_secret(field: FieldDescriptor) -> bool:
    return field.GetOptions().debug_redact
