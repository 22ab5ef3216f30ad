"""Structured logging: one JSON event a line, or a readable form for people in development.

What is bound with `structlog.contextvars` (the request id) is in every event of the same call.
Never log an e-mail address, a token, a card or a password.
"""

import logging
import sys
from typing import Literal

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

Format = Literal["json", "console"]
Level = Literal["debug", "info", "warning", "error"]

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure(form: Format, level: Level) -> None:
    """Send all logging of the process, the standard library's too, to stderr in one form."""
    renderer: Processor = (
        structlog.processors.JSONRenderer(serializer=_dumps)
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default shows local variables where rich is installed: passwords, tokens, URLs.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    tracebacks: tuple[Processor, ...] = (
        (structlog.processors.format_exc_info,) if form == "json" else ()
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_SHARED, *tracebacks, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *tracebacks,
                renderer,
            ],
        )
    )
    # The probe of the server tells once that a database is down, and once that it is back.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.INFO), force=True)


def logger() -> FilteringBoundLogger:
    """Return a logger that takes the configuration when it is first used."""
    bound: FilteringBoundLogger = structlog.get_logger()
    return bound


def _dumps(event: object, **_options: object) -> str:
    return orjson.dumps(event, default=str).decode()
