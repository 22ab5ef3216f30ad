"""The directed schedule: a refund survives every fault at every step."""

import pytest

from services.order.schedule.cases import Case, list_cases
from services.order.schedule.paths import REFUND, walk
from services.order.schedule.testing import REFUNDED, Schedule

pytest_plugins = (
    "chassis.testing",
    "tools.postgres.testing",
    "services.order.testing",
    "services.order.schedule.testing",
)
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_path_lists_every_step(schedule: Schedule) -> None:
    assert await schedule.trace(REFUND) == [step.name for step in walk(REFUND.steps)]


@pytest.mark.parametrize("case", list_cases(REFUND), ids=str)
async def test_money_and_units_go_back_once_after_a_fault(schedule: Schedule, case: Case) -> None:
    assert await schedule.run(case) == REFUNDED
