"""Idempotency keys, by which a client names a call, to be able to repeat it."""

import hashlib
import uuid
from dataclasses import dataclass
from typing import LiteralString, cast

from google.protobuf.message import Message

from chassis import call_context, errors
from chassis.card_number import is_card_number
from chassis.codec import Context
from chassis.database import Connection

MAX_KEY_LENGTH = 255
"""The longest idempotency key, in characters."""

_METADATA_KEY = "idempotency-key"


@dataclass(frozen=True, slots=True)
class RepeatableRequest:
    """A request that makes one resource, however often it is sent."""

    user_id: uuid.UUID
    """The user who sends it."""
    idempotency_key: str
    """What distinguishes it from all others of the user."""
    request_hash: bytes
    """32 bytes that distinguish it from another request with the same key."""


def check_key(key: str) -> None:
    """Check an idempotency key, which is stored, whether it was a field or metadata.

    Raises:
        errors.InvalidArgument: it is empty, too long, has a NUL or is a card number.
    """
    if not 1 <= len(key) <= MAX_KEY_LENGTH or "\x00" in key:
        raise _invalid(f"must have 1 to {MAX_KEY_LENGTH} characters, none of them NUL")
    if is_card_number(key):
        raise _invalid("must not be a card number")


def read_key(context: Context, field: str = "") -> str:
    """Return the idempotency key of a call, or "" if it has none.

    That is the `field` of its request or, if it is empty, the key in its metadata.

    Raises:
        errors.InvalidArgument: the key is invalid, for example empty in the metadata.
    """
    key = field or _read_metadata(context)
    if key is None:
        return ""
    check_key(key)
    return key


def identify(context: Context, request: Message) -> RepeatableRequest | None:
    """Return what identifies the request of a user, or None if it has no idempotency key.

    `request` has no secrets, as its hash is stored.

    Raises:
        errors.InvalidArgument: as for `read_key`.
    """
    key = read_key(context)
    if not key:
        return None
    content = request.SerializeToString(deterministic=True)
    user_id = call_context.get_caller().user_id
    return RepeatableRequest(user_id, key, hashlib.sha256(content).digest())


async def find_made(
    connection: Connection, select: LiteralString, request: RepeatableRequest | None
) -> uuid.UUID | None:
    """Return the id of the resource that a request has made, or None.

    `select` reads the id and the request_hash from the table of the resource.

    Raises:
        errors.KeyReused: another request with the same key has made one.
    """
    if request is None:
        return None
    cursor = await connection.execute(
        select + " WHERE creator_id = %s AND idempotency_key = %s",
        (request.user_id, request.idempotency_key),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    resource_id, request_hash = row
    if request_hash != request.request_hash:
        message = "The idempotency key was used for another request."
        raise errors.KeyReused("IDEMPOTENCY_KEY_REUSED", message)
    return cast(uuid.UUID, resource_id)


def _read_metadata(context: Context) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == _METADATA_KEY:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return None


def _invalid(rule: str) -> errors.InvalidArgument:
    violation = errors.Violation("idempotency_key", rule)
    return errors.InvalidArgument("INVALID_IDEMPOTENCY_KEY", violations=[violation])
