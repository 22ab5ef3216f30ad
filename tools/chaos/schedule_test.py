"""The schedule of the faults of programs, and the pace that ties them to the orders."""

import asyncio
from collections import Counter

from tools.chaos.pace import Pace
from tools.chaos.schedule import Fault, FaultKind, make_schedule


def plan(seed: int = 7) -> list[Fault]:
    return list(make_schedule(seed, 50_000, kills=2_000, database_restarts=100, freezes=20))


def test_the_same_seed_plans_the_same_faults_and_another_one_others() -> None:
    assert plan() == plan()
    assert plan() != plan(8)


def test_all_faults_are_planned() -> None:
    crashed = [fault for fault in plan() if fault.target == "postgres"]
    kinds = Counter(fault.kind for fault in plan() if fault.target != "postgres")
    assert kinds == {FaultKind.KILL: 2_000, FaultKind.FREEZE: 20}
    assert len(crashed) == 100
    assert {fault.kind for fault in crashed} == {FaultKind.KILL, FaultKind.STOP_AT_ONCE}


def test_faults_are_spread_over_all_orders() -> None:
    tenths = Counter(10 * fault.orders // 50_000 for fault in plan())
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) - min(tenths.values()) <= 1


async def test_orders_wait_for_the_fault_that_is_due() -> None:
    pace = Pace(10)
    reaching = asyncio.create_task(pace.reach(4))
    assert [list(await pace.begin(3)), list(await pace.begin(3))] == [[0, 1, 2], [3, 4, 5]]
    await reaching
    waiting = asyncio.create_task(pace.begin(3))
    await asyncio.sleep(0)
    assert not waiting.done()
    await pace.release()
    assert list(await waiting) == [6, 7, 8]
    assert [list(await pace.begin(3)), list(await pace.begin(3))] == [[9], []]


async def test_a_fault_waits_for_its_order() -> None:
    pace = Pace(10)
    reaching = asyncio.create_task(pace.reach(2))
    await pace.begin(1)
    await asyncio.sleep(0)
    assert not reaching.done()
    await pace.begin(1)
    await reaching
