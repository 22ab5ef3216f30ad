"""The gateway as a program: its commands, and gunicorn, which serves.

Errors in the settings and the descriptor set are found here, before anything listens.
"""

import json
import sys
from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from chassis import log
from chassis.settings import address
from gateway.app import GatewayApp, create_app, load_plan, load_routes
from gateway.commands import Command, parse_command
from gateway.dependencies import Plan, connect
from gateway.openapi.document import make_document
from gateway.probe import check
from gateway.protojson.codec import JsonCodec
from gateway.route_table import write_table

GRACEFUL_TIMEOUT_SECONDS = 25

_PROBED = {Command.HEALTH: "/healthz", Command.READY: "/readyz"}


class GatewayServer(BaseApplication):  # type: ignore[misc]
    """Gunicorn for one plan; every worker makes its own pools and channels."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        super().__init__()

    def load_config(self) -> None:
        """Set the options that differ from gunicorn's defaults."""
        settings = self._plan.settings
        options: dict[str, Any] = {
            "bind": address(settings.apigateway_host, settings.apigateway_port),
            "workers": settings.apigateway_workers,
            "worker_class": "gateway.worker.GatewayWorker",
            "graceful_timeout": GRACEFUL_TIMEOUT_SECONDS,
            "logger_class": PlainLogger,
            # By default all masters of a machine share one socket.
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> GatewayApp:
        """Make the application; gunicorn calls this in the worker."""
        return create_app(self._plan, connect(self._plan))


class PlainLogger(Logger):  # type: ignore[misc]
    """Gunicorn's logger without handlers of its own, so that its events go to the root logger."""

    def setup(self, cfg: Any) -> None:
        """Pass all events on to the root logger."""
        self.error_log.propagate = True
        self.access_log.propagate = True


def main() -> None:
    """Run the command of the command line."""
    command, message = parse_command(sys.argv[1:])
    if command in _PROBED:
        check(load_plan().settings, _PROBED[command])
    elif command is Command.SERVE:
        plan = load_plan()
        log.configure(plan.settings.log_format, plan.settings.log_level)
        GatewayServer(plan).run()
    else:
        sys.stdout.write(_output(command, message))


def _output(command: Command, message: str) -> str:
    """Return the output of a command that only prints."""
    descriptors, routes = load_routes()
    if command is Command.DESCRIBE:
        return write_table(routes.targets)
    if command is Command.OPENAPI:
        return json.dumps(make_document(descriptors, routes), indent=2) + "\n"
    try:
        kind = descriptors.pool.FindMessageTypeByName(message)
    except KeyError:
        sys.exit(f"There is no message type {message} in the descriptor set.")
    return JsonCodec(descriptors.pool).source(kind)


if __name__ == "__main__":
    main()
