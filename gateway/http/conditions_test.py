import pytest

from gateway.http.conditions import EntityTags, entity_tag, parse_entity_tags
from gateway.http.problems import Problem


@pytest.mark.parametrize(
    ("version", "tag"),
    [
        ("7", '"7"'),
        ("a-B_c.d~!#'", '"a-B_c.d~!#\'"'),
        # Quotes, which AIP-154 recommends, spaces and other than ASCII are percent-encoded.
        ('"7"', '"%227%22"'),
        ("a b", '"a%20b"'),
        ("50%", '"50%25"'),
        ("é", '"%C3%A9"'),
        ("\n", '"%0A"'),
        # A weak version becomes a weak tag, if it is well-formed.
        ('W/"7"', 'W/"7"'),
        ('W/"', '"W/%22"'),
    ],
)
def test_version_becomes_a_tag(version: str, tag: str) -> None:
    assert entity_tag(version) == tag


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("*", None),
        (" * ", None),
        ('"a"', {'"a"'}),
        ('"a", W/"b" ,"a"', {'"a"', 'W/"b"'}),
        (',, "a",,\t"b",', {'"a"', '"b"'}),
        ('"a,b", ""', {'"a,b"', '""'}),
    ],
)
def test_list_of_tags_is_parsed(value: str, tags: set[str] | None) -> None:
    assert parse_entity_tags("If-Match", value).tags == tags


@pytest.mark.parametrize(
    "value", ["", "a", "'a'", '"a', '"a" "b"', 'w/"a"', '*, "a"', '"a b"', 'W/ "a"', ","]
)
def test_malformed_tags_are_refused(value: str) -> None:
    with pytest.raises(Problem) as caught:
        parse_entity_tags("If-Match", value)
    assert (caught.value.status, caught.value.reason) == (400, "INVALID_HEADER")


@pytest.mark.parametrize(
    ("first", "second", "strongly", "weakly"),
    [
        # The table of RFC 9110 §8.8.3.2.
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', 'W/"1"', False, True),
        ('"1"', '"1"', True, True),
    ],
)
def test_strong_and_weak_comparison_follow_the_table_of_the_rfc(
    first: str, second: str, *, strongly: bool, weakly: bool
) -> None:
    tags = EntityTags(frozenset({first}))
    assert (tags.match_strongly(second), tags.match_weakly(second)) == (strongly, weakly)
