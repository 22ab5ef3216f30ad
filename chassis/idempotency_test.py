"""The rule for idempotency keys; those that tests of the services send show where it holds."""

import pytest

from chassis import errors, idempotency


@pytest.mark.parametrize("key", ["k", "order 17 / é", "k" * 255, "é" * 255])
def test_key_has_1_to_255_characters(key: str) -> None:
    idempotency.check_key(key)


@pytest.mark.parametrize("key", ["", "k" * 256, "a\x00b", "4242 4242 4242 4242"])
def test_key_that_cannot_or_must_not_be_stored_is_refused(key: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        idempotency.check_key(key)
    assert (caught.value.reason, caught.value.http_status) == ("INVALID_IDEMPOTENCY_KEY", None)
    (violation,) = caught.value.violations
    assert violation.field == "idempotency_key"
    assert not key or key not in caught.value.message
