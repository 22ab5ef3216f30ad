"""Who becomes the first admin."""

import asyncio

import psycopg

from chassis.database import Database
from chassis.testing import Events, wait_for_blocked
from services.user import account_repository
from services.user.first_admin import FirstAdmin
from services.user.passwords import Passwords

pytest_plugins = ("tools.postgres.testing", "chassis.testing")
DATABASE = "user"
EMAIL = "admin@example.com"


def make(database: Database, email: str = EMAIL, password: str = "correct horse") -> FirstAdmin:
    return FirstAdmin(database, Passwords(memory_kib=8), email, password)


def read(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT email, role, email_verified FROM users ORDER BY email"
        ).fetchall()


async def test_there_is_an_admin_where_there_was_none(
    database: Database, clean_database_url: str, events: Events
) -> None:
    await make(database).ensure()
    await make(database, "other@example.com").ensure()
    assert read(clean_database_url) == [(EMAIL, "admin", True)]
    assert [event["event"] for event in events] == ["first_admin_made"]
    assert EMAIL not in str(events)


async def test_concurrent_processes_make_one_admin(
    database: Database, clean_database_url: str
) -> None:
    addresses = [f"admin{number}@example.com" for number in range(8)]
    await asyncio.gather(*(make(database, email).ensure() for email in addresses))
    assert len(read(clean_database_url)) == 1


async def test_a_process_waits_for_the_admin_that_another_one_makes(
    database: Database, clean_database_url: str
) -> None:
    async with database.connection() as watching:
        async with database.transaction() as connection:
            await account_repository.make_first_admin(connection, EMAIL, "$argon2id$")
            making = asyncio.ensure_future(make(database, "other@example.com").ensure())
            await wait_for_blocked(watching)
        await making
    assert read(clean_database_url) == [(EMAIL, "admin", True)]


async def test_nobody_is_an_admin_if_none_is_configured(
    database: Database, clean_database_url: str
) -> None:
    await make(database, "").ensure()
    assert read(clean_database_url) == []


async def test_whoever_registered_the_address_before_does_not_become_the_admin(
    database: Database, clean_database_url: str
) -> None:
    with psycopg.connect(clean_database_url) as connection:
        connection.execute(
            "WITH stranger AS (INSERT INTO users (email, display_name, password_hash)"
            " VALUES ('Admin@Example.com', 'Mallory', '$argon2id$') RETURNING user_id),"
            " identity AS (INSERT INTO outside_identities (issuer, subject, user_id)"
            " SELECT 'https://issuer.example', 'mallory', user_id FROM stranger)"
            " INSERT INTO sessions (user_id, expire_time)"
            " SELECT user_id, now() + interval '1 day' FROM stranger"
        )
    await make(database).ensure()
    assert read(clean_database_url) == [("Admin@Example.com", "admin", True)]
    with psycopg.connect(clean_database_url) as connection:
        row = connection.execute(
            "SELECT password_hash <> '$argon2id$', revoke_time IS NOT NULL,"
            " EXISTS (SELECT FROM outside_identities)"
            " FROM users JOIN sessions USING (user_id)"
        ).fetchone()
    assert row == (True, True, False)
