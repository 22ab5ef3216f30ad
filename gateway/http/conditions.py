"""Entity tags, and the conditions If-Match and If-None-Match (RFC 9110 §8.8.3 and §13)."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote, unquote

from gateway.http.exchange import Exchange
from gateway.http.problems import Problem, invalid_argument

ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

_OPAQUE = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What stands for itself in a tag, besides letters and digits; everything else is %-encoded."""

_PLAIN = re.compile(rf"[A-Za-z0-9{re.escape(_OPAQUE)}]+")
_TAGS = re.compile(rf"[ \t,]*(?:{ENTITY_TAG.pattern}[ \t]*(?:,[ \t,]*|$))+")


def entity_tag(version: str) -> str:
    """Return the entity tag of a version, from which any version can be read back.

    A version in the format of a weak tag, as AIP-154 allows it, becomes that tag.
    """
    if version.startswith("W/") and ENTITY_TAG.fullmatch(version) is not None:
        return version
    return f'"{version if _PLAIN.fullmatch(version) else quote(version, safe=_OPAQUE)}"'


@dataclass(frozen=True, slots=True)
class EntityTags:
    """The value of If-Match or If-None-Match: some tags, or None for `*`, which matches any."""

    tags: frozenset[str] | None

    def match_strongly(self, tag: str) -> bool:
        """Compare a tag byte by byte; a weak tag matches none (RFC 9110 §8.8.3.2)."""
        return self.tags is None or (tag in self.tags and not tag.startswith("W/"))

    def match_weakly(self, tag: str) -> bool:
        """Compare a tag without regard to weakness (RFC 9110 §8.8.3.2)."""
        bare = tag.removeprefix("W/")
        return self.tags is None or any(bare == other.removeprefix("W/") for other in self.tags)


def parse_entity_tags(name: str, value: str) -> EntityTags:
    """Read the value of the header `name`, the values of several lines joined by commas.

    Raises:
        Problem: it is malformed.
    """
    if value.strip() == "*":
        return EntityTags(None)
    if _TAGS.fullmatch(value) is None:
        raise invalid_argument(f'{name} must be * or a list such as "a", "b".', "INVALID_HEADER")
    return EntityTags(frozenset(ENTITY_TAG.findall(value)))


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of one request; None for a header that it does not have."""

    if_match: EntityTags | None
    if_none_match: EntityTags | None

    def refine_status(self, problem: Problem) -> None:
        """Give the problem of a call the status 412 if it means that If-Match does not match.

        By AIP-154 a service fails with ABORTED if the version is not the current one.
        """
        if self.if_match is not None and self.if_match.tags and problem.code == "ABORTED":
            problem.status = HTTPStatus.PRECONDITION_FAILED


def read_conditions(exchange: Exchange) -> Conditions | None:
    """Return the conditions of a request, or None, as for nearly every request.

    Raises:
        Problem: a header is malformed.
    """
    if_match = exchange.list_header(b"if-match")
    if_none_match = exchange.list_header(b"if-none-match")
    if if_match is None and if_none_match is None:
        return None
    return Conditions(
        None if if_match is None else parse_entity_tags("If-Match", if_match),
        None if if_none_match is None else parse_entity_tags("If-None-Match", if_none_match),
    )


def only_version(tags: frozenset[str]) -> str:
    """Return the version of the only strong tag in If-Match: a service compares no more than one.

    Raises:
        Problem: there is no strong tag (412), or more than one (400).
    """
    strong = [tag for tag in tags if not tag.startswith("W/") and tag != '""']
    if not strong:
        raise version_mismatch("If-Match compares strongly: no resource has such a version.")
    if len(strong) > 1:
        raise invalid_argument("If-Match can name only one version here.", "INVALID_HEADER")
    return unquote(strong[0][1:-1])


def version_mismatch(detail: str) -> Problem:
    """Return the problem of a resource whose version is not the one in If-Match."""
    return Problem(HTTPStatus.PRECONDITION_FAILED, "ABORTED", detail, "ETAG_MISMATCH")
