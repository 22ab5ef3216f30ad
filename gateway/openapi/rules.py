"""The rules of fields (options of buf.validate) as keywords of JSON Schema, where it has them.

The gateway enforces none of them. It reads the option by the definition in the descriptor set, so
it needs neither a library nor generated code.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.openapi.values import Schema
from gateway.upstream.descriptors import read_option

OPTION = "buf.validate.field"

_KEYWORDS: Final[Mapping[str, str]] = {
    "const": "const",
    "gt": "exclusiveMinimum",
    "gte": "minimum",
    "in": "enum",
    "lt": "exclusiveMaximum",
    "lte": "maximum",
    "max_items": "maxItems",
    "max_len": "maxLength",
    "max_pairs": "maxProperties",
    "min_items": "minItems",
    "min_len": "minLength",
    "min_pairs": "minProperties",
    "pattern": "pattern",
    "unique": "uniqueItems",
}
_FORMATS: Final = ("email", "hostname", "ipv4", "ipv6", "uri", "uuid")
_LOWER_BOUNDS: Final = ("exclusiveMinimum", "minItems", "minLength", "minProperties", "minimum")
_IGNORE_IF_ZERO_VALUE: Final = 1
_IGNORE_ALWAYS: Final = 3


def of_values(field: FieldDescriptor) -> Schema:
    """Return the keywords for a value of a field: for each, if it is repeated or a map."""
    rules = _read(field)
    kind = _kind(rules)
    inner = {"repeated": "items", "map": "values"}.get(kind)
    return _express(getattr(getattr(rules, kind), inner) if inner else rules)


def of_whole(field: FieldDescriptor) -> Schema:
    """Return the keywords for a repeated field or map as a whole."""
    rules = _read(field)
    return _express(rules) if _kind(rules) in ("repeated", "map") else {}


def _read(field: FieldDescriptor) -> Any:
    """Return the rules of a field, or None if they are ignored or the option is not defined."""
    owner = cast("Descriptor", field.containing_type)
    rules = read_option(field.GetOptions(), owner.file.pool, OPTION)
    return None if rules is None or rules.ignore == _IGNORE_ALWAYS else rules


def _kind(rules: Any) -> str:
    return "" if rules is None else rules.WhichOneof("type") or ""


def _express(rules: Any) -> Schema:
    kind = _kind(rules)
    # Of 64-bit integers JSON has strings, and floating-point numbers may be strings as well.
    if kind not in ("map", "repeated", "string") and not kind.endswith("32"):
        return {}
    typed = getattr(rules, kind)
    schema = {
        _KEYWORDS[rule.name]: list(value) if rule.is_repeated else value
        for rule, value in typed.ListFields()
        if rule.name in _KEYWORDS
    }
    if kind == "string":
        schema |= _express_text(typed)
    if rules.ignore == _IGNORE_IF_ZERO_VALUE:
        return {word: value for word, value in schema.items() if word not in _LOWER_BOUNDS}
    return schema


def _express_text(rules: Any) -> Schema:
    known = rules.WhichOneof("well_known")
    schema: Schema = {"format": known} if known in _FORMATS and getattr(rules, known) else {}
    if rules.HasField("len"):
        schema |= {"minLength": rules.len, "maxLength": rules.len}
    if len(rules.not_contains) == 1 and not rules.pattern:
        schema["pattern"] = f"^[^{_escape(rules.not_contains)}]*$"
    return schema


def _escape(character: str) -> str:
    return re.escape(character) if character.isprintable() else f"\\u{ord(character):04x}"
