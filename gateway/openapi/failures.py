"""The failures that the comments of RPCs and services name, by HTTP status.

A comment says `Returns NOT_FOUND if there is no such book, and ABORTED if ...`; that of a service
says `Every method returns UNAVAILABLE while ...`. A failure with an HTTP status of its own says so
in parentheses: `(reason OUT_OF_STOCK, HTTP 409)`.
"""

import re
from collections.abc import Iterator

from gateway.http.problems import HTTP_STATUSES
from gateway.openapi.comments import sentences

_OPENING = re.compile(r"(?:Returns|Every method returns)\b")
_AFTERMATH = re.compile(r"After\b")
_CODE = re.compile(rf"\b(?:{'|'.join(HTTP_STATUSES)})\b")
_JOINT = re.compile(r"(?:[\s,]|\band\b|\bor\b)*$")
_CHOICE = re.compile(r"(?<=\)),? or (?=if |when |while )")
_OWN_STATUS = re.compile(r", HTTP (4[0-9]{2})\b|\s*\(HTTP (4[0-9]{2})\)")

_UNPROCESSABLE = 422
"""The status of an INVALID_ARGUMENT that is well-formed and breaks a rule (RFC 9110 §15.5.21)."""


def named_failures(*comments: str) -> dict[int, str]:
    """Return what comments say about failures, by HTTP status, in ascending order."""
    found: dict[int, list[str]] = {}
    for comment in comments:
        for status, text in _failures(comment):
            found.setdefault(status, []).append(text)
    return {status: "\n\n".join(dict.fromkeys(texts)) for status, texts in sorted(found.items())}


def _failures(comment: str) -> Iterator[tuple[int, str]]:
    for sentence in sentences(comment):
        if _AFTERMATH.match(sentence):
            for code in _CODE.findall(sentence):
                yield HTTP_STATUSES[code], f"{sentence}."
        elif _OPENING.match(sentence):
            for code, condition in _conditions(sentence):
                yield from _statuses(code, condition)


def _conditions(sentence: str) -> Iterator[tuple[str, str]]:
    """Yield each code of a sentence and its condition; in `A or B if C`, both have `if C`."""
    conditions: list[tuple[str, str]] = []
    condition, end = "", len(sentence)
    for code in reversed(list(_CODE.finditer(sentence))):
        condition = _JOINT.sub("", sentence[code.end() : end]).strip() or condition
        conditions.append((code[0], condition))
        end = code.start()
    return reversed(conditions)


def _statuses(code: str, condition: str) -> Iterator[tuple[int, str]]:
    for part in _CHOICE.split(condition):
        own = _OWN_STATUS.search(part)
        bare = _OWN_STATUS.sub("", part).strip()
        text = f"`{code}` {bare}." if bare else f"`{code}`."
        if own is not None:
            yield int(own[1] or own[2]), text
            continue
        yield HTTP_STATUSES[code], text
        if code == "INVALID_ARGUMENT":
            yield _UNPROCESSABLE, text
