"""Recognises card numbers, so that they can be refused before anybody keeps or logs one."""

import re
from collections.abc import Iterable, Sequence

# UUIDs (RFC 9562 §4) and hexadecimal ids and hashes have long runs of digits by chance. Whatever
# else looks like them may be a card number with something written before or after it.
_IDENTIFIER = re.compile(
    r"(?<![0-9A-Za-z])(?:"
    r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[1-8][0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}"
    r"|(?=\d*[A-Fa-f])(?:[0-9A-Fa-f]{32}|[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})"
    r")(?![0-9A-Za-z])"
)
# Card numbers have 13 to 19 digits (ISO/IEC 7812), which people write in groups.
_LENGTHS = range(13, 20)
_DIGIT_RUN = re.compile(r"\d(?:[ .-]?\d){12,}")
_GROUP = re.compile(r"\d+")
# The first two digits name the issuer. No payment card has others than these; years are below.
_ISSUERS = range(22, 70)


def is_card_number(text: str) -> bool:
    """Return whether a string contains 13 to 19 digits that pass the Luhn check of card numbers.

    They are one or more whole groups of digits, or the beginning of a group of more than 19, such
    as a number with an expiry date and a security code after it. Keys that clients make of several
    numbers are not meant: those have other separators, or begin like no payment card, as dates do.
    Neither are hashes and UUIDs.
    """
    if _DIGIT_RUN.search(text) is None:
        return False
    runs = _DIGIT_RUN.findall(_IDENTIFIER.sub("x", text))
    return any(_passes_luhn(digits) for run in runs for digits in _list_candidates(run))


def _list_candidates(run: str) -> Iterable[Sequence[int]]:
    """Return the digits in a run of groups that may be a card number."""
    groups = [[int(digit) for digit in group] for group in _GROUP.findall(run)]
    digits = [digit for group in groups for digit in group]
    starts, end = [], 0
    for group in groups:
        starts.append(end)
        end += len(group)
    ends = {*starts, end}
    for start, group in zip(starts, groups, strict=True):
        if 10 * digits[start] + digits[min(start + 1, end - 1)] in _ISSUERS:
            for length in _LENGTHS:
                if start + length in ends or len(group) > _LENGTHS[-1]:
                    yield digits[start : start + length]


def _passes_luhn(digits: Sequence[int]) -> bool:
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[::-2]) + sum(doubled)) % 10 == 0
