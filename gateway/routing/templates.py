"""Path templates of http rules: their grammar, and a tree that finds what a request's path matches.

The grammar and the decoding rules are those of google/api/http.proto. A literal segment wins over
`*`, and `*` over `**`, whatever the order of the rules; of a tie only the first is added. What a
match means is not known here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,;@-]|%[0-9A-Fa-f]{2})+")
_FIELD_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_RESERVED_SLASH = re.compile(rb"%2[Ff]")
_PARTS = re.compile(r"/(?:\{(?P<variable>[^{}]*)\}|(?P<segment>[^/{}]+))")

ANY_METHOD = "*"
"""The HTTP method of a rule that leaves it open."""

Target = TypeVar("Target")


class TemplateError(Exception):
    """A template cannot be served, or breaks the grammar of google/api/http.proto."""


class PathError(Exception):
    """A path holds a percent-encoding that is not UTF-8, or a NUL."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A field that takes the segments `start` to `end` of a path; `end` is None for the rest."""

    field_path: str
    start: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: literals, `*` and a last `**`, its variables and its verb or ``."""

    text: str
    segments: tuple[str, ...]
    variables: tuple[Variable, ...]
    verb: str


def parse_template(text: str) -> Template:
    """Parse a template such as `/v1/{name=shelves/*}/books:list`.

    Raises:
        TemplateError: it breaks the grammar.
    """
    path, verb = _split_verb(text)
    if not path.startswith("/"):
        raise TemplateError(f"{text}: must begin with a slash")
    segments: list[str] = []
    variables: list[Variable] = []
    position = 0
    while position < len(path):
        part = _PARTS.match(path, position)
        if part is None:
            raise TemplateError(f"{text}: cannot be read from {path[position:]!r} on")
        position = part.end()
        if part["variable"] is None:
            segments.append(_check_segment(part["segment"], text))
        else:
            variables.append(_parse_variable(part["variable"], segments, text))
    _check_whole(text, segments, variables)
    return Template(text, tuple(segments), tuple(variables), verb)


def _split_verb(text: str) -> tuple[str, str]:
    colon = text.rfind(":")
    if colon <= max(text.rfind("/"), text.rfind("}")):
        return text, ""
    verb = text[colon + 1 :]
    if _LITERAL.fullmatch(verb) is None:
        raise TemplateError(f"{text}: bad verb")
    return text[:colon], _decode(verb)


def _parse_variable(inner: str, segments: list[str], text: str) -> Variable:
    field_path, equals, pattern = inner.partition("=")
    if _FIELD_PATH.fullmatch(field_path) is None:
        raise TemplateError(f"{text}: {field_path!r} is not a field path")
    parts = pattern.split("/") if equals else ["*"]
    start = len(segments)
    segments.extend(_check_segment(part, text) for part in parts)
    return Variable(field_path, start, None if parts[-1] == "**" else len(segments))


def _check_segment(segment: str, text: str) -> str:
    if segment in ("*", "**"):
        return segment
    if _LITERAL.fullmatch(segment) is None:
        raise TemplateError(f"{text}: {segment!r} is not a segment")
    return _decode(segment)


def _check_whole(text: str, segments: Sequence[str], variables: Sequence[Variable]) -> None:
    if not segments:
        raise TemplateError(f"{text}: has no segments")
    if "**" in segments[:-1]:
        raise TemplateError(f"{text}: ** must be the last segment")
    names = [variable.field_path for variable in variables]
    if len(set(names)) != len(names):
        raise TemplateError(f"{text}: binds a field twice")


@dataclass(slots=True)
class _Node(Generic[Target]):
    literals: "dict[str, _Node[Target]]" = field(default_factory=dict)
    star: "_Node[Target] | None" = None
    rest: "_Node[Target] | None" = None
    ends: dict[str, dict[str, tuple[Template, Target]]] = field(default_factory=dict)
    """By verb, then by HTTP method."""


class Match(NamedTuple, Generic[Target]):
    """What a path and method lead to, and the decoded text of each variable."""

    target: Target
    variables: Mapping[str, str]


class PathTree(Generic[Target]):
    """Templates by HTTP method, searched by the path of a request."""

    def __init__(self) -> None:
        self._root: _Node[Target] = _Node()
        self.targets: list[Target] = []
        """What was added, in that order."""

    def add(self, method: str, template: Template, target: Target) -> Target | None:
        """Add a template, unless another one with this method matches the same paths.

        Return the target of that other one, or None if there is none.
        """
        ends = self._ends(template)
        if method in ends:
            return ends[method][1]
        ends[method] = (template, target)
        self.targets.append(target)
        return None

    def add_fallback(self, method: str, template: Template, target: Target) -> None:
        """Add a template with one more method for a target, unless it has a target for that."""
        self._ends(template).setdefault(method, (template, target))

    def methods(self, raw_path: str) -> frozenset[str]:
        """Return the methods that a percent-encoded path takes, ANY_METHOD among them.

        Raises:
            PathError: the path cannot be decoded.
        """
        found = self.find("", raw_path)
        return frozenset() if isinstance(found, Match) else found

    def find(self, method: str, raw_path: str) -> Match[Target] | frozenset[str]:
        """Find what a percent-encoded path leads to, or else the methods that it would take.

        A last segment that can be read as `name:verb` is read so, whatever the method: GET on the
        path of a verb that takes POST is a wrong method and not a resource whose name has a colon.

        Raises:
            PathError: the path cannot be decoded.
        """
        raw = raw_path[1:].split("/")
        name, colon, verb = raw[-1].rpartition(":")
        if colon and verb:
            found = self._find_end(method, [*raw[:-1], name], _decode(verb))
            if found:
                return found
        return self._find_end(method, raw, "")

    def _ends(self, template: Template) -> dict[str, tuple[Template, Target]]:
        node = self._root
        for segment in template.segments:
            node = _descend(node, segment)
        return node.ends.setdefault(template.verb, {})

    def _find_end(
        self, method: str, raw: Sequence[str], verb: str
    ) -> Match[Target] | frozenset[str]:
        segments = [_decode(segment) if "%" in segment else segment for segment in raw]
        allowed: set[str] = set()
        end = _search(self._root, segments, 0, (verb, method), allowed)
        if end is None:
            return frozenset(allowed)
        template, target = end
        return Match(target, _bind(template, raw, segments))


def _descend(node: _Node[Target], segment: str) -> _Node[Target]:
    if segment == "*":
        node.star = node.star or _Node()
        return node.star
    if segment == "**":
        node.rest = node.rest or _Node()
        return node.rest
    return node.literals.setdefault(segment, _Node())


def _search(
    node: _Node[Target],
    segments: Sequence[str],
    position: int,
    wanted: tuple[str, str],
    allowed: set[str],
) -> tuple[Template, Target] | None:
    """Find the end of a path below a node; `wanted` is a verb and an HTTP method, or "" for none.

    Methods that are not the wanted one, at the ends that are passed, are added to `allowed`.
    """
    found = None
    if position == len(segments):
        found = _take(node, wanted, allowed)
    else:
        segment = segments[position]
        literal = node.literals.get(segment)
        if literal is not None:
            found = _search(literal, segments, position + 1, wanted, allowed)
        if found is None and node.star is not None and segment:
            found = _search(node.star, segments, position + 1, wanted, allowed)
    if found is None and node.rest is not None:
        found = _take(node.rest, wanted, allowed)
    return found


def _take(
    node: _Node[Target], wanted: tuple[str, str], allowed: set[str]
) -> tuple[Template, Target] | None:
    verb, method = wanted
    ends = node.ends.get(verb)
    if ends is None:
        return None
    found = ends.get(method) or (ends.get(ANY_METHOD) if method else None)
    if found is None:
        allowed.update(ends)
    return found


def _bind(template: Template, raw: Sequence[str], decoded: Sequence[str]) -> dict[str, str]:
    bound = {}
    for variable in template.variables:
        end = len(raw) if variable.end is None else variable.end
        if variable.end == variable.start + 1:
            bound[variable.field_path] = decoded[variable.start]
        else:
            taken = "/".join(raw[variable.start : end])
            bound[variable.field_path] = _decode(taken, keep_slashes=True)
    return bound


def _decode(encoded: str, *, keep_slashes: bool = False) -> str:
    """Decode percent-encodings; in a value of several segments an encoded slash stays encoded."""
    if "%" not in encoded:
        return encoded
    data = encoded.encode("ascii")
    if keep_slashes:
        data = _RESERVED_SLASH.sub(lambda slash: b"%25" + slash[0][1:], data)
    try:
        text = unquote_to_bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        raise PathError("The path is not UTF-8.") from error
    if "\x00" in text:
        raise PathError("The path holds a NUL.")
    return text
