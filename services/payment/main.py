"""The payment service: settings, database, provider, servicer, server. Wiring only."""

import asyncio

import uvloop

from bazaar.payment.v1 import payment_pb2_grpc
from chassis import log, settings
from chassis.database import Database
from chassis.server import Server, serve
from services.payment.providers.sandbox import SandboxProvider
from services.payment.servicer import PaymentServicer


class PaymentSettings(settings.ServiceSettings):
    """Where the payment service listens and keeps its data."""

    own_prefix = "PAYMENTSERVICE_"

    paymentservice_host: settings.Host
    paymentservice_port: settings.Port
    paymentservice_database_url: settings.DatabaseUrl | None = None


async def run(config: PaymentSettings) -> None:
    """Serve until told to stop."""
    database = Database(
        config.database_url("paymentdb", config.paymentservice_database_url),
        connections=config.service_database_connections,
    )
    servicer = PaymentServicer(database, SandboxProvider(database))
    server = Server(
        "bazaar.payment.v1.PaymentService",
        lambda grpc_server: payment_pb2_grpc.add_PaymentServiceServicer_to_server(
            servicer, grpc_server
        ),
        database,
        settings.address(config.paymentservice_host, config.paymentservice_port),
        config.limits(),
    )
    await serve(server, asyncio.Event())


def main() -> None:
    """Run the service from the command line."""
    config = settings.load(PaymentSettings)
    log.configure(config.log_format, config.log_level)
    uvloop.run(run(config))


if __name__ == "__main__":
    main()
