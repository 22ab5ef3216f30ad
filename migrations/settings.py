"""The URLs of the five databases, from the settings of the programs that use them."""

from pydantic import Field

from chassis import settings


class MigrationSettings(settings.PostgresSettings):
    """The server, and the URLs of databases that are on other ones."""

    userservice_database_url: settings.DatabaseUrl | None = None
    productservice_database_url: settings.DatabaseUrl | None = None
    orderservice_database_url: settings.DatabaseUrl | None = None
    paymentservice_database_url: settings.DatabaseUrl | None = None
    postgres_database: str = Field(default="gatewaydb", min_length=1)
    gateway_database_url: settings.DatabaseUrl | None = Field(
        default=None, validation_alias="DATABASE_URL"
    )

    def database_urls(self) -> dict[str, str]:
        """Return the URL of each database, by the names of `schema.DATABASES`."""
        return {
            "user": self.database_url("userdb", self.userservice_database_url),
            "product": self.database_url("productdb", self.productservice_database_url),
            "order": self.database_url("orderdb", self.orderservice_database_url),
            "payment": self.database_url("paymentdb", self.paymentservice_database_url),
            "gateway": self.database_url(self.postgres_database, self.gateway_database_url),
        }
