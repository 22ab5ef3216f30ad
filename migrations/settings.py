"""The URLs of the five databases: those of the services, and those of who administers them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo

from chassis import settings


def _check_server(value: object, info: ValidationInfo) -> object:
    """Check that POSTGRES_*, where it is the default, is the server that the service uses."""
    service = str(info.field_name).removeprefix("migrations_")
    if isinstance(value, settings.OnServer) and service in info.data:
        used: SecretStr = info.data[service]
        if _find_place(value.make_url(info.data)) != _find_place(used.get_secret_value()):
            raise ValueError(f"must be set, because {service.upper()} is not on POSTGRES_HOST")
    return value


def _find_place(url: str) -> str:
    """Return the server and the database of a URL: what is between the login and the options."""
    return url.partition("://")[2].partition("?")[0].rpartition("@")[2]


_DEVELOPMENT_PASSWORD = "bazaar"  # noqa: S105 - It is refused elsewhere.


def _refuse_development_password(password: SecretStr, info: ValidationInfo) -> SecretStr:
    known = password.get_secret_value() == _DEVELOPMENT_PASSWORD
    if known and not settings.is_development(info):
        raise ValueError("must not be that of .env unless BAZAAR_ENVIRONMENT is development")
    return password


AdministratorPassword = Annotated[settings.Password, AfterValidator(_refuse_development_password)]
"""The password of who administers a server, which is not that of `.env` except in development."""
AdministratorUrl = Annotated[settings.DatabaseUrl, BeforeValidator(_check_server)]


def _administered(name: str = "") -> Any:
    default = settings.OnServer(name, "postgres_password", "postgres_user")
    return Field(default=default, validate_default=True)


class MigrationSettings(settings.DatabaseSettings):
    """Where the databases are, and who makes their roles and tables.

    Each database is on the server of POSTGRES_* unless its service has a URL; then the migrations
    need one of their own, whose role may make roles and databases.
    """

    own_prefix = "MIGRATIONS_"

    postgres_user: Annotated[str, Field(min_length=1)] | None = None
    """The role that administers the server: it makes roles and databases."""
    postgres_password: AdministratorPassword | None = None
    """The password of that role."""
    postgres_database: str = Field(default="gatewaydb", min_length=1)

    userservice_database_password: settings.Password | None = None
    userservice_database_url: settings.DatabaseUrl = settings.own_database(
        "userservice_database_password", "userdb"
    )
    productservice_database_password: settings.Password | None = None
    productservice_database_url: settings.DatabaseUrl = settings.own_database(
        "productservice_database_password", "productdb"
    )
    orderservice_database_password: settings.Password | None = None
    orderservice_database_url: settings.DatabaseUrl = settings.own_database(
        "orderservice_database_password", "orderdb"
    )
    paymentservice_database_password: settings.Password | None = None
    paymentservice_database_url: settings.DatabaseUrl = settings.own_database(
        "paymentservice_database_password", "paymentdb"
    )
    apigateway_database_password: settings.Password | None = None
    database_url: settings.DatabaseUrl = settings.own_database("apigateway_database_password")

    migrations_userservice_database_url: AdministratorUrl = _administered("userdb")
    migrations_productservice_database_url: AdministratorUrl = _administered("productdb")
    migrations_orderservice_database_url: AdministratorUrl = _administered("orderdb")
    migrations_paymentservice_database_url: AdministratorUrl = _administered("paymentdb")
    migrations_database_url: AdministratorUrl = _administered()

    def database_urls(self) -> dict[str, str]:
        """Return the administrator's URL of each database, by the names of `schema.DATABASES`."""
        return self._find_urls("migrations_")

    def app_urls(self) -> dict[str, str]:
        """Return the URL that each service uses, by the name of its database."""
        return self._find_urls("")

    def _find_urls(self, prefix: str) -> dict[str, str]:
        names = {name: f"{name}service_" for name in ("user", "product", "order", "payment")}
        return {
            name: getattr(self, f"{prefix}{service}database_url").get_secret_value()
            for name, service in {**names, "gateway": ""}.items()
        }
