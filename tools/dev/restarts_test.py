"""Replicas are restarted under load, and no request fails: a short form of `rolling_restarts`."""

from tools.dev.restarts import restart_in_turn
from tools.dev.testing import open_environment


async def test_no_request_fails_while_replicas_are_restarted() -> None:
    with open_environment() as environment:
        result = await restart_in_turn(environment, ["order"], restarts=2)
    assert result.passed, str(result)
    assert all(result.load.requests[name] > 0 for name in ("read", "order", "list", "upload"))
