"""Structured logging: one JSON event per line, or a readable format for development.

What is bound with `structlog.contextvars` (the request id) is in every event of the same call.
Never log an e-mail address, a token, a card or a password. An event that cannot be written is lost
and counted, and raises nothing.
"""

import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Literal, TextIO, cast

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


def configure(log_format: Format, level: Level) -> None:
    """Send all logging of the process, the standard library's too, to stderr in one format.

    Events that cannot be written, because the disk is full or the reader of a pipe is gone, are
    counted, and their number is logged before the next event that can be written.
    """
    tracebacks, renderer = _make_renderers(log_format)
    output = _Output(sys.stderr.fileno(), partial(_render_loss, renderer))
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_SHARED, *tracebacks, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", output)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            renderer, foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder(), *tracebacks]
        )
    )
    # The probe of the server logs once that the database is down, and once that it is back.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # Both log every request that is made.
    for name in ("httpx", "stripe"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.INFO), force=True)


def _make_renderers(log_format: Format) -> tuple[Sequence[Processor], Processor]:
    """Return the processors that format tracebacks, and the one that makes the line."""
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer(serializer=_dumps)
        return (structlog.processors.format_exc_info,), renderer
    return (), structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        # The default shows local variables where rich is installed: passwords, tokens, URLs.
        exception_formatter=structlog.dev.plain_traceback,
    )


class _Output(io.TextIOBase):
    """A text file that never raises: writes that fail are counted.

    It has no buffer: the rest of an event whose write failed would be written later, in the middle
    of another line.
    """

    def __init__(self, descriptor: int, render_loss: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._render_loss = render_loss
        self._lost = 0

    def write(self, text: str) -> int:
        """Write an event, with one that says how many were lost before it, or count it as lost."""
        notice = f"\n{self._render_loss(self._lost)}\n" if self._lost else ""
        data = (notice + text).encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            self._lost = 0
        except OSError:
            self._lost += 1
        return len(text)


def _render_loss(renderer: Processor, count: int) -> str:
    event = {
        "event": "log_events_lost",
        "level": "error",
        "count": count,
        "timestamp": datetime.now(UTC).isoformat(),
    }
    return str(renderer(None, "error", event))


def logger() -> FilteringBoundLogger:
    """Return a logger that is configured when it is first used."""
    bound: FilteringBoundLogger = structlog.get_logger()
    return bound


def _dumps(event: object, **_options: object) -> str:
    return orjson.dumps(event, default=str).decode()
