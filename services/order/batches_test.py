"""Batches are split, and halved when they fail."""

from collections.abc import Sequence

import pytest

from chassis import errors
from services.order import batches


def test_split_bounds_items_and_lines() -> None:
    largest = batches.MAX_BATCH_LINES
    assert list(batches.split([])) == []
    assert list(batches.split([("a", largest), ("b", 1), ("c", largest - 1)])) == [
        ["a"],
        ["b", "c"],
    ]
    many = [(number, 1) for number in range(2_500)]
    assert [len(batch) for batch in batches.split(many)] == [1_000, 1_000, 500]
    assert [item for batch in batches.split(many) for item in batch] == list(range(2_500))


class Processor:
    """Processes numbers, fails on batches with a poisonous one, and records the batches."""

    def __init__(self, *poisonous: int) -> None:
        self.batches: list[Sequence[int]] = []
        self._poisonous = set(poisonous)

    async def process(self, batch: Sequence[int]) -> list[str]:
        self.batches.append(batch)
        if self._poisonous.intersection(batch):
            raise ValueError
        return [f"{item}" for item in batch]


def fail(item: int, error: Exception) -> str:
    assert isinstance(error, ValueError)
    return f"{item} failed"


async def test_halve_isolates_poisonous_items_and_keeps_the_order() -> None:
    processor = Processor(2, 7)
    results = await batches.halve(processor.process, range(9), fail)
    assert results == ["0", "1", "2 failed", "3", "4", "5", "6", "7 failed", "8"]


async def test_halve_processes_a_batch_without_poison_once() -> None:
    processor = Processor()
    assert await batches.halve(processor.process, range(9), fail) == [
        f"{item}" for item in range(9)
    ]
    assert processor.batches == [range(9)]


async def test_halve_finds_one_item_of_a_thousand_in_21_batches() -> None:
    processor = Processor(617)
    await batches.halve(processor.process, range(1_000), fail)
    assert len(processor.batches) <= 21


async def test_halve_stops_halving_after_too_many_failures() -> None:
    processor = Processor(*range(1_000))
    results = await batches.halve(processor.process, range(1_000), fail)
    assert results == [fail(item, ValueError()) for item in range(1_000)]
    assert len(processor.batches) <= batches.MAX_FAILURES + 10


@pytest.mark.parametrize("error", batches.TRANSIENT)
async def test_halve_reraises_transient_failures(error: type[errors.Error]) -> None:
    processed: list[Sequence[int]] = []

    async def process(batch: Sequence[int]) -> list[str]:
        processed.append(batch)
        raise error("DOWN", "down")

    with pytest.raises(error):
        await batches.halve(process, range(8), fail)
    assert processed == [range(8)]
