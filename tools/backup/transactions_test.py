"""A server's transaction ids catch up with those that rows have."""

from collections.abc import Iterator

import psycopg
import pytest

from tools.backup import transactions
from tools.backup.transactions import catch_up
from tools.postgres.testing import Databases

pytest_plugins = ("tools.postgres.testing",)

_AHEAD = 2_500
_IS_ENDED = "SELECT bool_and(xact_id < pg_snapshot_xmin(pg_current_snapshot())) FROM events"


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    """Yield the URL of a database with two events, one of them of a later transaction."""
    created = databases.create_empty()
    with psycopg.connect(created) as connection:
        connection.execute(
            "CREATE TABLE events (xact_id xid8); INSERT INTO events SELECT"
            " (pg_current_xact_id()::text::bigint + ahead)::text::xid8"
            f" FROM unnest(ARRAY[0, {_AHEAD}]) AS ahead"
        )
    yield created
    databases.drop(created)


def test_events_are_of_the_past_once_the_server_has_caught_up(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "BATCH", 1_000)
    said: list[str] = []
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute(_IS_ENDED).fetchone() == (False,)
        catch_up(url, said.append)
        assert connection.execute(_IS_ENDED).fetchone() == (True,)
    assert len(said) == 3


def test_a_server_that_is_ahead_does_nothing(url: str) -> None:
    said: list[str] = []
    catch_up(url, lambda _: None)
    catch_up(url, said.append)
    assert said == []
