"""The user service: settings, database, servicer, server. Wiring only."""

import asyncio

import uvloop

from bazaar.user.v1 import user_pb2_grpc
from chassis import log, settings
from chassis.database import Database
from chassis.server import Server, serve
from services.user.passwords import Passwords
from services.user.servicer import UserServicer


class UserSettings(settings.ServiceSettings):
    """Where the user service listens and keeps its data."""

    own_prefix = "USERSERVICE_"

    userservice_host: settings.Host
    userservice_port: settings.Port
    userservice_database_url: settings.DatabaseUrl | None = None


async def run(config: UserSettings) -> None:
    """Serve until told to stop."""
    database = Database(
        config.database_url("userdb", config.userservice_database_url),
        connections=config.service_database_connections,
    )
    servicer = UserServicer(database, Passwords())
    server = Server(
        "bazaar.user.v1.UserService",
        lambda grpc_server: user_pb2_grpc.add_UserServiceServicer_to_server(servicer, grpc_server),
        database,
        settings.address(config.userservice_host, config.userservice_port),
        config.limits(),
    )
    await serve(server, asyncio.Event())


def main() -> None:
    """Run the service from the command line."""
    config = settings.load(UserSettings)
    log.configure(config.log_format, config.log_level)
    uvloop.run(run(config))


if __name__ == "__main__":
    main()
