"""A gRPC server on a free port, for as long as a test needs it.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc


@asynccontextmanager
async def listening(server: grpc.aio.Server) -> AsyncIterator[int]:
    """Start a server whose services are added, yield its port, and stop it."""
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=0)
