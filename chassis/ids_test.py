"""Batches of ids are bounded."""

import uuid

import pytest

from chassis import errors, ids

ID = "0199aaaa-0000-7000-8000-000000000000"


def test_parse_ids_takes_at_most_max_batch() -> None:
    assert ids.parse_ids([ID] * ids.MAX_BATCH, "ids") == [uuid.UUID(ID)] * ids.MAX_BATCH
    with pytest.raises(errors.InvalidArgument, match="ids has more than 1000 items"):
        ids.parse_ids([ID] * (ids.MAX_BATCH + 1), "ids")
