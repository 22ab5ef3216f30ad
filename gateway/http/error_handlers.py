"""Responses to requests whose handling raised an exception: always a problem."""

import falcon
import falcon.asgi

from chassis import errors, log
from gateway.http.body import ClientGoneError
from gateway.http.exchange import SCOPE_KEY
from gateway.http.problems import (
    CLIENT_CLOSED_REQUEST,
    HTTP_STATUSES,
    PROBLEM_JSON,
    Problem,
    internal,
)


def add_error_handlers(app: falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]) -> None:
    """Respond to every exception with a problem, also to those that Falcon handles itself."""
    for kind in (Exception, falcon.HTTPError):
        app.add_error_handler(kind, _respond)


async def _respond(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, _params: object
) -> None:
    problem = _problem_of(error)
    req.scope[SCOPE_KEY].code = problem.code
    resp.status = problem.status
    resp.data = problem.as_json()
    resp.content_type = PROBLEM_JSON
    resp.set_headers(dict(problem.headers))


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, errors.Error):
        status = error.http_status or HTTP_STATUSES[error.code]
        return Problem(status, error.code, error.message, error.reason)
    if isinstance(error, ClientGoneError):
        return Problem(CLIENT_CLOSED_REQUEST, "CANCELLED", "The client disconnected.")
    if isinstance(error, falcon.HTTPError):
        headers = dict(error.headers or {})
        title = error.title or "Refused."
        return Problem(error.status_code, "UNIMPLEMENTED", title, headers=headers)
    log.logger().error("request_failed", exc_info=error)
    return internal()
