"""JSON for any message type, some of it invalid: a strategy for Hypothesis.

It has no values that only the gateway rejects, so that the gateway and google.protobuf.json_format
must agree about all of it.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

from gateway.protojson.hypothesis_messages import JSON_VALUES, TEXTS
from gateway.protojson.kinds import is_map, is_wrapper

_DEEPEST = 3
_INTEGERS: Mapping[int, tuple[int, int]] = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_NULL_TYPES = ("google.protobuf.NullValue", "google.protobuf.Value")
_NO_NUMBERS: Sequence[Any] = ("", "x", "1,5", "nan", [], {}, [1])
_NUMBERS = st.one_of(
    st.floats(-1e38, 1e38),
    st.integers(-(2**100), 2**100),
    st.sampled_from(("1.5", "-1e3", "NaN", "Infinity", "-Infinity")),
)
_SCALARS: Mapping[int, tuple[st.SearchStrategy[Any], Sequence[Any]]] = {
    FieldDescriptor.TYPE_BOOL: (st.booleans(), (0, 1, "true", "", [], {})),
    FieldDescriptor.TYPE_BYTES: (
        st.sampled_from(("", "AA", "AA==", "AAA", "-_8", "+/8=", "AAAA", "AQIDBA==")),
        (1, True, "A", "AAAAA", [], {}),
    ),
    FieldDescriptor.TYPE_DOUBLE: (_NUMBERS, _NO_NUMBERS),
    FieldDescriptor.TYPE_FLOAT: (_NUMBERS, (*_NO_NUMBERS, 3.5e38, -3.5e38)),
    FieldDescriptor.TYPE_STRING: (TEXTS, (1, 1.5, True, [], {}, ["x"])),
}
_WELL_KNOWN: Mapping[str, tuple[st.SearchStrategy[Any], Sequence[Any]]] = {
    "google.protobuf.Duration": (
        st.from_regex(r"-?[0-9]{1,6}(\.[0-9]{1,9})?s", fullmatch=True)
        | st.sampled_from(("315576000000s", "-315576000000s")),
        ("", "1", "s", "-s", "--1s", ".5s", "315576000001s", "-315576000001s", 1, [], {}),
    ),
    "google.protobuf.FieldMask": (
        st.sampled_from(("", "a", "a,bC", "aBC.d", "a,,b")),
        ("a_b", "a,b_c", 1, [], {}),
    ),
    "google.protobuf.ListValue": (
        st.lists(JSON_VALUES, max_size=3),
        ("x", 1, {}, True),
    ),
    "google.protobuf.Struct": (
        st.dictionaries(TEXTS, JSON_VALUES, max_size=3),
        ("x", 1, [], True),
    ),
    "google.protobuf.Timestamp": (
        st.from_regex(
            r"(0001|1969|2024|9999)-(01|12)-(02|30)T(00|23):00:59(\.[0-9]{1,9})?(Z|[+-]0[0-9]:30)",
            fullmatch=True,
        ),
        (
            "",
            "2020-01-01",
            "2020-13-01T00:00:00Z",
            "2020-01-01T00:00:00",
            1,
            [],
            {},
            "2020-01-01t00:00:00Z",
            "2020-02-30T00:00:00Z",
            "2020-01-01T24:00:00Z",
            "2020-01-01T00:00:00z",
            "2020-01-01 00:00:00Z",
            "10000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "2020-01-01T00:00:00.1234567890Z",
            "2020-01-01T00:00:00.Z1",
            "0000-01-01T00:00:00Z",
        ),
    ),
    "google.protobuf.Value": (JSON_VALUES.filter(lambda value: value is not None), ()),
}


def objects(kind: Descriptor) -> st.SearchStrategy[Any]:
    """Return JSON values for a message type."""
    return _message(kind, 1)


@st.composite
def _object(draw: st.DrawFn, kind: Descriptor, depth: int) -> dict[str, Any]:
    value = {}
    for field in draw(st.permutations(list(kind.fields))):
        if draw(st.integers(0, 2)) == 0:
            name = field.json_name if draw(st.booleans()) else field.name
            value[name] = draw(_field(field, depth))
    if draw(st.integers(0, 30)) == 30:
        value["unknown"] = None
    return value


@st.composite
def _field(draw: st.DrawFn, field: FieldDescriptor, depth: int) -> Any:
    if draw(st.integers(0, 9)) == 9 and not _mistakes_null(field):
        return None
    if not field.is_repeated:
        return draw(_single(field, depth))
    if draw(st.integers(0, 20)) == 20:
        return draw(st.sampled_from(("x", 1, [] if is_map(field) else {})))
    if not is_map(field):
        return draw(st.lists(_single(field, depth), max_size=3))
    entry = cast("Descriptor", field.message_type).fields_by_name
    return draw(st.dictionaries(_key(entry["key"]), _single(entry["value"], depth), max_size=3))


def _mistakes_null(field: FieldDescriptor) -> bool:
    """Return whether json_format mistakes null for a value, or for no value in a oneof."""
    kind = field.message_type or field.enum_type
    is_value = kind is not None and kind.full_name in _NULL_TYPES
    return is_value and (field.is_repeated or field.containing_oneof is not None)


def _key(field: FieldDescriptor) -> st.SearchStrategy[str]:
    if field.type == FieldDescriptor.TYPE_STRING:
        return TEXTS
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _mostly(st.sampled_from(("true", "false")), ("1", "True", ""))
    return _mostly(st.integers(*_INTEGERS[field.cpp_type]).map(str), ("", "x", "true"))


def _single(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return _message(field.message_type, depth + 1)
    if field.enum_type is not None:
        names = st.sampled_from(sorted(field.enum_type.values_by_name))
        numbers = st.sampled_from(sorted(field.enum_type.values_by_number))
        unknown = st.integers(-(2**31), 2**31 - 1)
        right = names | numbers | unknown | st.one_of(numbers, unknown).map(str)
        return _mostly(right, ("x", "", [], {}))
    if field.cpp_type in _INTEGERS:
        lowest, highest = _INTEGERS[field.cpp_type]
        numbers = st.sampled_from((lowest, highest)) | st.integers(lowest, highest)
        wrong = (lowest - 1, highest + 1, str(highest + 1), 1.5, "1.5", True, *_NO_NUMBERS)
        return _mostly(numbers | numbers.map(str), wrong)
    return _mostly(*_SCALARS[field.type])


def _message(kind: Descriptor, depth: int) -> st.SearchStrategy[Any]:
    if kind.full_name in _WELL_KNOWN:
        return _mostly(*_WELL_KNOWN[kind.full_name])
    if kind.full_name == "google.protobuf.Any":
        return _mostly(_any(kind, depth), ([], "x", {"@type": 1}, {"@type": "x/no.Such"}, {"a": 1}))
    if is_wrapper(kind):
        return _single(kind.fields_by_name["value"], depth)
    if depth > _DEEPEST:
        return st.just({})
    return _mostly(_object(kind, depth), ("x", 1, True))


@st.composite
def _any(draw: st.DrawFn, kind: Descriptor, depth: int) -> dict[str, Any]:
    pool = kind.file.pool
    name = draw(st.none() | st.sampled_from(sorted(_WELL_KNOWN)) | st.just("google.protobuf.Empty"))
    if name is None:
        return {}
    inside = draw(_message(pool.FindMessageTypeByName(name), depth + 1))
    url = f"made.example/{name}"
    return {"@type": url} if name.endswith(".Empty") else {"@type": url, "value": inside}


@st.composite
def _mostly(draw: st.DrawFn, right: st.SearchStrategy[Any], wrong: Sequence[Any]) -> Any:
    if wrong and draw(st.integers(0, 15)) == 15:
        return draw(st.sampled_from(wrong))
    return draw(right)
