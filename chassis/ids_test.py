"""Ids are parsed in one spelling, and batches of them are bounded."""

import uuid

import pytest

from chassis import errors, ids

GOOD = "0199aaaa-0000-7000-8000-000000000000"


def test_parse_ids_takes_at_most_max_batch() -> None:
    assert len(ids.parse_ids([GOOD] * ids.MAX_BATCH, "ids")) == ids.MAX_BATCH
    with pytest.raises(errors.InvalidArgument, match="ids has more than 1000 items"):
        ids.parse_ids([GOOD] * (ids.MAX_BATCH + 1), "ids")


def test_parse_id_ignores_case() -> None:
    assert ids.parse_id(GOOD.upper(), "id") == uuid.UUID(GOOD)


@pytest.mark.parametrize(
    "spelling",
    [f"{{{GOOD}}}", f"urn:uuid:{GOOD}", GOOD.replace("-", ""), f"{GOOD}\n", GOOD[:-1] + "٣", ""],
)
def test_parse_id_takes_the_canonical_form_only(spelling: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        ids.parse_id(spelling, "id")
