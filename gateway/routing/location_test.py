import pytest
from probe.v1 import probe_pb2

from gateway.routing.location import compile_location
from gateway.routing.parameters import ParameterError
from gateway.routing.templates import TemplateError

Nested = probe_pb2.Probe.Nested


@pytest.mark.parametrize(
    ("template", "response", "path"),
    [
        ("/v1/probes/{id}", probe_pb2.Probe(id="7"), "/v1/probes/7"),
        (
            "/v1/probes/{id}",
            probe_pb2.Probe(id="a/b?c#d é%2F:e;f"),
            "/v1/probes/a%2Fb%3Fc%23d%20%C3%A9%252F%3Ae%3Bf",
        ),
        ("/v1/probes/{int64_value}", probe_pb2.Probe(int64_value=-5), "/v1/probes/-5"),
        ("/v1/probes/{uint32Value}", probe_pb2.Probe(uint32_value=5), "/v1/probes/5"),
        (
            "/v1/a%20b/{id}/c/{nested.name}:look",
            probe_pb2.Probe(id="1", nested=Nested(name="2")),
            "/v1/a%20b/1/c/2:look",
        ),
        (
            "/v1/{id=groups/*/probes/*}",
            probe_pb2.Probe(id="groups/1/probes/a b"),
            "/v1/groups/1/probes/a%20b",
        ),
        (
            "/v1/{id=groups/*}/{nested.name=**}",
            probe_pb2.Probe(id="groups/a b", nested=Nested(name="c/d?/e")),
            "/v1/groups/a%20b/c/d%3F/e",
        ),
    ],
)
def test_location_is_filled_from_the_message(
    template: str, response: probe_pb2.Probe, path: str
) -> None:
    location = compile_location(probe_pb2.Probe.DESCRIPTOR, template)
    assert location.path(response) == path


@pytest.mark.parametrize("value", ["", ".", "..", "groups", "groups/", "shelves/1", "groups/1/2"])
def test_value_that_does_not_fit_has_no_path(value: str) -> None:
    location = compile_location(probe_pb2.Probe.DESCRIPTOR, "/v1/{id=groups/*}")
    assert location.path(probe_pb2.Probe(id=value)) is None


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_value_other_than_a_segment_has_no_path(value: str) -> None:
    """A URL cannot contain them: clients resolve dots, encoded or not (RFC 3986 §5.2.4)."""
    location = compile_location(probe_pb2.Probe.DESCRIPTOR, "/v1/probes/{id}")
    assert location.path(probe_pb2.Probe(id=value)) is None


@pytest.mark.parametrize("value", ["a//b", "a/../b", "", "/a", "a/"])
def test_rest_of_a_path_has_no_empty_segments_and_no_dots(value: str) -> None:
    location = compile_location(probe_pb2.Probe.DESCRIPTOR, "/v1/{id=**}")
    assert location.path(probe_pb2.Probe(id=value)) is None


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("v1/probes", "must begin with a slash"),
        ("/v1/probes/*", "a wildcard that no field fills"),
        ("/v1/**", "a wildcard that no field fills"),
        ("/v1/{missing}", "the variable missing of its location is not known"),
        ("/v1/{nested}", "is a message"),
        ("/v1/{tags}", "is neither a string nor an integer"),
        ("/v1/{bool_value}", "is neither a string nor an integer"),
        ("/v1/{moment}", "is neither a string nor an integer"),
        ("/v1/{kind}", "is neither a string nor an integer"),
    ],
)
def test_template_with_an_unusable_variable_is_refused(template: str, why: str) -> None:
    with pytest.raises((TemplateError, ParameterError), match=why):
        compile_location(probe_pb2.Probe.DESCRIPTOR, template)


def test_sample_matches_the_template() -> None:
    location = compile_location(probe_pb2.Probe.DESCRIPTOR, "/v1/{id=groups/*}/{text=**}:look")
    assert location.sample == "/v1/groups/~/~:look"
