"""The SQL of signing keys. Callers own the connections and their transactions."""

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import LiteralString

from chassis.database import Connection, fetch

# An arbitrary key, which nothing else in this database locks.
_LOCK_KEY = 0x6B657973


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key as it is stored."""

    key_id: uuid.UUID
    private_key: bytes
    """Encrypted."""
    activate_time: dt.datetime
    read_time: dt.datetime
    """When it was read, by the clock of the database."""


async def rotate(
    connection: Connection,
    key_id: uuid.UUID,
    private_key: bytes,
    *,
    lifetime: dt.timedelta,
    notice: dt.timedelta,
    retention: dt.timedelta,
) -> None:
    """Store a new key if one is due, and delete those whose tokens have expired.

    The first key signs at once; every other one at the end of the lifetime of the key before it,
    and not before it has been published for `notice`. Of concurrent calls, one stores its key.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
    insert: LiteralString = """
        INSERT INTO signing_keys (key_id, private_key, activate_time)
        SELECT %(key_id)s, %(private_key)s,
               CASE WHEN count(*) = 0 THEN now()
                    ELSE greatest(max(activate_time) + %(lifetime)s, now() + %(notice)s)
               END
          FROM signing_keys
        HAVING count(*) = 0 OR max(activate_time) + %(lifetime)s - %(notice)s <= now()
    """
    parameters = {
        "key_id": key_id,
        "private_key": private_key,
        "lifetime": lifetime,
        "notice": notice,
    }
    await connection.execute(insert, parameters)
    delete: LiteralString = """
        DELETE FROM signing_keys AS old
         WHERE (SELECT min(activate_time) FROM signing_keys AS next
                 WHERE next.activate_time > old.activate_time) + %s < now()
    """
    await connection.execute(delete, (retention,))


async def list_keys(connection: Connection) -> list[StoredKey]:
    """List all keys in the order in which they sign."""
    query: LiteralString = (
        "SELECT key_id, private_key, activate_time, statement_timestamp() FROM signing_keys"
        " ORDER BY activate_time"
    )
    return await fetch(connection, StoredKey, query, ())
