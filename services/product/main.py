"""The product service: settings, database, servicer, server, sweep. Wiring only."""

import asyncio
from functools import partial

import uvloop

from bazaar.product.v1 import product_pb2_grpc
from chassis import log, settings
from chassis.database import Database
from chassis.server import Server, serve
from chassis.supervision import BackgroundTask
from services.product.expiry import INTERVAL_SECONDS, sweep
from services.product.servicer import ProductServicer


class ProductSettings(settings.ServiceSettings):
    """Where the product service listens and keeps its data."""

    own_prefix = "PRODUCTSERVICE_"

    productservice_host: settings.Host
    productservice_port: settings.Port
    productservice_database_url: settings.DatabaseUrl | None = None


async def run(config: ProductSettings) -> None:
    """Serve until told to stop."""
    database = Database(
        config.database_url("productdb", config.productservice_database_url),
        connections=config.service_database_connections,
    )
    servicer = ProductServicer(database)
    server = Server(
        "bazaar.product.v1.ProductService",
        lambda grpc_server: product_pb2_grpc.add_ProductServiceServicer_to_server(
            servicer, grpc_server
        ),
        database,
        settings.address(config.productservice_host, config.productservice_port),
        config.limits(),
    )
    sweeper = BackgroundTask("sweep_reservations", partial(sweep, database), INTERVAL_SECONDS)
    await serve(server, asyncio.Event(), tasks=[sweeper])


def main() -> None:
    """Run the service from the command line."""
    config = settings.load(ProductSettings)
    log.configure(config.log_format, config.log_level)
    uvloop.run(run(config))


if __name__ == "__main__":
    main()
