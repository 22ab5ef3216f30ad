"""The commands by which an orchestrator asks a running gateway for its health, with HTTP.

They run beside the gateway, with its settings: an image has no other program.
"""

import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from gateway.settings import GatewaySettings

TIMEOUT_SECONDS = 2.0
"""How long the gateway may take to respond."""


def check(settings: GatewaySettings, path: str) -> None:
    """Return if the gateway responds with 200; end the program with status 1 if it does not."""
    connection = _make_connection(settings)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
    except (OSError, HTTPException) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    finally:
        connection.close()
    if response.status != 200:
        sys.exit(f"{response.status}: {body}")


def _make_connection(settings: GatewaySettings) -> HTTPConnection:
    # Where it listens on all addresses, this machine's own is among them.
    host, port = settings.apigateway_host, settings.apigateway_port
    certificate = settings.apigateway_certificate
    if certificate is None:
        return HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    # It has the name that clients use, and perhaps an authority that this machine does not know.
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)
