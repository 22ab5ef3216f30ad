"""Whose changes are recorded, and what of the resources is not."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from chassis import audit, call_context
from chassis.audit import REDACTED, Change
from chassis.caller import Caller, Role
from chassis.database import Database

pytest_plugins = ("chassis.testing", "tools.postgres.testing")
DATABASE = "product"

_FILE = """
name: "account.proto" package: "test" syntax: "proto3"
message_type {
  name: "Account"
  field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "token" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL
          options { debug_redact: true } }
  field { name: "owner" number: 3 type: TYPE_MESSAGE type_name: ".test.Account"
          label: LABEL_OPTIONAL }
  field { name: "members" number: 4 type: TYPE_MESSAGE type_name: ".test.Account"
          label: LABEL_REPEATED }
}
"""
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(text_format.Parse(_FILE, descriptor_pb2.FileDescriptorProto()))
Account: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("test.Account"))


def call_as(role: Role | None, client: str = "") -> None:
    """Let the rest of the test be a call by a user."""
    caller = Caller(uuid.UUID(int=1), role, uuid.UUID(int=2), time.time() + 60) if role else None
    call_context.set_caller(caller)
    call_context.client.set(client)


def read(url: str) -> list[tuple[object, ...]]:
    query = "SELECT role, host(client_address), before, after FROM audit_events"
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


async def record(database: Database, change: Change) -> None:
    async with database.transaction() as connection:
        await audit.record(connection, [change])


@pytest.mark.parametrize("role", [Role.STAFF, Role.ADMIN])
async def test_changes_by_staff_and_admins_are_recorded(
    database: Database, clean_database_url: str, role: Role
) -> None:
    call_as(role)
    await record(database, Change("accounts/1", Account(name="old"), Account(name="new")))
    assert read(clean_database_url) == [(role.value, None, {"name": "old"}, {"name": "new"})]


@pytest.mark.parametrize("role", [Role.CUSTOMER, None])
async def test_changes_by_others_are_not_even_read(
    database: Database, clean_database_url: str, role: Role | None
) -> None:
    def changes() -> Iterator[Change]:
        raise AssertionError("read")
        yield

    call_as(role)
    async with database.transaction() as connection:
        await audit.record(connection, changes())
    assert read(clean_database_url) == []


async def test_nothing_is_recorded_of_a_transaction_that_is_rolled_back(
    database: Database, clean_database_url: str
) -> None:
    call_as(Role.ADMIN)
    async with database.connection() as connection, connection.transaction(force_rollback=True):
        await audit.record(connection, [Change("accounts/1", None, Account())])
    assert read(clean_database_url) == []


async def test_secrets_are_left_out_at_any_depth(
    database: Database, clean_database_url: str
) -> None:
    def make(name: str) -> object:
        return Account(name=name, token="hunter2")

    account = Account(name="a", token="hunter2", owner=make("b"), members=[make("c"), make("d")])
    call_as(Role.ADMIN)
    await record(database, Change("accounts/1", None, account))
    shown = {
        "name": "a",
        "token": REDACTED,
        "owner": {"name": "b"},
        "members": [{"name": "c"}, {"name": "d"}],
    }
    assert read(clean_database_url) == [("admin", None, None, shown)]
    assert account.token == "hunter2", "the message itself is as it was"


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("old", "new", ({"token": REDACTED}, {"token": REDACTED})),
        ("old", "", ({"token": REDACTED}, {})),
        ("", "new", ({}, {"token": REDACTED})),
        ("old", "old", ({}, {})),
    ],
)
async def test_of_a_secret_is_recorded_whether_it_changed(
    database: Database, clean_database_url: str, before: str, after: str, shown: tuple[object, ...]
) -> None:
    call_as(Role.ADMIN)
    await record(database, Change("accounts/1", Account(token=before), Account(token=after)))
    assert read(clean_database_url) == [("admin", None, *shown)]


@pytest.mark.parametrize(
    ("client", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("ipv4:127.0.0.1:40000", "127.0.0.1"),
        ("ipv6:%5B::1%5D:40000", "::1"),
        ("unix:", None),
        ("203.0.113.9, 127.0.0.1", None),
        ("", None),
    ],
)
async def test_the_address_of_the_client_is_recorded_if_it_is_known(
    database: Database, clean_database_url: str, client: str, address: str | None
) -> None:
    call_as(Role.STAFF, client)
    await record(database, Change("accounts/1", None, Account()))
    assert read(clean_database_url) == [("staff", address, None, {})]
