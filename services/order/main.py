"""The order service: settings, database, channels, servicer, server. Wiring only."""

import asyncio

import uvloop

from bazaar.order.v1 import order_pb2_grpc
from chassis import client, log, settings
from chassis.database import Database
from chassis.server import Server, serve
from services.order.checkout import Checkout
from services.order.peers import Peers
from services.order.servicer import OrderServicer


class OrderSettings(settings.ServiceSettings):
    """Where the order service listens and keeps its data, and where the others listen."""

    own_prefix = "ORDERSERVICE_"

    orderservice_host: settings.Host
    orderservice_port: settings.Port
    orderservice_database_url: settings.DatabaseUrl | None = None
    userservice_host: settings.Host
    userservice_port: settings.Port
    productservice_host: settings.Host
    productservice_port: settings.Port
    paymentservice_host: settings.Host
    paymentservice_port: settings.Port


async def run(config: OrderSettings) -> None:
    """Serve until told to stop."""
    database = Database(
        config.database_url("orderdb", config.orderservice_database_url),
        connections=config.service_database_connections,
    )
    users = client.open_channel(config.userservice_host, config.userservice_port)
    products = client.open_channel(config.productservice_host, config.productservice_port)
    payments = client.open_channel(config.paymentservice_host, config.paymentservice_port)
    draining = asyncio.Event()
    checkout = Checkout(database, Peers(users, products, payments))
    servicer = OrderServicer(database, checkout, draining)
    server = Server(
        "bazaar.order.v1.OrderService",
        lambda grpc_server: order_pb2_grpc.add_OrderServiceServicer_to_server(
            servicer, grpc_server
        ),
        database,
        settings.address(config.orderservice_host, config.orderservice_port),
        config.limits(),
    )
    await serve(server, draining, [users, products, payments])


def main() -> None:
    """Run the service from the command line."""
    config = settings.load(OrderSettings)
    log.configure(config.log_format, config.log_level)
    uvloop.run(run(config))


if __name__ == "__main__":
    main()
