"""Recognises card numbers, so that they can be refused before anybody keeps or logs one."""

import re

# Card numbers have 13 to 19 digits (ISO/IEC 7812), which people group with blanks, dots or dashes.
# A hash or a UUID has long runs of digits by chance.
_IDENTIFIER = re.compile(
    r"\b(?:[0-9A-Fa-f]{20,}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\b"
)
# The first digit names the industry of the issuer: 1 and 7 to 9 have no cards to pay with.
_INDUSTRIES = range(2, 7)
_DIGIT_RUN = re.compile(r"(?<!\d)\d(?:[ .-]?\d){12,18}(?!\d)")


def is_card_number(text: str) -> bool:
    """Return whether a text contains 13 to 19 digits that pass the Luhn check of card numbers.

    Numbers that begin like no payment card are not meant, such as times in microseconds, and
    neither are hashes and UUIDs.
    """
    return any(_passes_luhn(run) for run in _DIGIT_RUN.findall(_IDENTIFIER.sub("", text)))


def _passes_luhn(run: str) -> bool:
    digits = [int(character) for character in reversed(run) if character.isdecimal()]
    if digits[-1] not in _INDUSTRIES:
        return False
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
