"""What runs inside of Schemathesis, which loads this module: streams, and a record of responses.

OpenAPI 3.1 has no schema for the records of a stream, and the document gives it by an extension.
"""

import json
import os
import zlib
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis import Case, DeserializationContext, HookContext, Response, SerializationContext

_NDJSON = "application/x-ndjson"
_EVENT_STREAM = "text/event-stream"
_ITEM_SCHEMA = "x-item-schema"
_KEY = "Idempotency-Key"
_RESPONSES = "responses"
SPARED = "FUZZING_SPARED"
"""The environment variable with the ids that operations must not have in the path."""
_NOBODY = "00000000-0000-0000-0000-000000000000"


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Give each stream the schema of its records."""
    del context
    for content in _contents(raw_schema):
        for media_type, described in content.items():
            item = described.get(_ITEM_SCHEMA)
            if item is not None and media_type == _NDJSON:
                described["schema"] = {"type": "array", "items": item}
            elif item is not None and media_type == _EVENT_STREAM:
                described["itemSchema"] = item
                del described["schema"]


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Choose a format for a stream and make a key unique, always in the same way for a case.

    An id in the path that is to be spared becomes nobody's. Each case has an address of its own,
    where the API trusts that header, so that no rate limit is exceeded.
    """
    del context, kwargs
    spared = json.loads(os.environ[SPARED]).get(case.operation.definition.raw["operationId"], ())
    for name, value in case.path_parameters.items():
        if value in spared:
            case.path_parameters[name] = _NOBODY
    seed = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
    case.headers["X-Forwarded-For"] = str(IPv4Address(seed))
    described = case.operation.definition.raw["responses"].get("200", {})
    media_types = list(described.get("content", {}))
    if _NDJSON in media_types:
        case.headers["Accept"] = media_types[seed % len(media_types)]
    key = case.headers.get(_KEY)
    if isinstance(key, str) and key.isprintable() and key:
        case.headers[_KEY] = f"{key}-{seed}"


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    """Record the status of an operation; checks may try other methods at its path."""
    del context
    operation = case.operation
    if case.method.upper() == operation.method.upper():
        operation_id = operation.definition.raw["operationId"]
        with Path(_RESPONSES).open("a", encoding="utf-8") as file:
            file.write(f"{operation_id} {response.status_code}\n")


def read_responses(directory: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the operations that were called in a directory, and those that succeeded."""
    path = directory / _RESPONSES
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    responses = [line.split() for line in lines]
    called = frozenset(operation_id for operation_id, _ in responses)
    return called, frozenset(name for name, status in responses if status.startswith("2"))


@schemathesis.serializer(_NDJSON)
def write_records(context: SerializationContext, value: object) -> bytes:
    """Write what fits the schema as records, and what does not as it comes."""
    del context
    records = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@schemathesis.deserializer(_NDJSON)
def read_records(context: DeserializationContext, response: Response) -> list[Any]:
    """Read the records of a response."""
    del context
    return [json.loads(line) for line in response.content.splitlines()]


def _contents(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path_item in document["paths"].values():
        for operation in path_item.values():
            for described in (operation.get("requestBody", {}), *operation["responses"].values()):
                yield described.get("content", {})
