"""The gateway as a program: its commands, and gunicorn with one worker class for the first of them.

What can be wrong with settings and descriptor set is found out here, before anything listens.
"""

import json
import sys
from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from chassis import log
from chassis.settings import address
from gateway.app import GatewayApp, Plan, connect, create_app, load_plan, load_routes
from gateway.commands import Command, parse_command
from gateway.openapi.document import make_document
from gateway.route_table import write_table

GRACEFUL_TIMEOUT_SECONDS = 25


class GatewayServer(BaseApplication):  # type: ignore[misc]
    """Gunicorn for one plan; every worker makes its own pools and channels."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        super().__init__()

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults."""
        settings = self._plan.settings
        options: dict[str, Any] = {
            "bind": address(settings.apigateway_host, settings.apigateway_port),
            "workers": settings.apigateway_workers,
            "worker_class": "gateway.worker.GatewayWorker",
            "graceful_timeout": GRACEFUL_TIMEOUT_SECONDS,
            "logger_class": PlainLogger,
            # All masters of a machine would share one socket.
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> GatewayApp:
        """Make the application; gunicorn calls this in the worker."""
        return create_app(self._plan, connect(self._plan))


class PlainLogger(Logger):  # type: ignore[misc]
    """Gunicorn's logger without handlers of its own: its events go where all the others go."""

    def setup(self, cfg: Any) -> None:
        """Leave everything to the root logger."""
        self.error_log.propagate = True
        self.access_log.propagate = True


def main() -> None:
    """Do what the command line says."""
    command = parse_command(sys.argv[1:])
    if command is Command.DESCRIBE:
        _, routes = load_routes()
        sys.stdout.write(write_table(routes.targets))
    elif command is Command.OPENAPI:
        document = make_document(*load_routes())
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        plan = load_plan()
        log.configure(plan.settings.log_format, plan.settings.log_level)
        GatewayServer(plan).run()


if __name__ == "__main__":
    main()
