import pytest

from gateway.routing.templates import Match, PathError, PathTree, TemplateError, parse_template


def tree(*rules: str) -> PathTree[str]:
    """Make a tree of rules such as "GET /v1/books/{id}"; a rule leads to its own text."""
    made: PathTree[str] = PathTree()
    for rule in rules:
        method, _, template = rule.partition(" ")
        assert made.add(method, parse_template(template), rule) is None
    return made


def found(routes: PathTree[str], request: str) -> tuple[str, dict[str, str]]:
    method, _, path = request.partition(" ")
    match = routes.find(method, path)
    assert isinstance(match, Match), match
    return match.target, dict(match.variables)


@pytest.mark.parametrize(
    ("rule", "request_line", "variables"),
    [
        ("GET /v1/books", "GET /v1/books", {}),
        ("GET /v1/books/{id}", "GET /v1/books/7", {"id": "7"}),
        ("GET /v1/books/{id}", "GET /v1/books/a%2Fb%20%C3%A9", {"id": "a/b é"}),
        ("GET /v1/books/{id}", "GET /v1/books/a:b", {"id": "a:b"}),
        ("GET /v1/books/{id}", "GET /v1/books/%61%3Aread", {"id": "a:read"}),
        ("POST /v1/books/{id}:read", "POST /v1/books/7:read", {"id": "7"}),
        ("POST /v1/books/{id}:read", "POST /v1/books/a:b:read", {"id": "a:b"}),
        ("POST /v1/books:purge", "POST /v1/books:purge", {}),
        (
            "GET /v1/{name=shelves/*/books/*}",
            "GET /v1/shelves/1/books/2",
            {"name": "shelves/1/books/2"},
        ),
        ("GET /v1/{name=shelves/*}", "GET /v1/shelves/a%2Fb%20c", {"name": "shelves/a%2Fb c"}),
        ("GET /v1/{book.name}/pages/{page}", "GET /v1/a/pages/2", {"book.name": "a", "page": "2"}),
        ("GET /v1/files/{path=**}", "GET /v1/files/a/b%2fc", {"path": "a/b%2fc"}),
        ("GET /v1/files/{path=**}", "GET /v1/files", {"path": ""}),
        ("GET /v1/files/{path=**}:stat", "GET /v1/files/a/b:stat", {"path": "a/b"}),
        ("GET /v1/*/books", "GET /v1/anything/books", {}),
        ("GET /v1/caf%C3%A9", "GET /v1/caf%c3%a9", {}),
        ("* /v1/books", "PROPFIND /v1/books", {}),
    ],
)
def test_path_binds_the_variables_of_its_template(
    rule: str, request_line: str, variables: dict[str, str]
) -> None:
    assert found(tree(rule), request_line) == (rule, variables)


@pytest.mark.parametrize(
    ("rule", "request_line"),
    [
        ("GET /v1/books", "GET /v1/books/"),
        ("GET /v1/books", "GET /v1"),
        ("GET /v1/books", "GET /V1/books"),
        ("GET /v1/books/{id}", "GET /v1/books/"),
        ("GET /v1/books/{id}", "GET /v1/books/a/b"),
        ("POST /v1/books/{id}:read", "POST /v1/books/:read"),
        ("POST /v1/books:purge", "POST /v1/books%3Apurge"),
        ("GET /v1/{name=shelves/*}", "GET /v1/shelves"),
    ],
)
def test_other_path_matches_nothing(rule: str, request_line: str) -> None:
    method, _, path = request_line.partition(" ")
    assert tree(rule).find(method, path) == frozenset()


def test_literal_wins_over_star_and_star_over_the_rest() -> None:
    rules = ("GET /v1/{rest=**}", "GET /v1/{id}", "GET /v1/mine")
    for order in (rules, rules[::-1]):
        routes = tree(*order)
        assert found(routes, "GET /v1/mine")[0] == "GET /v1/mine"
        assert found(routes, "GET /v1/other")[0] == "GET /v1/{id}"
        assert found(routes, "GET /v1/a/b")[0] == "GET /v1/{rest=**}"


def test_search_backtracks_from_a_literal() -> None:
    routes = tree("GET /v1/mine/pages", "GET /v1/{id}/covers", "DELETE /v1/mine")
    assert found(routes, "GET /v1/mine/covers") == ("GET /v1/{id}/covers", {"id": "mine"})


def test_method_is_part_of_the_match() -> None:
    routes = tree("GET /v1/{id}", "DELETE /v1/mine")
    assert found(routes, "GET /v1/mine")[0] == "GET /v1/{id}"


def test_wrong_method_lists_the_allowed_ones() -> None:
    routes = tree("GET /v1/{id}", "POST /v1/{id}", "DELETE /v1/mine", "POST /v1/{id}:read")
    assert routes.find("PUT", "/v1/mine") == frozenset({"GET", "POST", "DELETE"})


def test_wrong_method_on_a_verb_is_405() -> None:
    routes = tree("GET /v1/{id}", "POST /v1/{id}:read")
    assert routes.find("GET", "/v1/7:read") == frozenset({"POST"})


@pytest.mark.parametrize("path", ["/v1/%ff", "/v1/%00", "/v1/a%00b"])
def test_path_that_is_not_utf_8_is_refused(path: str) -> None:
    with pytest.raises(PathError):
        tree("GET /v1/{id}").find("GET", path)


@pytest.mark.parametrize(
    "template",
    [
        "",
        "v1",
        "/",
        "//",
        "/v1/",
        "/v1//a",
        "/v1/{",
        "/v1/}",
        "/v1/{}",
        "/v1/{a",
        "/v1/{a=}",
        "/v1/{a b}",
        "/v1/{1a}",
        "/v1/{a.}",
        "/v1/{a={b}}",
        "/v1/{a}{b}",
        "/v1/x{a}",
        "/v1/{a}x",
        "/v1/{a=**}/b",
        "/**/b",
        "/v1/{a=**/b}",
        "/v1/{a}/{a}",
        "/v1/a b",
        "/v1/a*",
        "/v1/:b c",
        "/v1/a:",
        "/v1/a:b:c",
        "/v1/%zz",
        "/v1?a=b",
    ],
)
def test_template_outside_of_the_grammar_is_refused(template: str) -> None:
    with pytest.raises(TemplateError):
        parse_template(template)


def test_first_of_two_templates_for_the_same_paths_keeps_them() -> None:
    routes = tree("GET /v1/{id}", "POST /v1/{name}", "GET /v1/{id}:read")
    assert routes.add("GET", parse_template("/v1/{name}"), "other") == "GET /v1/{id}"
    assert found(routes, "GET /v1/7") == ("GET /v1/{id}", {"id": "7"})
    assert routes.targets == ["GET /v1/{id}", "POST /v1/{name}", "GET /v1/{id}:read"]


def test_rule_wins_over_a_fallback() -> None:
    routes = tree("GET /v1/a", "HEAD /v1/a", "GET /v1/b")
    for path in ("/v1/a", "/v1/b"):
        routes.add_fallback("HEAD", parse_template(path), f"GET {path}")
    assert found(routes, "HEAD /v1/a") == ("HEAD /v1/a", {})
    assert found(routes, "HEAD /v1/b") == ("GET /v1/b", {})


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/a", {"GET", "POST", "*"}),
        ("/v1/7", {"POST"}),
        ("/v1/7:read", {"*"}),
        ("/v2/a", set()),
        ("/v1/a/b", set()),
    ],
)
def test_path_has_the_methods_of_all_rules_that_match(path: str, methods: set[str]) -> None:
    routes = tree("GET /v1/a", "* /v1/a", "POST /v1/{id}", "* /v1/{id}:read")
    assert routes.methods(path) == methods
