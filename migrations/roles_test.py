"""What the roles of the databases may do, and how they come to databases that had none."""

import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command
from psycopg import conninfo, errors

from migrations import schema
from migrations.roles import LEDGERS, Roles
from tools.postgres.testing import Databases
from tools.postgres.throwaway import run_throwaway_server

pytest_plugins = ("tools.postgres.testing",)

_TABLES = """
SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND nspname IN ('public', 'sandbox')
"""


@pytest.fixture(scope="module")
def urls(databases: Databases) -> Iterator[dict[str, str]]:
    """Give the administrator's URL of each database, made with its roles on one server."""
    made = {name: _make_missing(databases) for name in schema.DATABASES}
    for name, url in made.items():
        schema.upgrade(name, url)
    yield made
    for url in made.values():
        databases.drop(url)


def _make_missing(databases: Databases) -> str:
    url = databases.create_empty()
    databases.drop(url)
    return url


@pytest.fixture
def role(databases: Databases) -> Iterator[str]:
    """Give the name of a new role, which the test may grant anything in databases that it drops."""
    name = f"{databases.prefix}_{secrets.token_hex(4)}"
    _execute(databases.maintenance_url, f"CREATE ROLE {name} LOGIN")
    yield name
    _execute(databases.maintenance_url, f"DROP OWNED BY {name}; DROP ROLE {name}")


def _as_app(url: str) -> str:
    """Return the URL of the app role; the server of the tests trusts everybody."""
    return conninfo.make_conninfo(url, user=Roles.of(url).app)


def _execute(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def _list_tables(url: str) -> list[str]:
    return [f"{space}.{name}" for space, name in _execute(url, _TABLES)]


def test_each_service_opens_its_own_database_and_no_other(urls: dict[str, str]) -> None:
    refused = 0
    for service, own in urls.items():
        for database, url in urls.items():
            there = conninfo.make_conninfo(url, user=Roles.of(own).app)
            if service == database:
                assert _execute(there, "SELECT current_user") == [(Roles.of(own).app,)]
                continue
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                psycopg.connect(there)
            refused += 1
    assert refused == 20


@pytest.mark.parametrize("database", schema.DATABASES)
def test_all_belongs_to_a_role_that_cannot_log_in(urls: dict[str, str], database: str) -> None:
    url = urls[database]
    owner = Roles.of(url).owner
    for table, column in (("pg_class", "relowner"), ("pg_proc", "proowner")):
        space = column.replace("owner", "namespace")
        found = _execute(
            url,
            f"SELECT DISTINCT {column}::regrole::text FROM {table}"
            f" WHERE {space} IN (to_regnamespace('public'), to_regnamespace('sandbox'))",
        )
        assert found in ([(owner,)], [])
    assert _execute(
        url, "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()"
    ) == [(owner,)]
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        psycopg.connect(conninfo.make_conninfo(url, user=owner))


@pytest.mark.parametrize("database", schema.DATABASES)
def test_services_cannot_change_tables_or_empty_them(urls: dict[str, str], database: str) -> None:
    url = urls[database]
    tables = _list_tables(url)
    assert len(tables) > 1
    statements = [
        "CREATE TABLE public.mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION public.mine() RETURNS int RETURN 1",
        "CREATE EXTENSION hstore",
        "SELECT lo_creat(-1)",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'mine')",
        "SET session_replication_role = replica",
        f"SET ROLE {Roles.of(url).owner}",
        "UPDATE alembic_version SET version_num = 'x'",
        "DELETE FROM alembic_version",
        "INSERT INTO alembic_version VALUES ('x')",
    ]
    for table in tables:
        statements += [
            f"TRUNCATE {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE {table} ADD COLUMN mine int",
            f"ALTER TABLE {table} DISABLE TRIGGER USER",
            f"CREATE INDEX ON {table} ((1))",
            f"CREATE TRIGGER mine AFTER INSERT ON {table} EXECUTE FUNCTION version()",
        ]
    for statement in statements:
        with pytest.raises(errors.InsufficientPrivilege):
            _execute(_as_app(url), statement)


@pytest.mark.parametrize("database", schema.DATABASES)
def test_services_change_rows_of_all_tables_but_ledgers(
    urls: dict[str, str], database: str
) -> None:
    url, app_url = urls[database], _as_app(urls[database])
    for table in set(_list_tables(url)) - {"public.alembic_version"}:
        column = _execute(
            url,
            f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass"
            " AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''",
        )[0][0]
        changes = (
            f"UPDATE {table} SET {column} = {column} WHERE false",
            f"DELETE FROM {table} WHERE false",
        )
        _execute(app_url, f"SELECT FROM {table}")
        _execute(app_url, f"INSERT INTO {table} SELECT FROM (SELECT) AS nothing WHERE false")
        for change in changes:
            if table in LEDGERS[database]:
                with pytest.raises(errors.InsufficientPrivilege):
                    _execute(app_url, change)
            else:
                _execute(app_url, change)


@pytest.mark.parametrize("database", schema.DATABASES)
def test_a_table_that_refuses_changes_is_declared_as_a_ledger(
    urls: dict[str, str], database: str
) -> None:
    found = _execute(
        urls[database],
        "SELECT DISTINCT relnamespace::regnamespace || '.' || relname"
        " FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
        " WHERE tgfoid = to_regproc('refuse_change')",
    )
    assert {name for (name,) in found} == set(LEDGERS[database])


def test_what_was_granted_beside_the_migrations_is_revoked_by_the_next(
    urls: dict[str, str],
) -> None:
    url, app = urls["order"], Roles.of(urls["order"]).app
    _execute(
        url,
        f"GRANT UPDATE ON order_events TO {app}; GRANT UPDATE (state) ON order_events TO {app};"
        f" GRANT CREATE ON SCHEMA public TO {app}, PUBLIC",
    )
    schema.upgrade("order", url)
    for statement in ("UPDATE order_events SET state = 'x'", "CREATE TABLE mine ()"):
        with pytest.raises(errors.InsufficientPrivilege):
            _execute(_as_app(url), statement)


def test_a_new_table_is_read_and_added_to_until_the_migrations_grant_more(
    urls: dict[str, str],
) -> None:
    url = urls["user"]
    _execute(url, f"SET ROLE {Roles.of(url).owner}; CREATE TABLE notes (note text)")
    _execute(_as_app(url), "INSERT INTO notes VALUES ('new')")
    with pytest.raises(errors.InsufficientPrivilege):
        _execute(_as_app(url), "DELETE FROM notes")
    schema.upgrade("user", url)
    _execute(_as_app(url), "DELETE FROM notes")


def _make_as_before(database: str, url: str) -> None:
    """Make a database that the administrator owns, with all that is in it."""
    with schema._locked_connection(url) as connection:
        command.upgrade(schema._configure(database, connection), schema.HEAD)


@pytest.mark.parametrize("database", schema.DATABASES)
def test_a_database_of_the_administrator_becomes_the_owners(
    databases: Databases, database: str, role: str
) -> None:
    url, other = databases.create_empty(), databases.create_empty()
    _make_as_before(database, url)
    _execute(
        url,
        f"CREATE TABLE strange (); ALTER TABLE strange OWNER TO {role};"
        " CREATE TABLE kept AS SELECT 1 AS number; CREATE EXTENSION pg_trgm",
    )
    schema.upgrade(database, url)
    assert _execute(_as_app(url), "SELECT number FROM kept") == [(1,)]
    owned = "SELECT pg_get_userbyid({}) FROM {} WHERE {}"
    for found, expected in (
        (
            owned.format("datdba", "pg_database", "datname = current_database()"),
            Roles.of(url).owner,
        ),
        (owned.format("relowner", "pg_class", "relname = 'strange'"), role),
    ):
        assert _execute(url, found) == [(expected,)]
    assert _execute(
        other, owned.format("datdba", "pg_database", "datname = current_database()")
    ) == [(conninfo.conninfo_to_dict(url)["user"],)]
    # Only its owner could drop everything.
    schema.downgrade(database, url, schema.BASE)
    assert set(_list_tables(url)) == {"public.alembic_version", "public.kept", "public.strange"}
    for each in (url, other):
        databases.drop(each)


def _make_administrator(databases: Databases, role: str) -> None:
    _execute(
        databases.maintenance_url,
        f"ALTER ROLE {role} CREATEROLE CREATEDB; GRANT CONNECT ON DATABASE postgres TO {role}",
    )


def test_an_administrator_need_not_be_a_superuser(databases: Databases, role: str) -> None:
    url = _make_missing(databases)
    _make_administrator(databases, role)
    administrated = conninfo.make_conninfo(url, user=role)
    schema.upgrade("payment", administrated, "0006")
    schema.upgrade("payment", administrated)
    assert _execute(administrated, "SELECT FROM transactions") == []
    assert _execute(_as_app(url), "SELECT FROM sandbox.movements") == []
    # What belongs to the server is left to its superusers.
    assert _execute(_as_app(url), "SELECT lo_unlink(lo_create(0))") == [(1,)]
    schema.upgrade("payment", url)
    with pytest.raises(errors.InsufficientPrivilege):
        _execute(_as_app(url), "SELECT lo_create(0)")
    schema.upgrade("payment", administrated)
    schema.downgrade("payment", administrated, schema.BASE)
    databases.drop(url)


def test_the_database_of_such_an_administrator_becomes_the_owners(
    databases: Databases, role: str
) -> None:
    url = databases.create_empty()
    name = conninfo.conninfo_to_dict(url)["dbname"]
    _make_administrator(databases, role)
    _execute(url, f"ALTER DATABASE {name} OWNER TO {role}")
    administrated = conninfo.make_conninfo(url, user=role)
    _make_as_before("product", administrated)
    schema.upgrade("product", administrated)
    assert _execute(_as_app(url), "SELECT FROM stock_returns") == []
    schema.downgrade("product", administrated, schema.BASE)
    databases.drop(url)


def test_concurrent_runs_make_roles_once(databases: Databases) -> None:
    urls = [_make_missing(databases) for _ in range(3)]
    app_url = conninfo.make_conninfo(user=Roles.of(urls[-1]).app, password="p")
    runs = [url for url in urls for _ in range(4)]
    together = threading.Barrier(len(runs), timeout=60)

    def run(url: str) -> None:
        together.wait()
        schema._prepare_server(url, Roles.of(url, app_url))

    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(run, runs))
    for url in urls:
        databases.drop(url)


@pytest.mark.parametrize(
    "grant",
    [
        "ALTER ROLE {app} SUPERUSER",
        "ALTER ROLE {app} CREATEROLE",
        "ALTER ROLE {app} CREATEDB",
        "GRANT {owner} TO {app}",
        "GRANT {owner} TO {app} WITH INHERIT FALSE, SET FALSE",
        "GRANT pg_read_all_data TO {app}",
        "GRANT pg_monitor TO {app}",
    ],
)
def test_an_app_role_that_may_do_more_is_refused(databases: Databases, grant: str) -> None:
    url = databases.create_empty()
    schema.upgrade("gateway", url)
    found = Roles.of(url)
    _execute(url, grant.format(app=found.app, owner=found.owner))
    with pytest.raises(schema.SchemaError, match=f"gateway: the role {found.app} may do more"):
        schema.upgrade("gateway", url)
    databases.drop(url)


def test_the_administrator_is_no_app_role(databases: Databases) -> None:
    url = databases.create_empty()
    with pytest.raises(schema.SchemaError, match="may do more than that of a service"):
        schema.upgrade("gateway", url, app_url=url)
    databases.drop(url)


def test_passwords_are_set_and_not_logged() -> None:
    first, second = secrets.token_hex(), secrets.token_hex()
    with run_throwaway_server() as server:
        url = server.url("userdb?options=-clog_statement%3Dall")
        verifiers = []
        for password in (first, second):
            schema.upgrade("user", url, app_url=f"postgresql://shop:{password}@/userdb")
            query = "SELECT rolpassword FROM pg_authid WHERE rolname = 'shop'"
            verifiers += _execute(url, query)
        log = server.log_path.read_text(encoding="utf-8")
    assert len(set(verifiers)) == 2
    assert all(str(verifier).startswith("SCRAM-SHA-256$") for (verifier,) in verifiers)
    assert 'ALTER ROLE "shop" PASSWORD' in log
    assert first not in log
    assert second not in log
