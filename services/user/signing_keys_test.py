"""Rotation of signing keys, on a real database."""

import asyncio
import datetime as dt
import json
import time
import uuid

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chassis import errors, tokens
from chassis.caller import Role
from chassis.database import Database
from chassis.jwks import KeySet
from chassis.revocations import Revocations
from chassis.testing import wait_for_blocked
from chassis.tokens import Verifier
from services.user import key_repository
from services.user.cipher import Cipher
from services.user.signing_keys import RETENTION, SigningKeys

pytest_plugins = ("tools.postgres.testing", "chassis.testing")
DATABASE = "user"
SECRET = "0123456789abcdef0123456789abcdef"
LIFETIME = dt.timedelta(days=30)
NOTICE = dt.timedelta(hours=1)
KEY_ID = uuid.UUID(int=1)
PRIVATE_KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


def make_keys(
    database: Database,
    secret: str = SECRET,
    lifetime: dt.timedelta = LIFETIME,
    notice: dt.timedelta = NOTICE,
) -> SigningKeys:
    return SigningKeys(database, Cipher(secret), lifetime, notice)


async def published(keys: SigningKeys) -> list[str]:
    return [key["kid"] for key in json.loads(await keys.publish())["keys"]]


def let_pass(url: str, age: dt.timedelta) -> None:
    """Make all keys older."""
    with psycopg.connect(url) as connection:
        # One after the other, because their times are unique.
        connection.execute(
            "UPDATE signing_keys SET activate_time = activate_time - %s, create_time = now()", [age]
        )


async def test_concurrent_processes_agree_on_one_first_key(database: Database) -> None:
    replicas = [make_keys(database) for _ in range(10)]
    current = await asyncio.gather(*(keys.find_current() for keys in replicas))
    assert len({key.key_id for key in current}) == 1
    assert await published(replicas[0]) == [current[0].key_id]


async def test_a_process_waits_for_the_key_that_another_one_makes(database: Database) -> None:
    async with database.connection() as watching:
        async with database.transaction() as connection:
            await key_repository.rotate(
                connection,
                KEY_ID,
                Cipher(SECRET).encrypt(PRIVATE_KEY, KEY_ID.bytes),
                lifetime=LIFETIME,
                notice=NOTICE,
                retention=RETENTION,
            )
            other = make_keys(database)
            finding = asyncio.ensure_future(other.find_current())
            await wait_for_blocked(watching)
        assert (await finding).key_id == KEY_ID.hex
        assert await published(other) == [KEY_ID.hex]


async def test_the_next_key_is_published_before_it_signs(
    database: Database, clean_database_url: str
) -> None:
    keys = make_keys(database)
    first = await keys.find_current()
    let_pass(clean_database_url, LIFETIME - NOTICE - dt.timedelta(minutes=1))
    await keys.refresh()
    assert await published(keys) == [first.key_id]
    let_pass(clean_database_url, dt.timedelta(minutes=2))
    await keys.refresh()
    (_, following) = await published(keys)
    assert (await keys.find_current()).key_id == first.key_id
    let_pass(clean_database_url, NOTICE - dt.timedelta(minutes=2))
    await keys.refresh()
    assert (await keys.find_current()).key_id == first.key_id
    let_pass(clean_database_url, dt.timedelta(minutes=2))
    await keys.refresh()
    assert (await keys.find_current()).key_id == following
    assert await published(keys) == [first.key_id, following]


async def test_the_previous_key_is_published_until_its_last_token_has_expired(
    database: Database, clean_database_url: str
) -> None:
    keys = make_keys(database)
    first = await keys.find_current()
    let_pass(clean_database_url, LIFETIME)
    await keys.refresh()
    let_pass(clean_database_url, NOTICE + RETENTION - dt.timedelta(seconds=10))
    await keys.refresh()
    assert (await published(keys))[0] == first.key_id
    let_pass(clean_database_url, dt.timedelta(seconds=20))
    await keys.refresh()
    assert first.key_id not in await published(keys)
    assert RETENTION.total_seconds() > tokens.LIFETIME_SECONDS


async def test_a_key_is_published_before_it_signs_also_after_a_long_stop(
    database: Database, clean_database_url: str
) -> None:
    first = await make_keys(database).find_current()
    let_pass(clean_database_url, 3 * LIFETIME)
    keys = make_keys(database)
    assert (await keys.find_current()).key_id == first.key_id
    assert len(await published(keys)) == 2


async def test_private_keys_are_stored_encrypted(
    database: Database, clean_database_url: str
) -> None:
    await make_keys(database).refresh()
    with psycopg.connect(clean_database_url) as connection:
        ((stored,),) = connection.execute("SELECT private_key FROM signing_keys").fetchall()
    # PKCS #8 names the curve by its object identifier (RFC 5480).
    assert bytes.fromhex("06082a8648ce3d030107") not in stored
    with pytest.raises(errors.Unavailable) as raised:
        await make_keys(database, "another secret of 32 characters!").refresh()
    assert raised.value.reason == "SIGNING_KEY_UNREADABLE"
    assert "USERSERVICE_KEY_SECRET" in str(raised.value.__cause__)


async def test_an_encrypted_key_cannot_take_the_place_of_another(
    database: Database, clean_database_url: str
) -> None:
    await make_keys(database).refresh()
    with psycopg.connect(clean_database_url) as connection:
        connection.execute("UPDATE signing_keys SET key_id = uuidv7()")
    with pytest.raises(errors.Unavailable):
        await make_keys(database).refresh()


async def test_known_keys_are_published_while_the_database_is_down(database: Database) -> None:
    keys = make_keys(database)
    before = await published(keys)
    await database.close()
    assert await published(keys) == before
    assert (await keys.find_current()).key_id == before[0]


def make_verifier(keys: KeySet) -> Verifier:
    revocations = Revocations(tokens.REVOCATION_SECONDS)
    revocations.known.set()
    return Verifier(keys, revocations)


async def test_no_token_is_refused_while_keys_rotate(database: Database) -> None:
    lifetime, notice = dt.timedelta(seconds=1), dt.timedelta(seconds=0.8)
    replicas = [make_keys(database, lifetime=lifetime, notice=notice) for _ in range(2)]
    verifier_keys = KeySet(replicas[0].publish)
    verifier = make_verifier(verifier_keys)
    tasks = [keys.task() for keys in replicas]
    user_id, session_id = uuid.uuid4(), uuid.uuid4()
    used: list[str] = []
    issued = []
    for task in tasks:
        task.start()
    try:
        end = time.monotonic() + 6
        while time.monotonic() < end:
            for keys in replicas:
                key = await keys.find_current()
                used.append(key.key_id)
                issued.append(
                    tokens.sign(
                        key.private_key,
                        key.key_id,
                        user_id,
                        Role.CUSTOMER,
                        session_id,
                        time.time(),
                    )
                )
                # As the task of a verifier does, which has more time.
                await verifier_keys.refresh()
                caller = await verifier.verify(issued[-1])
                assert caller.user_id == user_id
            await asyncio.sleep(0.02)
    finally:
        for task in tasks:
            await task.stop()
    # Whoever verifies for the first time finds the key of the oldest token, too.
    late = make_verifier(KeySet(replicas[1].publish))
    for token in issued:
        await late.verify(token)
    assert len(set(used)) >= 4
    assert len(issued) >= 100


async def test_the_document_has_public_keys_only(database: Database) -> None:
    document = json.loads(await make_keys(database).publish())
    assert [set(key) for key in document["keys"]] == [{"kty", "crv", "x", "y", "kid", "alg", "use"}]
    assert jwt.PyJWKSet.from_dict(document).keys
