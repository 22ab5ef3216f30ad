"""Cases where this gateway differs from grpc-gateway (2.x) or Envoy's gRPC-JSON transcoder.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.testing.fixtures import Setup

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Case:
    """A request and its expected outcome; what is None is not checked."""

    method: str
    path: str
    status: int
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    request: Mapping[str, Any] | None = None
    """The expected gRPC request; there must be none if the gateway refuses, or for OPTIONS."""
    reason: str | None = None
    response: bytes | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """What each of the three does with its default settings, and the reason for the choice here."""

    topic: str
    grpc_gateway: str
    envoy: str
    here: str
    cases: tuple[Case, ...]


def case_parameters(differences: Iterable[Difference]) -> list[Any]:
    """Return the cases as parameters of a test."""
    return [
        pytest.param(case, id=f"{difference.topic}, {number}")
        for difference in differences
        for number, case in enumerate(difference.cases, start=1)
    ]


async def try_case(setup: Setup, case: Case) -> Case:
    """Send the request of a case, and return the case with its actual outcome."""
    response = await setup.client.request(
        case.method, case.path, content=case.content, headers=case.headers
    )
    is_checked = case.request is not None or response.is_error or case.method == "OPTIONS"
    return replace(
        case,
        status=response.status_code,
        request=setup.request() if is_checked and setup.servicer.calls else None,
        reason=None if case.reason is None else response.json()["reason"],
        response=None if case.response is None else response.content,
        response_headers={name: response.headers.get(name, "") for name in case.response_headers},
    )
