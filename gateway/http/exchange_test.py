"""The log of requests has nothing that a client has written."""

import pytest
import structlog

from gateway.testing.fixtures import Setup

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

UUID = "0199aaaa-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        (f"/v1/probes/{UUID}?text=ada", f"/v1/probes/{UUID}"),
        ("/v1/probes/ada@example.com", "/v1/probes/{id}"),
        (f"/v1/any/ada/{UUID}/of/ada", f"/v1/any/*/{UUID}/of/{{id}}"),
        ("/v1/nowhere/ada@example.com/ada", None),
        ("/openapi.json", "/openapi.json"),
    ],
)
async def test_a_path_is_logged_without_what_a_client_chose(
    setup: Setup, path: str, logged: str | None
) -> None:
    with structlog.testing.capture_logs() as events:
        await setup.client.get(path, headers={"User-Agent": "ada"})
    (event,) = (event for event in events if event["event"] == "request")
    assert event.get("path") == logged
    assert "ada" not in str(event)
