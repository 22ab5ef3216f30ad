"""The two roles of each database, and what they may do.

The owner has the database and all that is in it; nobody logs in as the owner, revisions are run as
it. The service logs in as the app role, which has the rows but not the tables: no DDL, no TRUNCATE,
and nothing but INSERT and SELECT on a ledger. Others may not connect.

All of this can be repeated, and leaves alone what belongs to others, as do `postgres` and
`template1`: PostgreSQL lets every role connect to them, and to make temporary tables there. Where a
server has our databases only, a superuser should end that:

    REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC;

The servers that tools/postgres makes begin so. Superusers still connect then. An administrator who
is none needs CONNECT on `postgres`, from where the databases are made. Elsewhere pg_hba.conf can
name the databases of each role.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg import conninfo, sql

from chassis.settings import app_role

LEDGERS: Mapping[str, Collection[str]] = {
    "user": ("public.audit_events",),
    "product": ("public.audit_events", "public.stock_adjustments", "public.stock_returns"),
    "order": ("public.audit_events", "public.order_events"),
    "payment": ("public.transactions", "sandbox.movements"),
    "gateway": (),
}
"""The ledgers and event logs of each database. Each also has a trigger, which the owner heeds."""

_READ_ONLY = ("public.alembic_version",)

Connection = psycopg.Connection[Any]
Name = tuple[str, ...]
"""A name in its parts, such as a schema and a table."""


class RoleError(Exception):
    """A role may do more than that of a service should."""


@dataclass(frozen=True, slots=True)
class Roles:
    """The names of the roles of a database, and how its service logs in."""

    owner: str
    app: str
    app_password: str = field(default="", repr=False)
    """Empty if the app role has none, or one that is not set here."""

    @classmethod
    def of(cls, url: str, app_url: str | None = None) -> "Roles":
        """Return the roles of a database by its URL, and by the one that its service uses.

        Without the latter, the app role is named after the database, as the owner is.
        """
        database = str(conninfo.conninfo_to_dict(url)["dbname"])
        login = conninfo.conninfo_to_dict(app_url or "")
        app = str(login.get("user") or app_role(database))
        return cls(f"{database}_owner", app, str(login.get("password") or ""))


def create(connection: Connection, roles: Roles) -> None:
    """Create the roles that do not exist, and set the password of the app role.

    Roles belong to the whole server: callers hold a lock that all of them know.

    Raises:
        RoleError: the app role exists, and may do more than that of a service should.
    """
    _create_role(connection, roles.owner, "NOLOGIN")
    _create_role(connection, roles.app, "LOGIN")
    _check_app(connection, roles)
    if roles.app_password:
        _set_password(connection, roles.app, roles.app_password)
    _join(connection, roles.owner)


def _create_role(connection: Connection, role: str, attribute: LiteralString) -> None:
    if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount:
        create_role = sql.SQL("CREATE ROLE {} {}")
        connection.execute(create_role.format(sql.Identifier(role), sql.SQL(attribute)))


def _check_app(connection: Connection, roles: Roles) -> None:
    query = (
        "SELECT FROM pg_roles WHERE rolname = %s AND (rolsuper OR rolcreaterole OR rolcreatedb"
        " OR rolreplication OR rolbypassrls OR rolname = %s"
        " OR EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid))"
    )
    if connection.execute(query, [roles.app, roles.owner]).rowcount:
        raise RoleError(f"the role {roles.app} may do more than that of a service should")


def _set_password(connection: Connection, role: str, password: str) -> None:
    # A server that logs statements must not log the password.
    verifier = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()
    alter = sql.SQL("ALTER ROLE {} PASSWORD {}")
    connection.execute(alter.format(sql.Identifier(role), sql.Literal(verifier)))


def _join(connection: Connection, role: str) -> None:
    """Let an administrator act as a role, which a superuser may anyway."""
    query = "SELECT pg_has_role(%(role)s, 'SET') AND pg_has_role(%(role)s, 'USAGE')"
    if connection.execute(query, {"role": role}).fetchone() != (True,):
        join = sql.SQL("GRANT {} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE")
        connection.execute(join.format(sql.Identifier(role)))


# Sequences of columns go with their tables, and parts of extensions stay where they are.
_TAKE_OVER: LiteralString = """
WITH objects (class, id, owner, namespace) AS (
    SELECT 'pg_database'::regclass, oid, datdba, NULL::oid FROM pg_database
    WHERE datname = current_database()
    UNION ALL
    SELECT 'pg_namespace'::regclass, oid, nspowner, oid FROM pg_namespace
    UNION ALL
    SELECT 'pg_class'::regclass, oid, relowner, relnamespace FROM pg_class
    WHERE relkind = ANY ('{r,p,v,m,f,S}')
    UNION ALL
    SELECT 'pg_type'::regclass, oid, typowner, typnamespace FROM pg_type
    WHERE typtype = ANY ('{d,e}')
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, proowner, pronamespace FROM pg_proc
    UNION ALL
    SELECT 'pg_ts_config'::regclass, oid, cfgowner, cfgnamespace FROM pg_ts_config
    UNION ALL
    SELECT 'pg_ts_dict'::regclass, oid, dictowner, dictnamespace FROM pg_ts_dict
), previous AS (
    SELECT pg_roles.oid FROM pg_roles JOIN pg_database ON datname = current_database()
    WHERE (rolname = current_user OR pg_roles.oid = datdba) AND rolname <> %(owner)s
)
SELECT format('ALTER %%s %%s OWNER TO %%I', type, identity, %(owner)s)
FROM objects LEFT JOIN pg_namespace ON pg_namespace.oid = namespace
    CROSS JOIN pg_identify_object(class, id, 0)
WHERE owner IN (SELECT oid FROM previous)
    AND (nspname !~ '^pg_' AND nspname <> 'information_schema') IS NOT FALSE
    AND NOT EXISTS (
        SELECT FROM pg_depend WHERE classid = class AND objid = id
            AND (deptype IN ('e', 'i') OR deptype = 'a' AND refobjsubid > 0)
    )
ORDER BY array_position(ARRAY['database', 'schema'], type)
"""


def take_over(connection: Connection, roles: Roles) -> None:
    """Give the owner the database that is connected to, and what is in it.

    That is what belongs to the administrator, or to the owner of the database before.
    """
    with connection.transaction():
        for (statement,) in connection.execute(_TAKE_OVER, {"owner": roles.owner}).fetchall():
            connection.execute(statement)


# Everybody may call them, and what they write is in no table. An administrator who is no superuser
# cannot revoke that: they belong to whoever made the server.
_LARGE_OBJECT_FUNCTIONS: LiteralString = """
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', pg_proc.oid::regprocedure)
FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^lo(_|read$|write$)'
    AND pg_has_role(proowner, 'USAGE')
"""


def revoke_large_objects(connection: Connection) -> None:
    """Revoke from everybody, in the database that is connected to, what makes large objects.

    Run it as the administrator. It does nothing if that is no superuser.
    """
    with connection.transaction():
        for (statement,) in connection.execute(_LARGE_OBJECT_FUNCTIONS).fetchall():
            connection.execute(statement)


_RELATIONS: LiteralString = """
SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relowner = current_user::regrole AND relkind = ANY (%s)
"""
_SCHEMAS: LiteralString = """
SELECT nspname FROM pg_namespace WHERE nspname = 'public' OR nspowner = current_user::regrole
"""


def grant(connection: Connection, roles: Roles, ledgers: Collection[str]) -> None:
    """Grant the app role what it needs, and revoke what else it has, and what everybody has.

    Run it as the owner, after each revision. Until then, all that is new can be inserted into and
    read, and not changed.
    """
    with connection.transaction():
        database = _list_names(connection, "SELECT current_database()")
        schemas = _list_names(connection, _SCHEMAS)
        tables = _list_names(connection, _RELATIONS, ["r", "p", "v", "m"])
        written = [table for table in tables if ".".join(table) not in _READ_ONLY]
        changed = [table for table in written if ".".join(table) not in ledgers]
        sequences = _list_names(connection, _RELATIONS, ["S"])
        rules: Sequence[tuple[LiteralString, Sequence[Name]]] = (
            ("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}", database),
            ("GRANT CONNECT ON DATABASE {} TO {}", database),
            ("REVOKE ALL ON SCHEMA {} FROM PUBLIC, {}", schemas),
            ("GRANT USAGE ON SCHEMA {} TO {}", schemas),
            ("REVOKE ALL ON TABLE {} FROM {}", tables),
            ("GRANT SELECT ON TABLE {} TO {}", tables),
            ("GRANT INSERT ON TABLE {} TO {}", written),
            ("GRANT UPDATE, DELETE ON TABLE {} TO {}", changed),
            ("GRANT USAGE ON SEQUENCE {} TO {}", sequences),
        )
        for statement, names in rules:
            if names:
                on = sql.SQL(", ").join(sql.Identifier(*name) for name in names)
                connection.execute(sql.SQL(statement).format(on, sql.Identifier(roles.app)))
        _grant_by_default(connection, roles.app)


def _list_names(connection: Connection, query: LiteralString, *parameters: object) -> list[Name]:
    return connection.execute(query, parameters).fetchall()


def _grant_by_default(connection: Connection, role: str) -> None:
    """Grant a role what it may do at once with all that the current user makes later."""
    for what in ("SELECT, INSERT ON TABLES", "USAGE ON SEQUENCES", "USAGE ON SCHEMAS"):
        alter = sql.SQL("ALTER DEFAULT PRIVILEGES GRANT {} TO {}")
        connection.execute(alter.format(sql.SQL(what), sql.Identifier(role)))
