"""The rules of fields (buf.validate) in JSON Schema, as far as it has words for them.

They are read by the definition of the option that the descriptor set itself brings: the gateway
enforces none of them and needs no library for them.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.openapi.values import Schema

OPTION = "buf.validate.field"

_WORDS: Final[Mapping[str, str]] = {
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
_BROKEN_BY_ZERO: Final = ("exclusiveMinimum", "minItems", "minLength", "minProperties", "minimum")
_IGNORE_IF_ZERO_VALUE: Final = 1
_IGNORE_ALWAYS: Final = 3


def of_values(field: FieldDescriptor) -> Schema:
    """Return what the rules say of each value of a field, which is that of an item or entry."""
    rules = _read(field)
    kind = _kind(rules)
    inner = {"repeated": "items", "map": "values"}.get(kind)
    return _express(getattr(getattr(rules, kind), inner) if inner else rules)


def of_number(field: FieldDescriptor) -> Schema:
    """Return what the rules say of the number of items or entries of a field."""
    rules = _read(field)
    return _express(rules) if _kind(rules) in ("repeated", "map") else {}


def _read(field: FieldDescriptor) -> Any:
    """Return the rules of a field, or None where the descriptor set does not define the option."""
    owner = cast("Descriptor", field.containing_type)
    try:
        option = owner.file.pool.FindExtensionByName(OPTION)
    except KeyError:
        return None
    made = message_factory.GetMessageClass(cast("Descriptor", option.containing_type))
    options: Any = made.FromString(field.GetOptions().SerializeToString())
    return options.Extensions[option]


def _kind(rules: Any) -> str:
    return "" if rules is None else rules.WhichOneof("type") or ""


def _express(rules: Any) -> Schema:
    kind = _kind(rules)
    # Of 64-bit integers JSON has strings, and floating-point numbers may be strings as well.
    is_expressible = kind in ("map", "repeated", "string") or kind.endswith("32")
    if not is_expressible or rules.ignore == _IGNORE_ALWAYS:
        return {}
    typed = getattr(rules, kind)
    schema = {
        _WORDS[rule.name]: list(value) if rule.is_repeated else value
        for rule, value in typed.ListFields()
        if rule.name in _WORDS
    }
    if kind == "string":
        schema |= _express_text(typed)
    if rules.ignore == _IGNORE_IF_ZERO_VALUE:
        return {word: value for word, value in schema.items() if word not in _BROKEN_BY_ZERO}
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
