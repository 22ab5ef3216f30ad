"""The URLs of the five databases, from the settings of the programs that use them."""

from pydantic import Field

from chassis import settings


class MigrationSettings(settings.DatabaseSettings):
    """Where the databases are, each on the server of POSTGRES_* unless it has a URL."""

    userservice_database_url: settings.DatabaseUrl = settings.own_database("userdb")
    productservice_database_url: settings.DatabaseUrl = settings.own_database("productdb")
    orderservice_database_url: settings.DatabaseUrl = settings.own_database("orderdb")
    paymentservice_database_url: settings.DatabaseUrl = settings.own_database("paymentdb")
    postgres_database: str = Field(default="gatewaydb", min_length=1)
    database_url: settings.DatabaseUrl = settings.own_database()

    def database_urls(self) -> dict[str, str]:
        """Return the URL of each database, by the names of `schema.DATABASES`."""
        urls = {
            "user": self.userservice_database_url,
            "product": self.productservice_database_url,
            "order": self.orderservice_database_url,
            "payment": self.paymentservice_database_url,
            "gateway": self.database_url,
        }
        return {name: url.get_secret_value() for name, url in urls.items()}
