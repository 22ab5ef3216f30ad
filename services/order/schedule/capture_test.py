"""The directed schedule: an order that is captured manually survives every fault at every step."""

import pytest

from services.order.schedule.cases import Case, list_cases
from services.order.schedule.paths import APPROVAL, MANUAL_CAPTURE, Path, walk
from services.order.schedule.testing import ENDINGS, Schedule

pytest_plugins = (
    "chassis.testing",
    "tools.postgres.testing",
    "services.order.testing",
    "services.order.schedule.testing",
)
pytestmark = pytest.mark.asyncio(loop_scope="module")
PATHS = (MANUAL_CAPTURE, APPROVAL)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
async def test_a_path_lists_every_step(schedule: Schedule, path: Path) -> None:
    assert await schedule.trace(path) == [step.name for step in walk(path.steps)]


@pytest.mark.parametrize("case", list_cases(*PATHS), ids=str)
async def test_an_order_ends_well_after_a_fault(schedule: Schedule, case: Case) -> None:
    assert await schedule.run(case) == ENDINGS[case.final_state]
