"""Recognises card numbers, so that they can be refused before anybody keeps or logs one."""

import re

# Card numbers have 13 to 19 digits (ISO/IEC 7812), which people group with blanks, dots or dashes.
_DIGIT_RUN = re.compile(r"(?<!\d)\d(?:[ .-]?\d){12,18}(?!\d)")


def is_card_number(text: str) -> bool:
    """Return whether a text contains 13 to 19 digits that pass the Luhn check of card numbers."""
    return any(_passes_luhn(run) for run in _DIGIT_RUN.findall(text))


def _passes_luhn(run: str) -> bool:
    digits = [int(character) for character in reversed(run) if character.isdecimal()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
