"""Amounts as PayPal writes them: a decimal string and a currency.

https://developer.paypal.com/api/rest/reference/currency-codes/
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from tools.fakes.paypal.errors import invalid, unprocessable

WITHOUT_DECIMALS = frozenset({"HUF", "JPY", "TWD"})
_WITH_DECIMALS = """
AUD BRL CAD CHF CNY CZK DKK EUR GBP HKD ILS MXN MYR NOK NZD PHP PLN SEK SGD THB USD
"""
CURRENCIES = WITHOUT_DECIMALS.union(_WITH_DECIMALS.split())
MAX_LENGTH = 32

_VALUE = re.compile(r"-?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of a currency."""

    value: Decimal
    currency_code: str

    def to_json(self) -> dict[str, str]:
        """Return the amount with as many decimals as the currency has."""
        decimals = 0 if self.currency_code in WITHOUT_DECIMALS else 2
        return {"currency_code": self.currency_code, "value": f"{self.value:.{decimals}f}"}

    def with_value(self, value: Decimal) -> "Money":
        """Return another amount of the same currency."""
        return Money(value, self.currency_code)


def parse_money(given: object) -> Money:
    """Read an amount.

    Raises:
        PayPalError: it is malformed or not positive, or PayPal has no such currency or decimals.
    """
    if not isinstance(given, Mapping):
        raise invalid("MISSING_REQUIRED_PARAMETER", "An amount is required.")
    value, currency_code = given.get("value"), given.get("currency_code")
    if not isinstance(value, str) or len(value) > MAX_LENGTH or not _VALUE.fullmatch(value):
        raise invalid("INVALID_PARAMETER_SYNTAX", "An amount is a string such as 10.00.")
    if currency_code not in CURRENCIES:
        raise unprocessable("CURRENCY_NOT_SUPPORTED")
    decimals = len(value.partition(".")[2])
    if decimals and currency_code in WITHOUT_DECIMALS:
        raise unprocessable("DECIMALS_NOT_SUPPORTED")
    if decimals > 2:
        raise unprocessable("DECIMAL_PRECISION")
    if Decimal(value) <= 0:
        raise unprocessable("CANNOT_BE_ZERO_OR_NEGATIVE")
    return Money(Decimal(value), str(currency_code))
