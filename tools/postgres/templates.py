"""The names of the databases that tests copy, and of the roles that open the copies."""

from psycopg import conninfo

from migrations.roles import Roles

MIGRATED = "migrated"
"""The prefix of the databases that migrated.py makes."""


def template_name(prefix: str, schema_name: str) -> str:
    """Return the name of the database that has a schema and no rows."""
    return f"{prefix}_{schema_name}"


def login(url: str, role: str) -> str:
    """Return the URL for a role whose password is its name."""
    return conninfo.make_conninfo(url, user=role, password=role)


def app_login(url: str) -> str:
    """Return the URL with which a service opens a template."""
    return login(url, Roles.of(url).app)
