"""What the tests of refunds compare: amounts, and what the provider has paid back."""

from typing import LiteralString

from google.type import money_pb2

from services.order.testing import Urls, read


def pounds(units: int) -> money_pb2.Money:
    """Return an amount of whole pounds."""
    return money_pb2.Money(currency_code="GBP", units=units)


def at_provider(urls: Urls) -> tuple[int, int]:
    """Return how many refunds the provider has made, and of how much."""
    query: LiteralString = (
        "SELECT count(*), coalesce(sum(amount_minor), 0)::bigint FROM sandbox.movements"
        " WHERE type = 'REFUND'"
    )
    ((count, minor),) = read(urls["payment"], query)
    return count, minor
