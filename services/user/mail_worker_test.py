"""Mails from the outbox to a real mail server."""

import asyncio
import datetime as dt
import re
import socket
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg.abc import Params

from chassis.database import Database
from chassis.testing import Events, wait_for_blocked
from services.user import account_repository, mail_repository, mail_transport, mail_worker
from services.user.mail import Template
from services.user.mail_transport import SmtpTransport, Transport
from services.user.mail_worker import MailWorker
from services.user.smtp_testing import MailServer, run_mail_server

pytest_plugins = ("tools.postgres.testing", "chassis.testing")
DATABASE = "user"
LINK = "https://shop.example/pages/"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[MailServer]:
    async with run_mail_server(tmp_path) as running:
        yield running


def execute(url: str, query: LiteralString, parameters: Params = ()) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(query, parameters)
        return cursor.fetchall() if cursor.description else []


def add_user(url: str, email: str = "ada@example.com", *, verified: bool = False) -> uuid.UUID:
    ((user_id,),) = execute(
        url,
        "INSERT INTO users (email, display_name, password_hash, email_verified)"
        " VALUES (%s, 'Ada <b>http://evil.example</b>', '$argon2id$', %s) RETURNING user_id",
        (email, verified),
    )
    return uuid.UUID(str(user_id))


async def add(
    database: Database, template: Template, email: str, user_id: uuid.UUID | None = None
) -> None:
    async with database.connection() as connection:
        await mail_repository.add(connection, template, email, user_id)


def make_worker(database: Database, server: MailServer) -> MailWorker:
    return over(database, SmtpTransport(f"smtp://127.0.0.1:{server.port}"))


def over(database: Database, transport: Transport) -> MailWorker:
    return MailWorker(database, transport, "shop@bazaar.example", LINK)


def read(url: str) -> list[tuple[object, ...]]:
    return execute(url, "SELECT template, attempts FROM mails ORDER BY mail_id")


def let_pass(url: str, age: dt.timedelta) -> None:
    execute(
        url,
        "UPDATE mails SET create_time = create_time - %(age)s, due_time = due_time - %(age)s",
        {"age": age},
    )


@pytest.mark.parametrize(
    ("template", "page"),
    [
        (Template.VERIFY_EMAIL, "verify-email"),
        (Template.RESET_PASSWORD, "reset-password"),
        (Template.ALREADY_REGISTERED, "reset-password"),
    ],
)
async def test_a_mail_has_a_link_with_a_token_of_which_the_digest_is_stored(
    database: Database,
    clean_database_url: str,
    server: MailServer,
    template: Template,
    page: str,
) -> None:
    user_id = add_user(clean_database_url)
    await add(database, template, "ada@example.com", user_id)
    await make_worker(database, server).run()
    (message,) = server.mailbox.mails
    assert server.mailbox.recipients == [["ada@example.com"]]
    assert (message["From"], message["To"]) == ("shop@bazaar.example", "ada@example.com")
    assert message["Auto-Submitted"] == "auto-generated"
    text = message.get_content().replace("\r", "")
    found = re.search(rf"^https://shop\.example/pages/{page}#token=([\w-]{{43}})$", text, re.M)
    assert found is not None
    stored = execute(
        clean_database_url,
        "SELECT digest = sha256(convert_to(%s, 'UTF8')), user_id FROM mail_tokens",
        [found[1]],
    )
    assert stored == [(True, user_id)]
    assert read(clean_database_url) == []


async def test_no_mail_has_what_a_stranger_typed(
    database: Database, clean_database_url: str, server: MailServer
) -> None:
    user_id = add_user(clean_database_url)
    for template in Template:
        await add(database, template, "ada@example.com", user_id)
    await make_worker(database, server).run()
    assert len(server.mailbox.mails) == 4
    assert not any("evil" in message.as_string() for message in server.mailbox.mails)


async def test_a_mail_goes_to_the_address_as_it_is_stored(
    database: Database, clean_database_url: str, server: MailServer
) -> None:
    # The addresses are equal when case is folded, and may be mailboxes of two people.
    add_user(clean_database_url, "stra\u00dfe@example.com")
    await add(database, Template.RESET_PASSWORD, "strasse@example.com")
    await make_worker(database, server).run()
    assert server.mailbox.recipients == [["stra\u00dfe@example.com"]]


async def test_an_unknown_address_gets_no_mail(
    database: Database, clean_database_url: str, server: MailServer
) -> None:
    await add(database, Template.RESET_PASSWORD, "nobody@example.com")
    await make_worker(database, server).run()
    assert server.mailbox.mails == []
    assert read(clean_database_url) == []


async def test_a_verified_address_gets_no_mail_to_verify_it(
    database: Database, clean_database_url: str, server: MailServer
) -> None:
    user_id = add_user(clean_database_url, verified=True)
    await add(database, Template.VERIFY_EMAIL, "ada@example.com", user_id)
    await make_worker(database, server).run()
    assert server.mailbox.mails == []


async def test_a_mail_that_is_cancelled_after_it_was_claimed_is_not_sent(
    database: Database, clean_database_url: str, server: MailServer
) -> None:
    user_id = add_user(clean_database_url)
    await add(database, Template.VERIFY_EMAIL, "new@example.com", user_id)
    async with database.connection() as watching:
        async with database.transaction() as connection:
            await account_repository.lock_account(connection, user_id)
            running = asyncio.ensure_future(make_worker(database, server).run())
            await wait_for_blocked(watching)
            await mail_repository.cancel(connection, user_id)
        await running
    assert server.mailbox.mails == []
    assert execute(clean_database_url, "SELECT FROM mail_tokens") == []


async def test_an_address_of_another_user_is_told_without_a_token(
    database: Database, clean_database_url: str, server: MailServer
) -> None:
    add_user(clean_database_url, "other@example.com")
    user_id = add_user(clean_database_url)
    await add(database, Template.VERIFY_EMAIL, "other@example.com", user_id)
    await make_worker(database, server).run()
    (message,) = server.mailbox.mails
    assert message["To"] == "other@example.com"
    assert "token" not in message.get_content()


async def test_a_mailbox_is_not_flooded(
    database: Database, clean_database_url: str, server: MailServer
) -> None:
    add_user(clean_database_url)
    for _ in range(3 * mail_worker.MAX_TOKENS):
        await add(database, Template.RESET_PASSWORD, "ada@example.com")
    await make_worker(database, server).run()
    assert len(server.mailbox.mails) == mail_worker.MAX_TOKENS
    assert read(clean_database_url) == []


@pytest.mark.parametrize("response", ["451 Try later", "550 No such user"])
async def test_a_mail_that_is_refused_is_tried_again_later(
    database: Database,
    clean_database_url: str,
    server: MailServer,
    events: Events,
    response: str,
) -> None:
    add_user(clean_database_url)
    await add(database, Template.RESET_PASSWORD, "ada@example.com")
    server.mailbox.response = response
    worker = make_worker(database, server)
    await worker.run()
    await worker.run()
    assert read(clean_database_url) == [("reset_password", 1)]
    assert execute(clean_database_url, "SELECT FROM mail_tokens") == []
    assert "ada@example.com" not in str(events)
    let_pass(clean_database_url, mail_worker.MIN_BACKOFF)
    server.mailbox.response = "250 OK"
    await worker.run()
    assert len(server.mailbox.mails) == 1
    assert read(clean_database_url) == []


async def test_one_bad_mail_stops_no_other(
    database: Database, clean_database_url: str, server: MailServer
) -> None:
    for name in ("ada", "bob", "cleo"):
        add_user(clean_database_url, f"{name}@example.com")
        await add(database, Template.RESET_PASSWORD, f"{name}@example.com")
    execute(clean_database_url, "UPDATE users SET email = 'a b' WHERE email = 'ada@example.com'")
    execute(clean_database_url, "UPDATE mails SET email = 'a b' WHERE email = 'ada@example.com'")
    await make_worker(database, server).run()
    assert len(server.mailbox.mails) == 2
    assert read(clean_database_url) == [("reset_password", 1)]


async def test_pauses_between_attempts_grow_up_to_an_hour(
    database: Database, clean_database_url: str, server: MailServer
) -> None:
    add_user(clean_database_url)
    await add(database, Template.RESET_PASSWORD, "ada@example.com")
    server.mailbox.response = "451 Try later"
    worker = make_worker(database, server)
    pauses = []
    for _ in range(12):
        await worker.run()
        ((pause,),) = execute(clean_database_url, "SELECT due_time - now() FROM mails")
        assert isinstance(pause, dt.timedelta)
        pauses.append(round(pause.total_seconds(), -1))
        execute(clean_database_url, "UPDATE mails SET due_time = now()")
    assert pauses[:4] == [10, 20, 40, 80]
    assert pauses[-1] == 3600


async def test_a_mail_is_given_up_after_a_day(
    database: Database, clean_database_url: str, server: MailServer, events: Events
) -> None:
    add_user(clean_database_url)
    await add(database, Template.RESET_PASSWORD, "ada@example.com")
    let_pass(clean_database_url, mail_worker.MAX_AGE)
    await make_worker(database, server).run()
    assert server.mailbox.mails == []
    assert read(clean_database_url) == []
    (event,) = [each for each in events if each["event"] == "mail_given_up"]
    assert event["log_level"] == "error"


async def test_mails_wait_while_the_server_is_down(
    database: Database, clean_database_url: str, unused_tcp_port: int, events: Events
) -> None:
    add_user(clean_database_url)
    await add(database, Template.RESET_PASSWORD, "ada@example.com")
    await over(database, SmtpTransport(f"smtp://127.0.0.1:{unused_tcp_port}")).run()
    assert read(clean_database_url) == [("reset_password", 1)]
    assert [each["event"] for each in events] == ["mails_postponed"]


async def test_a_server_that_does_not_respond_is_given_up_after_a_time(
    database: Database, clean_database_url: str, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    monkeypatch.setattr(mail_transport, "TIMEOUT_SECONDS", 0.2)
    add_user(clean_database_url)
    await add(database, Template.RESET_PASSWORD, "ada@example.com")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worker = over(database, SmtpTransport(f"smtp://127.0.0.1:{silent.getsockname()[1]}"))
        async with asyncio.timeout(5):
            await worker.run()
    assert read(clean_database_url) == [("reset_password", 1)]
    assert [each["event"] for each in events] == ["mails_postponed"]


async def test_a_mail_that_the_server_does_not_accept_in_time_is_given_up(
    database: Database,
    clean_database_url: str,
    server: MailServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mail_worker, "SEND_SECONDS", 0.2)
    for name in ("ada", "bob"):
        add_user(clean_database_url, f"{name}@example.com")
        await add(database, Template.RESET_PASSWORD, f"{name}@example.com")
    server.mailbox.proceed.clear()
    async with asyncio.timeout(5):
        await make_worker(database, server).run()
    server.mailbox.proceed.set()
    # The late response to the first mail is not taken for one to the second.
    assert read(clean_database_url) == [("reset_password", 1)] * 2
    assert execute(clean_database_url, "SELECT FROM mail_tokens") == []


async def test_several_processes_send_each_mail_once(
    database: Database, clean_database_url: str, server: MailServer
) -> None:
    for number in range(40):
        add_user(clean_database_url, f"user{number}@example.com")
        await add(database, Template.RESET_PASSWORD, f"user{number}@example.com")
    await asyncio.gather(*(make_worker(database, server).run() for _ in range(4)))
    recipients = [each for (each,) in server.mailbox.recipients]
    assert len(recipients) == len(set(recipients)) == 40


async def test_a_mail_whose_process_has_ended_is_sent_by_another(
    database: Database, clean_database_url: str, server: MailServer
) -> None:
    add_user(clean_database_url)
    await add(database, Template.RESET_PASSWORD, "ada@example.com")
    async with database.connection() as connection:
        await mail_repository.claim(connection, mail_worker.LEASE, 10)
    worker = make_worker(database, server)
    await worker.run()
    assert server.mailbox.mails == []
    let_pass(clean_database_url, mail_worker.LEASE)
    await worker.run()
    assert len(server.mailbox.mails) == 1
