"""A client that sends an Idempotency-Key with each POST, and each request once more if it fails."""

import asyncio
import uuid
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

_PAUSE_SECONDS = 1.0
"""How long it waits for, unless the response says it."""


@dataclass(slots=True)
class OneRetry:
    """A middleware of aiohttp, which counts failures by method, path and status.

    A stream of requests is sent once, as its beginning is gone. To a request that is repeated, a
    refusal is a failure as well: the first one may have been performed, and its response lost.
    """

    requests: int = 0
    first_failures: Counter[str] = field(default_factory=Counter)
    """The requests that would have failed without a retry."""
    failures: Counter[str] = field(default_factory=Counter)
    """The requests that failed twice."""

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request; if it fails, send it again after the pause that the response asks for."""
        self.requests += 1
        if request.url.path.endswith(":stream"):
            return await _send(request, handler, self.first_failures)
        if request.method == "POST":
            request.headers["Idempotency-Key"] = str(uuid.uuid4())
        pause = _PAUSE_SECONDS
        try:
            response = await _send(request, handler, self.first_failures)
            if not _has_failed(response):
                return response
            pause = float(response.headers.get("Retry-After", _PAUSE_SECONDS))
            response.release()
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(pause)
        return await _send(request, handler, self.failures, lowest_failure=400)


async def _send(
    request: aiohttp.ClientRequest,
    handler: aiohttp.ClientHandlerType,
    failures: Counter[str],
    lowest_failure: int = 500,
) -> aiohttp.ClientResponse:
    """Send a request once, and count its failure, by a status from `lowest_failure`."""
    try:
        response = await handler(request)
    except aiohttp.ClientError as error:
        failures[_describe(request, type(error).__name__)] += 1
        raise
    if _has_failed(response, lowest_failure):
        failures[_describe(request, str(response.status))] += 1
    return response


def _has_failed(response: aiohttp.ClientResponse, lowest_failure: int = 500) -> bool:
    """Return whether a request has failed, by its status or its Retry-After."""
    return response.status >= lowest_failure or "Retry-After" in response.headers


def _describe(request: aiohttp.ClientRequest, failure: str) -> str:
    """Describe a failure, without the ids in the path, which are UUIDs."""
    parts = (part if len(part) < 36 else "*" + part[36:] for part in request.url.path.split("/"))
    return f"{request.method} {'/'.join(parts)}: {failure}"
