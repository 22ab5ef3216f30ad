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

App = falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]


def add_error_handlers(app: App) -> None:
    """Respond to every exception with a problem; the nearest class decides which."""
    app.add_error_handler(Problem, _show_problem)
    app.add_error_handler(errors.Error, _show_own_error)
    app.add_error_handler(ClientGoneError, _show_client_gone)
    app.add_error_handler(falcon.HTTPError, _show_falcon_error)
    app.add_error_handler(Exception, _show_defect)


async def _show_problem(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, problem: Problem, _params: object
) -> None:
    req.scope[SCOPE_KEY].code = problem.code
    resp.status = problem.status
    resp.data = problem.as_json()
    resp.content_type = PROBLEM_JSON
    resp.set_headers(dict(problem.headers))


async def _show_own_error(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: errors.Error, params: object
) -> None:
    status = error.http_status or HTTP_STATUSES[error.code]
    await _show_problem(req, resp, Problem(status, error.code, error.message, error.reason), params)


async def _show_client_gone(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, _error: ClientGoneError, params: object
) -> None:
    problem = Problem(CLIENT_CLOSED_REQUEST, "CANCELLED", "The client disconnected.")
    await _show_problem(req, resp, problem, params)


async def _show_falcon_error(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: falcon.HTTPError, params: object
) -> None:
    problem = Problem(error.status_code, "UNIMPLEMENTED", error.title or "Refused.")
    problem.headers = dict(error.headers or {})
    await _show_problem(req, resp, problem, params)


async def _show_defect(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, _error: Exception, params: object
) -> None:
    log.logger().exception("request_failed")
    await _show_problem(req, resp, internal(), params)
